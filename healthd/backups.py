"""Commands that copy the database, put a copy back, and move all that is in it elsewhere."""

from __future__ import annotations

import getpass
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from healthd.terminal import EXIT_CONFIG, AsJson, Config, fail, print_json, quietly

if TYPE_CHECKING:
    from datetime import datetime

    from healthd.config import Settings
    from healthd.store.backup import Copy, Restored

Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]
Keep = Annotated[
    int, typer.Option("--keep", min=0, help="Of the copies in the folder keep the newest so many. Default: all.")
]
QuietFor = Annotated[
    str, typer.Option("--quiet-for", help="Nobody is told of any account for so long, such as 10m; 0s: at once.")
]


def add_to(db: typer.Typer) -> None:
    """Makes these commands part of ``healthd db``."""
    db.command("backup")(backup)
    db.command("restore")(restore)
    db.command("move")(move)


def backup(
    target: Annotated[str, typer.Argument(metavar="FILE", help="A new file, a folder, or - for standard output.")],
    config: Config = None,
    force: Force = False,
    keep: Keep = 0,
    as_json: AsJson = False,
) -> None:
    """Copy the database while the daemon works.

    The copy is checked, is one file, and is its owner's alone. In a folder it is named after the moment.
    """
    from healthd.app import utc_now  # noqa: PLC0415
    from healthd.store import backup as copies  # noqa: PLC0415
    from healthd.store.guard import InUse, database_file  # noqa: PLC0415

    settings = quietly(config)
    _must_be_a_file(settings)
    database = database_file(settings.store.url)
    into = Path(target)
    if keep and not into.is_dir():
        fail("✗ --keep is for a folder, where copies are named after their moment", EXIT_CONFIG)
    gone: list[Path] = []
    try:
        if target == "-":
            _to_output(database)
            return
        path = copies.dated(database, into, utc_now()) if into.is_dir() else into
        made = copies.back_up(database, path, overwrite=force)
        if keep:
            gone = copies.rotate(database, into, keep)
    except FileExistsError as error:
        fail(f"✗ {error}: --force overwrites it")
    except (copies.NotUsable, InUse, OSError) as error:
        fail(f"✗ {error}")
    if as_json:
        print_json(_as_json(made) | {"deleted": [str(one) for one in gone]})
        return
    typer.echo(f"✓ {made.path}: {_described(made, utc_now())}, checked")
    if gone:
        typer.echo(f"  {len(gone)} older deleted, {keep} kept")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A copy of the database.")],
    config: Config = None,
    quiet_for: QuietFor = "10m",
    as_json: AsJson = False,
) -> None:
    """Put a copy in the database's place.

    The daemon must be stopped. The database that stood there is kept beside it. Read docs/backup.md first: a copy knows
    nothing of what was done after it.
    """
    from healthd.app import utc_now  # noqa: PLC0415
    from healthd.core.duration import parse_duration  # noqa: PLC0415
    from healthd.store import backup as copies  # noqa: PLC0415
    from healthd.store.guard import InUse, database_file  # noqa: PLC0415
    from healthd.store.migrations import WrongSchema  # noqa: PLC0415

    settings = quietly(config)
    _must_be_a_file(settings)
    database = database_file(settings.store.url)
    try:
        quiet = parse_duration(quiet_for)
    except ValueError as error:
        fail(f"✗ --quiet-for: {error}", EXIT_CONFIG)
    now = utc_now()
    try:
        done = copies.restore(database, file, now, f"cli:{getpass.getuser()}", quiet)
    except (copies.NotUsable, InUse, WrongSchema, OSError) as error:
        fail(f"✗ {error}. Nothing was changed.".replace("..", "."))
    if as_json:
        print_json(
            _as_json(done.copy)
            | {"kept": done.kept, "doubtful": done.doubtful, "tokens": done.tokens, "quiet_until": done.quiet_until}
        )
        return
    typer.echo(f"✓ {database} is now: {_described(done.copy, now)}")
    for line in _told(done):
        typer.echo(f"  {line}")


def move(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The SQLite database that healthd worked with so far.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Bring all that a SQLite database holds into PostgreSQL.

    Stop the daemon, name the new and empty PostgreSQL database in store.url, run this, start the daemon. The file is
    kept, and refuses to be worked with. Read docs/postgresql.md first.
    """
    from healthd.app import utc_now  # noqa: PLC0415
    from healthd.store.backup import NotUsable  # noqa: PLC0415
    from healthd.store.database import StoreUnavailable  # noqa: PLC0415
    from healthd.store.guard import InUse  # noqa: PLC0415
    from healthd.store.migrations import WrongSchema  # noqa: PLC0415

    settings = quietly(config)
    if not settings.store.is_postgres:
        fail("✗ store.url names the database to fill: write postgresql://… there first", EXIT_CONFIG)
    from healthd.store.move import NotEmpty, move  # noqa: PLC0415 - its driver is an extra

    def tell(table: str, rows: int) -> None:
        if not as_json:
            typer.echo(f"  {table}: {rows:,} rows")

    try:
        done = move(file, settings.store.address, utc_now(), f"cli:{getpass.getuser()}", tell)
    except (NotUsable, InUse, WrongSchema, OSError) as error:
        fail(f"✗ {error}. Nothing was changed.".replace("..", "."))
    except (NotEmpty, StoreUnavailable) as error:
        fail(f"✗ {settings.store.url}: {error}. Nothing was changed.".replace("..", "."))
    if as_json:
        print_json(_as_json(done.copy) | {"rows": done.rows, "kept": str(done.kept)})
        return
    typer.echo(f"✓ {settings.store.url} is now: {_described(done.copy, utc_now())}; all rows counted")
    typer.echo(f"  The file as it was is kept: {done.kept}")
    typer.echo("  Start healthd now.")


def _must_be_a_file(settings: Settings) -> None:
    if settings.store.is_postgres:
        fail("✗ PostgreSQL has its own ways: pg_dump or continuous archiving; see docs/backup.md", EXIT_CONFIG)


def _to_output(database: Path) -> None:
    from healthd.store import backup as copies  # noqa: PLC0415

    if sys.stdout.isatty():
        fail("✗ a database is nothing for a terminal: send it into a pipe or a file", EXIT_CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        made = copies.back_up(database, Path(folder) / "copy.db")
        with made.path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _told(done: Restored) -> list[str]:
    lines = []
    if done.kept is not None:
        lines.append(f"What stood there is kept: {done.kept}")
    if done.doubtful:
        lines.append(
            f"{done.doubtful} message(s) that were due may have been sent meanwhile. What is still true of them goes "
            "out again, under the same identity."
        )
    if done.quiet_until is not None:
        lines.append(
            f"Nobody is told of any account until {done.quiet_until:%Y-%m-%d %H:%M:%S} UTC: sweeps correct first what "
            "has changed since."
        )
    if done.tokens:
        lines.append(
            f"{done.tokens} access token(s) are as they were then, those that were revoked since too: look at "
            "`healthd token list`. Everybody has to sign in again."
        )
    return [*lines, "Start healthd now."]


def _described(copy: Copy, now: datetime) -> str:
    from healthd.core.duration import in_words  # noqa: PLC0415

    when = "nothing on record yet"
    if copy.as_of is not None:
        when = f"the state of {copy.as_of:%Y-%m-%d %H:%M:%S} UTC ({in_words(now - copy.as_of)} ago)"
    return f"{when}, {copy.size / 1e6:.1f} MB, revision {copy.revision}"


def _as_json(copy: Copy) -> dict[str, Any]:
    return {"path": str(copy.path), "bytes": copy.size, "revision": copy.revision, "as_of": copy.as_of}
