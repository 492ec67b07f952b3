"""A database at this release's schema, made once in a process and copied after that."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from healthd.store import migrations
from healthd.store.database import sqlite_engine


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="healthd-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = sqlite_engine(f"sqlite:///{folder / 'healthd.db'}")
    with made.begin() as connection:
        migrations.upgrade(connection)
    made.dispose()
    return folder / "healthd.db"


def fresh_store(path: Path) -> str:
    """The URL of a database there: an empty one, or the one that an earlier life has left."""
    if not path.exists():
        shutil.copyfile(_template(), path)
    return f"sqlite:///{path}"
