"""Statements for SQLite are compiled once in a process of the tests, and not once for each engine: most tests open
engines of their own, and compiling takes longer than what they execute.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

_STATEMENTS: LRUCache[Any, Any] = LRUCache(2000)


def share_among_engines() -> None:
    """From now on. What SQLAlchemy keeps, it keeps by the dialect: those of SQLite are all the same here."""
    SQLiteDialect_pysqlite.engine_created = _share  # type: ignore[method-assign]
    SQLiteDialect_pysqlite.__eq__ = _of_one_kind  # type: ignore[method-assign, assignment]
    SQLiteDialect_pysqlite.__hash__ = _of_its_kind  # type: ignore[method-assign, assignment]


def _share(engine: Engine) -> None:
    engine._compiled_cache = _STATEMENTS


def _of_one_kind(one: SQLiteDialect_pysqlite, other: object) -> bool:
    return type(one) is type(other)


def _of_its_kind(one: SQLiteDialect_pysqlite) -> int:
    return hash(type(one))
