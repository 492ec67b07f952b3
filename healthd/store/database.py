"""The connection to SQLite: one thread that writes, one that reads, both off the event loop.

One writer makes SQLite's single-writer rule a queue of ours instead of a lock to fight over, and keeps every commit on
one connection, which is also what its WAL-reset bug (before 3.51.3) asks for: https://sqlite.org/wal.html#walresetbug
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import StaticPool

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT = 1.5
"""Seconds to wait for another process (a CLI command) that holds the write lock: a webhook that cannot be stored is to
be refused within two.
"""


class StoreUnavailable(Exception):
    """The database cannot be written or read just now: full, locked, read-only, damaged, gone. Nothing was changed."""


def sqlite_engine(url: str, *, readonly: bool = False, busy_timeout: float = BUSY_TIMEOUT) -> Engine:
    """An engine over one connection. ``BEGIN IMMEDIATE``: a transaction that reads and then writes cannot be refused
    half-way, as a deferred one can in spite of the busy timeout.
    """
    engine = create_engine(
        make_url(url),
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": busy_timeout, "isolation_level": None},
    )
    pragmas = [
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-16000",
        *(["query_only=ON"] if readonly else []),
    ]

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    begin = "BEGIN" if readonly else "BEGIN IMMEDIATE"

    # On the driver's own connection: by way of SQLAlchemy the word costs as much as all that follows it.
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(begin).close()

    return engine


class Store:
    """Runs functions of a connection, each in a transaction of its own, off the event loop."""

    def __init__(self, url: str, *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._writer = _Lane(sqlite_engine(url, busy_timeout=busy_timeout), "store-writer")
        self._reader = _Lane(sqlite_engine(url, readonly=True, busy_timeout=busy_timeout), "store-reader")
        self._browser = _Lane(sqlite_engine(url, readonly=True, busy_timeout=busy_timeout), "store-browser")

    async def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(connection, …)`` in a write transaction: committed when this returns, rolled back if it raises.

        Raises ``StoreUnavailable`` when the database refuses, and whatever ``fn`` raises.
        """
        return await self._writer.run(lambda connection: fn(connection, *args, **kwargs))

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(connection, …)`` on a connection that cannot write, beside the writer. Raises as ``run`` does."""
        return await self._reader.run(lambda connection: fn(connection, *args, **kwargs))

    async def browse(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``read``, for people who look around: a search through a million rows keeps nothing else waiting."""
        return await self._browser.run(lambda connection: fn(connection, *args, **kwargs))

    @property
    def writable(self) -> bool:
        """Whether the latest transaction that wanted to write could."""
        return self._writer.works

    async def close(self) -> None:
        """Waits for what is under way, then closes the connections."""
        await self._writer.close()
        await self._reader.close()
        await self._browser.close()


class _Lane:
    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self.works = True
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, job: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, copy_context().run, self._transact, job)

    def _transact(self, job: Callable[[Connection], T]) -> T:
        try:
            done = self._on_one_connection(job)
        except (DatabaseError, sqlite3.DatabaseError) as error:
            # Of its own class are a damaged file and one that is no database; the other kinds are mistakes of ours.
            if isinstance(error, _REFUSALS) or type(error) in _DAMAGES:
                self.works = False
                raise StoreUnavailable(_first_line(error)) from error
            raise
        self.works = True
        return done

    def _on_one_connection(self, job: Callable[[Connection], T]) -> T:
        """Keeps the connection from one transaction to the next, until something goes wrong: what is given back then
        is rolled back for certain, even where the failure was the commit's.
        """
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                return job(self._connection)
        except BaseException:
            self._give_back()
            raise

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        self._give_back()
        self._engine.dispose()


_REFUSALS = (OperationalError, sqlite3.OperationalError)
_DAMAGES = (DatabaseError, sqlite3.DatabaseError)


def _first_line(error: DatabaseError | sqlite3.DatabaseError) -> str:
    """The driver's own words: SQLAlchemy's message would carry the statement's parameters, mail addresses too."""
    cause = error.orig if isinstance(error, DatabaseError) else error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
