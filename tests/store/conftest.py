from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from healthd.store.database import sqlite_engine
from tests.fresh_store import fresh_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file of this release, of the test's own."""
    fresh_store(tmp_path / "healthd.db")
    return tmp_path / "healthd.db"


@pytest.fixture
def connection(path: Path) -> Iterator[Connection]:
    """A transaction on it, as the writer's are."""
    engine = sqlite_engine(f"sqlite:///{path}")
    with engine.begin() as found:
        yield found
    engine.dispose()
