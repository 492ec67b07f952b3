"""Copies of the database: taken while the daemon works, checked, and put back when it does not.

A copy is one file, without the write-ahead log that a living database has beside it.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from shutil import copyfile

from sqlalchemy import Connection, and_, delete, func, literal, select, text, update

from healthd.store import guard, migrations
from healthd.store.access import note_audit
from healthd.store.database import sqlite_engine
from healthd.store.schema import EPOCH, IN_WORK, Time, access_tokens, accounts, notices, sessions
from healthd.store.words import Later

PAGES = 2_000
"""In one step of a copy: some milliseconds, between which it can be interrupted."""
STAMP = "%Y%m%dT%H%M%SZ"
SIDES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, and would take for part of another one of that name."""
_TABLES = frozenset({"alembic_version", "accounts", "inbox", "notices"})
_SIGNS_OF_LIFE = (
    "SELECT max(bulk_at) FROM profiles",
    "SELECT max(inventory_at) FROM profiles",
    "SELECT max(received_at) FROM inbox",
    "SELECT recorded_at FROM history ORDER BY id DESC LIMIT 1",
    "SELECT max(at) FROM audit",
)


class NotUsable(Exception):
    """The file is no database of healthd, or a damaged one; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What a database file holds: its bytes, its schema's revision, and the newest moment on record."""

    path: Path
    size: int
    revision: str
    as_of: datetime | None


@dataclass(frozen=True, slots=True)
class Restored:
    """``kept`` is the database that stood there. ``doubtful`` notices may have been sent after the copy was taken;
    ``tokens`` are as they were then.
    """

    copy: Copy
    kept: Path | None
    doubtful: int
    tokens: int
    quiet_until: datetime | None


def back_up(database: Path, target: Path, *, overwrite: bool = False) -> Copy:
    """A checked copy of the database as it is at this moment, readable by its owner alone; the writer is not held up.

    Raises ``NotUsable``, ``FileExistsError``, ``guard.InUse``, ``OSError``.
    """
    if not database.is_file():
        raise NotUsable(f"there is no database {database}")
    database = database.resolve()
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already")
    with guard.shared(database), unfinished(target) as fresh:
        copy_file(database, fresh)
        found = examine(fresh)
        put_in_place(fresh, target)
    return Copy(target, found.size, found.revision, found.as_of)


def dated(database: Path, folder: Path, now: datetime) -> Path:
    """The name of a copy that is one of many."""
    return folder / f"{database.stem}-{now.strftime(STAMP)}.db"


def rotate(database: Path, folder: Path, keep: int) -> list[Path]:
    """Deletes all but the newest of the copies that were named by ``dated``; returns what is gone."""
    name = re.compile(rf"{re.escape(database.stem)}-\d{{8}}T\d{{6}}Z\.db")
    found = sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
    gone = found[:-keep]
    for path in gone:
        path.unlink()
    return gone


def examine(path: Path) -> Copy:
    """What is in the file. Raises ``NotUsable`` for anything but a whole database of healthd."""
    if not path.is_file():
        raise NotUsable(f"there is no file {path}")
    with _reading(path) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables >= _TABLES:
            raise NotUsable(f"{path} is no database of healthd")
        [said] = connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise NotUsable(f"{path} is damaged: {str(said).splitlines()[0]}")
        [revision] = connection.execute("SELECT version_num FROM alembic_version").fetchone() or [""]
        if revision == migrations.MOVED:
            raise NotUsable(f"what was in {path} has been moved to PostgreSQL")
        return Copy(path, path.stat().st_size, revision, _as_of(connection))


def restore(database: Path, file: Path, now: datetime, who: str, quiet: timedelta) -> Restored:
    """Puts a copy in the database's place, at this release's schema; what stood there is kept beside it. Until the last
    moment the old one is untouched.

    Raises ``NotUsable``, ``migrations.WrongSchema``, ``guard.InUse``, ``OSError``.
    """
    database = database.resolve()
    with guard.alone(database):
        found = examine(file)
        if database.exists() and database.samefile(file):
            raise NotUsable(f"{file} is the database itself")
        with unfinished(database) as fresh:
            copy_file(file, fresh)
            done = _bring_up_to_date(fresh, found, now, who, quiet)
            _one_file(fresh)
            guard.give_to_owner(fresh, database if database.exists() else database.parent)
            kept = _keep(database, database.with_name(f"{database.name}.before-restore-{now.strftime(STAMP)}"))
            put_in_place(fresh, database)
    return Restored(found, kept, *done)


def _bring_up_to_date(
    fresh: Path, found: Copy, now: datetime, who: str, quiet: timedelta
) -> tuple[int, int, datetime | None]:
    engine = sqlite_engine(f"sqlite:///{fresh}")
    try:
        with engine.begin() as connection:
            migrations.upgrade(connection)
            return _as_restored(connection, found, now, who, quiet)
    except sqlite3.Error as error:
        raise NotUsable(f"{found.path}: {error}") from error
    finally:
        engine.dispose()


def _as_restored(
    connection: Connection, found: Copy, now: datetime, who: str, quiet: timedelta
) -> tuple[int, int, datetime | None]:
    """The copy does not know what happened after it. What was due by now may have been sent: it is repeated under its
    old identity, and its reader hears of the repair in any case. Sessions that ended since must not come back.
    """
    to_somebody = and_(notices.c.channel != "", notices.c.channel.not_like("@%"))
    due = and_(text(IN_WORK), notices.c.due_at <= now, to_somebody)
    doubtful = connection.execute(update(notices).where(due).values(doubtful=True)).rowcount
    quiet_until = now + quiet if quiet else None
    if quiet_until is not None:
        muted = func.coalesce(accounts.c.muted_until, 0, type_=Time())
        later = Later(muted, literal(quiet_until, Time()), Time())
        connection.execute(update(accounts).values(muted_until=later))
    connection.execute(delete(sessions))
    tokens = connection.execute(select(func.count()).select_from(access_tokens)).scalar_one()
    note_audit(connection, now, who, "restore database", detail=f"the state of {found.as_of}" if found.as_of else "")
    return doubtful, tokens, quiet_until


def copy_file(source: Path, fresh: Path) -> None:
    """All that is in a database, which others may be writing to. It is read in one transaction: without that each of
    their commits would begin the copy anew.
    """
    with _reading(source) as reading, closing(sqlite3.connect(fresh)) as writing:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        writing.execute("PRAGMA synchronous=OFF")  # it is synced as a whole
        reading.backup(writing, pages=PAGES, sleep=0)
        reading.rollback()
    _one_file(fresh)


def _one_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").fetchone()


def _keep(database: Path, aside: Path) -> Path | None:
    """The old database gets a second name, so that there is one at every moment. What it has not yet taken in from its
    log goes along; a damaged one is kept as it is.
    """
    if not database.exists():
        _forget_sides(database)
        return None
    if aside.exists():
        raise FileExistsError(f"{aside} is there already: try again in a second")
    wal, wal_aside = (path.with_name(f"{path.name}-wal") for path in (database, aside))
    if wal.exists():  # before SQLite sees it: beside a damaged database it would delete it
        copyfile(wal, wal_aside)
        wal_aside.chmod(0o600)
    try:
        _one_file(database)
        wal_aside.unlink(missing_ok=True)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname == "SQLITE_BUSY":
            wal_aside.unlink(missing_ok=True)
            raise guard.InUse(f"another program has {database} open: stop it first") from None
    try:
        aside.hardlink_to(database)
    except OSError:  # a file system without second names
        copyfile(database, aside)
        aside.chmod(0o600)
    _forget_sides(database)
    return aside


def _forget_sides(path: Path) -> None:
    for side in SIDES:
        path.with_name(path.name + side).unlink(missing_ok=True)


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A private file beside the target, gone at the end unless it was put there."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}.part")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield fresh
    except sqlite3.Error as error:
        raise NotUsable(f"{target}: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
        _forget_sides(fresh)


def put_in_place(fresh: Path, target: Path) -> None:
    """On disk before it has the name, and the name on disk before anybody is told."""
    _sync(fresh)
    fresh.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as found:
            yield found
    except sqlite3.DatabaseError as error:
        raise NotUsable(f"{path}: {error}") from error


def _as_of(connection: sqlite3.Connection) -> datetime | None:
    """The newest moment on record: also known of copies that others made."""
    found: list[int] = []
    for query in _SIGNS_OF_LIFE:
        with suppress(sqlite3.OperationalError):  # a column that an older release does not have
            found += [row[0] for row in connection.execute(query) if row[0] is not None]
    return EPOCH + timedelta(microseconds=max(found)) if found else None
