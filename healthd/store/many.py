"""Many rows at once, in the driver's own way: by SQLAlchemy's a row costs more than all else that is done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, Select, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

Convert = Callable[[Any], Any] | None

AT_ONCE = 2000
"""Rows of a long result that are held at once."""


@cache
def _insertion(table: Table, columns: tuple[str, ...], dialect: Dialect) -> tuple[str, tuple[Convert, ...]]:
    """The statement in the dialect's words, and what makes each column's value the driver's."""
    processors = tuple(table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in columns)
    quote = dialect.identifier_preparer
    names, where = ", ".join(map(quote.quote, columns)), quote.format_table(table)
    if dialect.name == "postgresql":
        return f"COPY {where} ({names}) FROM STDIN", processors
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {where} ({names}) VALUES ({marks})", processors  # noqa: S608 - names of the schema


def insert_many(connection: Connection, table: Table, columns: tuple[str, ...], rows: Iterable[Sequence[Any]]) -> None:
    """Inserts rows whose values stand in the order of the columns, in the connection's transaction.

    Raises what SQLAlchemy makes of the driver's errors.
    """
    statement, processors = _insertion(table, columns, connection.dialect)
    made = (
        [
            value if convert is None or value is None else convert(value)
            for convert, value in zip(processors, row, strict=True)
        ]
        for row in rows
    )
    try:
        _put(connection, statement, made)
    except connection.dialect.loaded_dbapi.Error as error:
        kind = connection.dialect.loaded_dbapi.Error
        raise DBAPIError.instance(statement, None, error, kind, dialect=connection.dialect) from error


def _put(connection: Connection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "postgresql":
        driver.executemany(statement, rows)
        return
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


@cache
def _compiled(query: Select[Any], dialect: Dialect) -> SQLCompiler:
    return query.compile(dialect=dialect)


def read_many(connection: Connection, query: Select[Any], asked: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """A long result's rows as the driver gives them: times are numbers, and so is what is true or false.

    Only some rows are held at once. Raises the driver's own errors.
    """
    compiled = _compiled(query, connection.dialect)
    values = compiled.construct_params(dict(asked))
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        with driver.cursor(name="healthd_many") as cursor:
            cursor.execute(compiled.string, values)
            while rows := cursor.fetchmany(AT_ONCE):
                yield from rows
        return
    cursor = driver.execute(compiled.string, [values[name] for name in compiled.positiontup or ()])
    try:
        while rows := cursor.fetchmany(AT_ONCE):
            yield from rows
    finally:
        cursor.close()
