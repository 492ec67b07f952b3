"""What was in a SQLite file is in PostgreSQL afterwards, all of it, or nothing has changed in either."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    insert,
    select,
    text,
)

from healthd.store import access, accounts, backup, guard, migrations
from healthd.store.backup import NotUsable
from healthd.store.database import sqlite_engine
from healthd.store.move import Moved, NotEmpty, move
from healthd.store.postgres import postgres_engine
from healthd.store.schema import Time, metadata
from tests import postgres
from tests.store.rows import MINUTE, NOON, add_account

ROWS = 3
AWKWARD = ["", "tab\t, line\n, back\\slash, \\N and \\.", "Zoë 🦋 \u202e"]


@pytest.fixture
def target() -> Iterator[Engine]:
    """An empty database."""
    engine = postgres_engine(postgres.server().get_uri(postgres.blank()))
    yield engine
    engine.dispose()


def value(column: Column[Any], number: int) -> Any:
    """One that no other row has, where such a one can be."""
    if column.foreign_keys:
        [key] = column.foreign_keys
        return value(key.column, number)
    match column.type:
        case Boolean():
            return number == 1
        case Time():
            return NOON + number * MINUTE if number or not column.nullable else None
        case Integer() | BigInteger():
            return number + 7
        case LargeBinary():
            return bytes([0, 92, 255, number])
    if column.primary_key or column.unique:
        return f"{column.table.name}-{number}"
    return f"{number} {AWKWARD[number]}"


def fill(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        rows = [{column.name: value(column, number) for column in table.columns} for number in range(ROWS)]
        connection.execute(insert(table), rows)


def content(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.begin() as connection:
        return {table.name: sorted(map(tuple, connection.execute(select(table))), key=repr) for table in _tables()}


def _tables() -> list[Table]:
    return [table for table in metadata.sorted_tables if table.name != "audit"]  # the move itself is in there


def moved(path: Path, target: Engine) -> Moved:
    return move(path, target.url.render_as_string(hide_password=False), NOON, "cli:ada", lambda *_: None)


@pytest.fixture
def source(path: Path) -> Iterator[Engine]:
    engine = sqlite_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def test_every_row_of_every_table_arrives_as_it_was(path: Path, source: Engine, target: Engine) -> None:
    with source.begin() as connection:
        fill(connection)
    before = content(source)
    source.dispose()
    done = moved(path, target)
    assert content(target) == before
    assert done.rows == {table.name: ROWS for table in metadata.sorted_tables}
    with target.begin() as connection:
        [last] = access.audit_of(connection, None, 1)
        assert (last.who, last.action) == ("cli:ada", "move database")


def test_what_comes_new_is_numbered_after_what_was_moved(path: Path, source: Engine, target: Engine) -> None:
    with source.begin() as connection:
        old = [add_account(connection, ref).id for ref in "12"]
    source.dispose()
    moved(path, target)
    with target.begin() as connection:
        assert add_account(connection, "3").id == max(old) + 1


def test_a_nul_that_postgresql_cannot_hold_is_replaced(path: Path, source: Engine, target: Engine) -> None:
    with source.begin() as connection:
        connection.execute(text("INSERT INTO profiles (workspace, ref, name) VALUES ('acme', '', 'a' || char(0))"))
    source.dispose()
    moved(path, target)
    with target.begin() as connection:
        assert connection.execute(text("SELECT name FROM profiles")).scalar() == "a\N{REPLACEMENT CHARACTER}"


def test_the_file_is_kept_and_nobody_works_with_it_by_mistake(path: Path, source: Engine, target: Engine) -> None:
    with source.begin() as connection:
        add_account(connection, "1")
    source.dispose()
    done = moved(path, target)
    assert done.kept.stat().st_mode & 0o777 == 0o600
    with source.begin() as connection, pytest.raises(migrations.WrongSchema, match=r"moved to PostgreSQL.*store\.url"):
        migrations.upgrade(connection)
    source.dispose()
    with pytest.raises(NotUsable, match="moved"):
        moved(path, target)
    backup.restore(path, done.kept, NOON, "cli:ada", MINUTE)
    with source.begin() as connection:
        assert migrations.upgrade(connection) == (migrations.HEAD, migrations.HEAD)
        assert accounts.find(connection, "1")


def test_a_database_of_an_older_release_is_moved_at_this_ones_schema(tmp_path: Path, target: Engine) -> None:
    old = sqlite_engine(f"sqlite:///{tmp_path / 'old.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with old.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO profiles (workspace, ref, name) VALUES ('acme', '', 'Acme')"))
    old.dispose()
    done = moved(tmp_path / "old.db", target)
    assert (done.copy.revision, done.rows["profiles"]) == ("0001", 1)
    with target.begin() as connection:
        assert migrations.current(connection) == migrations.HEAD


def untouched(path: Path, target: Engine) -> bool:
    """The file can be worked with, is the only one there, and the other database has no table of ours."""
    with target.begin() as connection:
        found = MetaData()
        found.reflect(connection)
    backup.examine(path)
    return not found.tables and not [one for one in path.parent.iterdir() if "before-move" in one.name]


def test_what_postgresql_does_not_take_leaves_both_as_they_were(path: Path, target: Engine) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:  # which looks at no foreign key
        connection.execute("INSERT INTO pauses VALUES (99, 'acme', 'pause', 1, 1, 0, NULL, NULL)")
    with pytest.raises(NotUsable, match=r"does not take what is there.*pauses"):
        moved(path, target)
    assert untouched(path, target)


def test_a_daemon_at_work_is_not_robbed(path: Path, target: Engine) -> None:
    with guard.shared(path), pytest.raises(guard.InUse, match="stop it first"):
        moved(path, target)
    assert untouched(path, target)


def test_a_database_with_anything_in_it_is_not_filled(path: Path, target: Engine) -> None:
    with target.begin() as connection:
        migrations.upgrade(connection)
        connection.execute(text("INSERT INTO profiles (workspace, ref) VALUES ('other', '')"))
    with pytest.raises(NotEmpty, match="profiles has rows already"):
        moved(path, target)
    backup.examine(path)
    assert content(target)["profiles"] == [("other", "", "", None, True, None, None, None)]
