from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from healthd.store import migrations
from healthd.store.database import sqlite_engine


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "empty.db"
    engine = sqlite_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        migrations.upgrade(connection)
    engine.dispose()
    return path


@pytest.fixture
def path(empty_database: Path, tmp_path: Path) -> Path:
    """A database file of this release, of the test's own."""
    return Path(shutil.copy(empty_database, tmp_path / "healthd.db"))


@pytest.fixture
def connection(path: Path) -> Iterator[Connection]:
    """A transaction on it, as the writer's are."""
    engine = sqlite_engine(f"sqlite:///{path}")
    with engine.begin() as found:
        yield found
    engine.dispose()
