"""The connection to the database: functions of a connection, run in threads, each in a transaction of its own.

SQLite has one thread that writes: its single-writer rule is a queue of ours then instead of a lock to fight over, and
every commit is on one connection, which is also what its WAL-reset bug (before 3.51.3) asks for:
https://sqlite.org/wal.html#walresetbug

PostgreSQL has several, in this process and in others. There a transaction says whose turn it takes: ``run`` that of
everybody, ``within`` one workspace's, ``alongside`` none.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection, StaticPool

from healthd.store import migrations

if TYPE_CHECKING:
    from types import ModuleType

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT = 1.5
"""Seconds to wait for another process (a CLI command) that holds the write lock: a webhook that cannot be stored is to
be refused within two.
"""
WRITERS, APPENDERS, READERS = 4, 2, 2
"""Connections of one process to PostgreSQL, beside one for people who look around and one that listens. Of those that
wait for the same turn in one process only the first takes up one.
"""
OPENING = "healthd_opening"
"""Under which a connection to PostgreSQL is told how its next transaction begins."""


_Job = tuple[Future[Any], Callable[[], Any]]
"""Who waits for it, and what is to be done."""


class StoreUnavailable(Exception):
    """The database cannot be written or read just now: full, locked, read-only, damaged, gone. Nothing was changed, or,
    where the connection was lost during the commit, nobody can know.
    """


def is_postgres(url: str) -> bool:
    """Whether a store's URL names a PostgreSQL database."""
    return url.startswith(("postgresql:", "postgresql+psycopg:", "postgres:"))


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
        f"cache_size={-2000 if readonly else -8000}",
        *(["query_only=ON"] if readonly else []),
    ]

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    opening = "BEGIN" if readonly else "BEGIN IMMEDIATE"

    def begin(connection: PoolProxiedConnection) -> None:
        driver: Any = connection.driver_connection
        driver.execute(opening).close()

    begin_by(engine, begin)
    return engine


def begin_by(engine: Engine, begin: Callable[[PoolProxiedConnection], None]) -> None:
    """Transactions of this engine begin by a word of ours, on the driver's own connection.

    Not as a listener to the engine's events: where there is one, SQLAlchemy looks for others at each statement, which
    is a fifth of what a short transaction costs.
    """
    engine.dialect.do_begin = begin  # type: ignore[assignment, method-assign]


@dataclass(frozen=True, slots=True)
class Openings:
    """How transactions begin, where that says whose turn they take."""

    whole: str | None = None
    writing: str | None = None
    reading: str | None = None
    upgrading: str | None = None

    def within(self, workspace: str) -> str | None:
        """For one that changes this workspace alone."""
        return None


class Store:
    """Runs functions of a connection, each in a transaction of its own, off the event loop."""

    def __init__(self, url: str, *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self.url = url
        self._postgres = _postgres(url)
        self._openings: Openings = Openings() if self._postgres is None else self._postgres.OPENINGS
        self._waiting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        if self._postgres is None:
            self._writer = _Lane(sqlite_engine(url, busy_timeout=busy_timeout), "store-writer", _is_sqlite_refusal)
            self._appender = self._writer
            self._reader, self._browser = (
                _Lane(sqlite_engine(url, readonly=True, busy_timeout=busy_timeout), name, _is_sqlite_refusal)
                for name in ("store-reader", "store-browser")
            )
        else:
            lanes = {"writer": WRITERS, "appender": APPENDERS, "reader": READERS, "browser": 1}
            self._writer, self._appender, self._reader, self._browser = (
                _Lane(self._postgres.postgres_engine(url), f"store-{name}", self._postgres.is_refusal, threads)
                for name, threads in lanes.items()
            )

    @property
    def shared(self) -> bool:
        """Whether other daemons may work with the same store at the same time."""
        return self._postgres is not None

    async def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(connection, …)`` in a write transaction beside which no other one changes any workspace: committed when
        this returns, rolled back if it raises.

        Raises ``StoreUnavailable`` when the database refuses, and whatever ``fn`` raises.
        """
        turn = Turn(self, self._writer, self._waiting[""], self._openings.whole)
        return await self._write(turn, fn, *args, **kwargs)

    def within(self, workspace: str) -> Turn:
        """For transactions that change one workspace alone: as ``run``, and beside those of other workspaces."""
        opening = self._openings.within(workspace)
        return Turn(self, self._writer, self._waiting[workspace], opening)

    async def alongside(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``run``, and waits for nobody's turn: for what each statement by itself leaves right. Where there is one
        thread that writes, it goes before all that waits for it: a webhook has two seconds.
        """
        turn = Turn(self, self._appender, None, self._openings.writing, first=True)
        return await self._write(turn, fn, *args, **kwargs)

    async def upgrade(self) -> tuple[str | None, str]:
        """Brings the schema to this release's: see ``migrations.upgrade``. Of several processes one does, and the
        others wait for it.
        """
        opening = self._openings.upgrading
        return await self._write(Turn(self, self._writer, None, opening), migrations.upgrade)

    async def _write(
        self, turn: Turn, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Each transaction that writes goes through here."""
        async with turn.waiting if self.shared and turn.waiting else nullcontext():
            return await turn.lane.run(lambda connection: fn(connection, *args, **kwargs), turn.opening, turn.first)

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(connection, …)`` on a connection that cannot write, beside the writer. Raises as ``run`` does."""
        reading = self._openings.reading
        return await self._reader.run(lambda connection: fn(connection, *args, **kwargs), reading)

    async def browse(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``read``, for people who look around: a search through a million rows keeps nothing else waiting."""
        reading = self._openings.reading
        return await self._browser.run(lambda connection: fn(connection, *args, **kwargs), reading)

    async def say(self, payload: str) -> None:
        """Other processes that ``listen`` to the same store hear it, if there can be any."""
        if self._postgres is not None:
            await self.alongside(self._postgres.say, payload)

    async def listen(self, ready: Callable[[], None], heard: Callable[[str], None]) -> None:
        """See ``postgres.listen``; a store that is not ``shared`` has nobody to listen to."""
        if self._postgres is not None:
            await self._postgres.listen(self.url, ready, heard)

    async def clock(self) -> datetime:
        """The time that all who share the store agree on. Raises ``StoreUnavailable``."""
        if self._postgres is None:
            return datetime.now(UTC)
        found: datetime = await self.read(self._postgres.clock)
        return found

    @property
    def writable(self) -> bool:
        """Whether the latest transaction that wanted to write could."""
        return self._writer.works and self._appender.works

    async def close(self) -> None:
        """Waits for what is under way, then closes the connections."""
        for lane in (self._writer, self._appender, self._reader, self._browser):
            await lane.close()


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody's turn to be changed. ``waiting``: of those in this process who want it, only one asks the database."""

    store: Store
    lane: _Lane
    waiting: asyncio.Lock | None
    opening: str | None
    first: bool = False

    async def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(connection, …)`` in a write transaction. Raises as ``Store.run`` does."""
        return await self.store._write(self, fn, *args, **kwargs)  # noqa: SLF001 - one thing in two classes


class _Lane:
    """Threads, each with a connection while it works; with one thread also a queue."""

    def __init__(
        self, engine: Engine, name: str, is_refusal: Callable[[BaseException], bool], threads: int = 1
    ) -> None:
        self._engine = engine
        self._is_refusal = is_refusal
        self._idle: list[Connection] = []
        self._first: deque[_Job] = deque()
        self._others: deque[_Job] = deque()
        self._taking = threading.Lock()
        self.works = True
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, job: Callable[[Connection], T], opening: str | None = None, first: bool = False) -> T:
        """``first``: before all those that wait and are not."""
        done: Future[T] = Future()
        (self._first if first else self._others).append(
            (done, partial(copy_context().run, self._transact, job, opening))
        )
        asyncio.get_running_loop().run_in_executor(self._threads, self._next)
        return await asyncio.wrap_future(done)

    def _next(self) -> None:
        """Does one of the jobs that wait; there is a call for each."""
        with self._taking:
            done, job = (self._first or self._others).popleft()
        if not done.set_running_or_notify_cancel():
            return
        try:
            done.set_result(job())
        except BaseException as error:  # noqa: BLE001 - it is for whoever waits
            done.set_exception(error)

    def _transact(self, job: Callable[[Connection], T], opening: str | None) -> T:
        try:
            done = self._on_one_connection(job, opening)
        except Exception as error:
            said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            if self._is_refusal(said):
                self.works = False
                raise StoreUnavailable(_first_line(said)) from error
            raise
        self.works = True
        return done

    def _on_one_connection(self, job: Callable[[Connection], T], opening: str | None) -> T:
        """Keeps the connection from one transaction to the next, until something goes wrong: what is given back then
        is rolled back for certain, even where the failure was the commit's.
        """
        connection = self._idle.pop() if self._idle else self._engine.connect()
        try:
            if opening is not None:
                connection.info[OPENING] = opening
            with connection.begin():
                done = job(connection)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return done

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        while self._idle:
            self._idle.pop().close()
        self._engine.dispose()


def _postgres(url: str) -> ModuleType | None:
    """What knows PostgreSQL, where the URL names one: its driver is an extra, and takes its time to load."""
    if not is_postgres(url):
        return None
    from healthd.store import postgres  # noqa: PLC0415

    return postgres


def _is_sqlite_refusal(error: BaseException) -> bool:
    """Of its own class are a damaged file and one that is no database; the other kinds are mistakes of ours."""
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def _first_line(said: BaseException) -> str:
    """The driver's own words: SQLAlchemy's message would carry the statement's parameters, mail addresses too."""
    return str(said).splitlines()[0] if str(said) else type(said).__name__
