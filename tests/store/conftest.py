from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from healthd.store.database import sqlite_engine
from healthd.store.postgres import postgres_engine
from healthd.store.schema import metadata
from healthd.store.words import Id
from tests import postgres
from tests.fresh_store import fresh_store

COUNTED = [table.name for table in metadata.tables.values() if table.c.get("id") is not None and table.c.id.type is Id]
FROM_ONE = "SELECT " + ", ".join(f"setval('{table}_id_seq', 1, false)" for table in COUNTED)
"""Each test's rows are numbered from one: no rollback takes numbers back."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A SQLite file of this release, of the test's own."""
    fresh_store(tmp_path / "healthd.db")
    return tmp_path / "healthd.db"


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[Engine]:
    """A PostgreSQL database of this release, in which no test leaves anything."""
    engine = postgres_engine(postgres.server().get_uri(postgres.template()))
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A transaction as the writer's are, on each kind of database."""
    if request.param == "sqlite":
        engine = sqlite_engine(f"sqlite:///{request.getfixturevalue('path')}")
        with engine.begin() as found:
            yield found
        engine.dispose()
        return
    database: Engine = request.getfixturevalue("postgres_database")
    with database.connect() as found, found.begin() as transaction:
        found.execute(text(FROM_ONE))
        yield found
        transaction.rollback()
