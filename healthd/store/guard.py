"""Who may touch the database's file: everybody who works with it at once, or one who replaces it alone.

The lock stands on a file beside the database, never on the database itself: there it would undo SQLite's own locks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy.engine import make_url


class InUse(Exception):
    """Somebody else works with the database, or is replacing it."""


def database_file(url: str) -> Path:
    """The file that a store's URL names."""
    return Path(make_url(url).database or "")


@contextmanager
def shared(database: Path) -> Iterator[None]:
    """For as long as the block runs nobody replaces the file. Raises ``InUse`` and ``OSError``."""
    with _locked(database, alone=False):
        yield


@contextmanager
def alone(database: Path) -> Iterator[None]:
    """For as long as the block runs no other process of healthd opens the file. Raises ``InUse`` and ``OSError``."""
    with _locked(database, alone=True):
        yield


@contextmanager
def _locked(database: Path, *, alone: bool) -> Iterator[None]:
    import fcntl  # noqa: PLC0415 - not there on Windows, where only the tests of the core run

    # Never deleted: two processes could hold locks on two files of that name. The kernel lets go when a process dies.
    number = os.open(database.with_name(f"{database.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(number, database.parent)
        fcntl.flock(number, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InUse(
            "healthd, or a command of it, is working with this database: stop it first"
            if alone
            else "the database is being replaced (healthd db restore): try again when that has ended"
        ) from None
    finally:
        os.close(number)


def give_to_owner(file: int | Path, of: Path) -> None:
    """What root makes belongs to whoever owns that place, or the daemon could not open it."""
    if os.geteuid() == 0:
        owner = of.stat()
        with suppress(PermissionError):  # a root without its powers, as in a container
            os.chown(file, owner.st_uid, owner.st_gid)
