"""What SQL the two databases say in different words, said once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Integer
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["Id", "Later", "upsert"]
# PostgreSQL's ``ON CONFLICT`` is what SQLite took over, so its construct compiles for both; SQLite's own does not.

Id = BigInteger().with_variant(Integer(), "sqlite")
"""Numbers that the database gives out. SQLite does so only in a column that is called INTEGER, which holds 64 bits."""


class Later(FunctionElement[Any]):
    """The later of two times. Where one may be missing, say what stands in its place: the databases differ in that."""

    name = "later"
    inherit_cache = True

    def __init__(self, one: Any, other: Any, type_: Any) -> None:
        super().__init__(one, other)
        self.type = type_


@compiles(Later, "sqlite")
def _max(element: Later, compiler: SQLCompiler, **given: Any) -> str:
    return f"max({compiler.process(element.clauses, **given)})"


@compiles(Later, "postgresql")
def _greatest(element: Later, compiler: SQLCompiler, **given: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **given)})"
