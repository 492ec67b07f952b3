"""All that a SQLite file holds, brought into an empty PostgreSQL database: in one transaction, and counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Boolean, Connection, Table, func, select, text
from sqlalchemy.exc import DBAPIError

from healthd.store import guard, migrations
from healthd.store.access import note_audit
from healthd.store.backup import STAMP, Copy, NotUsable, copy_file, examine, put_in_place, unfinished
from healthd.store.database import OPENING, StoreUnavailable, sqlite_engine
from healthd.store.postgres import OPENINGS, is_refusal, postgres_engine
from healthd.store.schema import metadata
from healthd.store.words import Id

AT_ONCE = 2_000
"""Rows that are in memory at a time."""


class NotEmpty(Exception):
    """The database that was to be filled holds something already."""


@dataclass(frozen=True, slots=True)
class Moved:
    """``rows`` are those of each table that has any; ``kept`` is the file as it was."""

    copy: Copy
    rows: dict[str, int]
    kept: Path


def move(database: Path, url: str, now: datetime, who: str, tell: Callable[[str, int], None]) -> Moved:
    """Everything in the file is in the database at ``url`` after this, and the file says to whoever opens it that it is
    no longer in use. Until the transaction's end both are as they were. ``tell`` hears of each table that is done.

    Raises ``NotUsable``, ``NotEmpty``, ``migrations.WrongSchema``, ``guard.InUse``, ``StoreUnavailable``, ``OSError``.
    """
    if not database.is_file():
        raise NotUsable(f"there is no database {database}")
    database = database.resolve()
    kept = database.with_name(f"{database.name}.before-move-{now.strftime(STAMP)}")
    with guard.alone(database), unfinished(kept) as fresh:
        found = examine(database)
        copy_file(database, fresh)
        _bring_up_to_date(fresh)
        engine = postgres_engine(url)
        try:
            with engine.connect() as connection:
                connection.info[OPENING] = OPENINGS.upgrading
                with connection.begin():
                    rows = _fill(connection, fresh, tell)
                    note_audit(connection, now, who, "move database", detail=f"from {database.name}")
                    guard.give_to_owner(fresh, database)
                    put_in_place(fresh, kept)
        except (DBAPIError, psycopg.Error) as error:
            kept.unlink(missing_ok=True)
            raise _explained(error) from error
        finally:
            engine.dispose()
        _mark(database)
    return Moved(found, rows, kept)


def _bring_up_to_date(fresh: Path) -> None:
    engine = sqlite_engine(f"sqlite:///{fresh}")
    try:
        with engine.begin() as connection:
            migrations.upgrade(connection)
    finally:
        engine.dispose()


def _explained(error: DBAPIError | psycopg.Error) -> Exception:
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    line = str(said).partition("\n")[0]
    return StoreUnavailable(line) if is_refusal(said) else NotUsable(f"PostgreSQL does not take what is there: {line}")


def _fill(connection: Connection, source: Path, tell: Callable[[str, int], None]) -> dict[str, int]:
    migrations.upgrade(connection)
    for table in metadata.sorted_tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            raise NotEmpty(f"its table {table.name} has rows already: give healthd an empty database, and move again")
    rows = {}
    with closing(sqlite3.connect(source)) as reading:
        for table in metadata.sorted_tables:
            if count := _copy_table(reading, connection, table):
                rows[table.name] = count
                tell(table.name, count)
    _go_on_counting(connection)
    connection.execute(text("ANALYZE"))  # until it knows how many rows there are, it reads tables as if they were empty
    return rows


def _copy_table(reading: sqlite3.Connection, connection: Connection, table: Table) -> int:
    """Returns how many rows it has. Raises ``NotUsable`` where they are not as many afterwards."""
    columns = [column.name for column in table.columns]
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    driver: Any = connection.connection.driver_connection
    count = 0
    with (
        driver.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), names)) as copy,
    ):
        for row in _rows(reading, table, columns):
            copy.write_row(row)
            count += 1
    arrived = connection.execute(select(func.count()).select_from(table)).scalar_one()
    if arrived != count:
        raise NotUsable(f"of {count} rows of {table.name} only {arrived} arrived")
    return count


def _rows(reading: sqlite3.Connection, table: Table, columns: list[str]) -> Iterator[list[Any]]:
    """As PostgreSQL takes them: what SQLite keeps as a number is a truth value there."""
    truths = [number for number, column in enumerate(table.columns) if isinstance(column.type, Boolean)]
    quoted = ", ".join(f'"{name}"' for name in columns)
    cursor = reading.execute(f"SELECT {quoted} FROM {table.name}")  # noqa: S608 - names of our own schema
    while found := cursor.fetchmany(AT_ONCE):
        for values in found:
            row = list(values)
            for number in truths:
                row[number] = None if row[number] is None else bool(row[number])
            yield row


def _go_on_counting(connection: Connection) -> None:
    """New rows get numbers after those that came along."""
    for table in metadata.sorted_tables:
        if (number := table.c.get("id")) is not None and number.type is Id:
            highest = select(func.max(number)).scalar_subquery()
            sequence = func.pg_get_serial_sequence(table.name, "id")
            connection.execute(select(func.setval(sequence, highest)).where(highest.is_not(None)))


def _mark(database: Path) -> None:
    """An old daemon that is started again by mistake must not tell everybody what they were told."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (migrations.MOVED,))
