"""PostgreSQL: connections that notice when the other side is gone, turns, and words between processes.

What SQLite gives by having one writer, turns give here. A transaction that changes a workspace holds that workspace's
turn, and one that may change anything holds the turn of all; both are advisory locks that end with the transaction.
Each statement sees what was committed before it began (READ COMMITTED), so whoever gets a turn sees all that those
before it have done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection, Engine, bindparam, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool, PoolProxiedConnection

from healthd.store.database import OPENING, Openings, StoreUnavailable, begin_by

CONNECT_WITHIN = 5
"""Seconds."""
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
"""A server that is gone without a word is noticed within half a minute (seconds, and milliseconds)."""
STUCK_AFTER = 15
"""Seconds after which the server ends a transaction in which nothing happens: its process was stopped or is gone, and
the turn that it holds is somebody else's.
"""
LONGEST_STATEMENT = 120
"""Seconds."""
CHANNEL = "healthd"
WRITING = "BEGIN"
GONE = frozenset(
    {
        "25006",  # read_only_sql_transaction: a primary that has become a standby
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
    }
)
"""States of errors that are no OperationalError and mean all the same that the database cannot be written now."""


def parsed(url: str) -> URL:
    """The URL with the driver that is used here."""
    _, _, rest = url.partition(":")
    return make_url(f"postgresql+psycopg:{rest}")


def postgres_engine(url: str, name: str = "healthd") -> Engine:
    """An engine whose transactions begin as their connection was told (``OPENING``), or as ``WRITING``."""
    engine = create_engine(
        parsed(url),
        poolclass=NullPool,
        connect_args={
            "autocommit": True,  # transactions begin by our own word, which takes the turn along
            "connect_timeout": CONNECT_WITHIN,
            "application_name": name,
            **KEEPALIVE,
        },
        # How many rows a statement touched is asked after its cursor is gone.
        execution_options={"preserve_rowcount": True},
        use_native_hstore=False,  # asked of the server at each connection, and used nowhere
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.execute(_CONFIGURE)
        connection.adapters.register_dumper(str, _WithoutNul)

    def begin(connection: PoolProxiedConnection) -> None:
        driver: Any = connection.driver_connection
        driver.execute(connection.info.get(OPENING, WRITING))

    begin_by(engine, begin)
    return engine


class _WithoutNul(StrDumperUnknown):
    """PostgreSQL's texts hold no NUL, which SQLite's do: whoever sends one, in a link or a search, finds nothing."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in obj else obj)


_CONFIGURE = f"""
SET idle_in_transaction_session_timeout = '{STUCK_AFTER}s';
SET statement_timeout = '{LONGEST_STATEMENT}s';
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
"""Whatever the server's own defaults are: what is committed is on disk."""


def _key(name: str) -> int:
    """The number of a turn, of 64 bits: PostgreSQL knows no names of locks."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"healthd").digest()
    return int.from_bytes(digest, "big", signed=True)


_WHOLE = _key("")


class _Turns(Openings):
    def within(self, workspace: str) -> str:
        shared, own = f"pg_advisory_xact_lock_shared({_WHOLE})", f"pg_advisory_xact_lock({_key(workspace)})"
        return f"BEGIN; SELECT {shared}, {own}"


OPENINGS = _Turns(
    whole=f"BEGIN; SELECT pg_advisory_xact_lock({_WHOLE})",
    writing=WRITING,
    # Several queries of one reading see one moment.
    reading="BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    # A change of the schema may take its time, and so may the wait for somebody else's.
    upgrading=f"BEGIN; SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({_WHOLE})",
)


def is_refusal(error: BaseException) -> bool:
    """Whether the database could not just now, rather than that we asked for nonsense."""
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return True
    return isinstance(error, psycopg.Error) and error.sqlstate in GONE


async def listen(url: str, ready: Callable[[], None], heard: Callable[[str], None]) -> None:
    """Tells ``heard`` what any process says through ``say``, from ``ready`` on and until the connection is lost.

    Raises ``StoreUnavailable`` then.
    """
    args, kwargs = create_engine(parsed(url)).dialect.create_connect_args(parsed(url))
    settings = {**kwargs, **KEEPALIVE, "connect_timeout": CONNECT_WITHIN, "application_name": "healthd-listener"}
    try:
        connection = await psycopg.AsyncConnection.connect(*args, autocommit=True, **settings)
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            ready()
            async for word in connection.notifies():
                heard(word.payload)
    except psycopg.Error as error:
        raise StoreUnavailable(str(error).partition("\n")[0]) from error
    raise StoreUnavailable("the connection that listens was closed")


_SAY = select(func.pg_notify(CHANNEL, bindparam("payload")))


def say(connection: Connection, payload: str) -> None:
    """What those who listen hear once this is committed."""
    connection.execute(_SAY, {"payload": payload})


def clock(connection: Connection) -> datetime:
    """The database's time, now and not when the transaction began."""
    found: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return found.astimezone(UTC)
