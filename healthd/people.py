"""Commands about people: who is told of an account and when, what is held, and what somebody has taken on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from healthd.terminal import (
    EXIT_CONFIG,
    EXIT_NOT_FOUND,
    AsJson,
    Config,
    fail,
    print_json,
    quietly,
    show,
    who,
    with_store,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from healthd.config import Settings
    from healthd.desk import Desk
    from healthd.store.accounts import StoredAccount
    from healthd.store.database import Store

T = TypeVar("T")

contacts = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="People, and what they are responsible for.")
routes = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Who is told, and when.")
storms = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Platforms whose accounts broke all at once.")
notices = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Messages that wait.")

Account = Annotated[str, typer.Argument(help="An account's id, WORKSPACE/ID, or a part of its name.")]


def add_to(app: typer.Typer) -> None:
    """Makes these commands part of the whole."""
    app.add_typer(contacts, name="contacts")
    app.add_typer(routes, name="routes")
    app.add_typer(storms, name="storms")
    app.add_typer(notices, name="notices")
    app.command()(acknowledge)
    app.command()(snooze)
    app.command()(resume)
    app.command()(mute)
    app.command()(unmute)
    app.command()(bounce)
    app.command()(preview)


@contacts.command("import")
def contacts_import(
    files: Annotated[list[Path], typer.Argument(help="CSV or JSON files of contacts, owners, or both.")],
    config: Config = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also remove what came from files before and is in none of these.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
) -> None:
    """Put contacts and owners on record.

    Whoever is broken and has nobody to tell is told right after it.
    """
    from healthd import contact_files, roster  # noqa: PLC0415
    from healthd.app import build_dispatch, utc_now  # noqa: PLC0415
    from healthd.store.access import note_audit  # noqa: PLC0415

    settings = quietly(config)
    channels = settings.address_checks()
    dispatch = build_dispatch(settings)

    def work(connection: Connection) -> tuple[list[str], set[str]]:
        changes = roster.take_in(
            connection, dispatch, content, utc_now(), channels=channels, workspaces=settings.workspaces,
            named=settings.named_contacts(), replace=replace, dry_run=dry_run,
        )  # fmt: skip
        lines = list(changes.lines())
        if lines and not dry_run:
            names = ", ".join(file.name for file in files)
            note_audit(connection, utc_now(), who(), "import contacts", names, detail=f"{len(lines)} changes")
        return lines, _on_record(connection) | {one.key for one in changes.added}

    try:
        content = [(str(file), file.read_bytes()) for file in files]
        lines, known = with_store(settings, lambda store: store.run(work))
    except OSError as error:
        fail(f"✗ {error.filename}: cannot be read: {error.strerror}")
    except contact_files.ContactFileError as error:
        fail("\n".join(f"✗ {mistake}" for mistake in error.mistakes), EXIT_CONFIG)
    for line in lines or ["= nothing changes"]:
        typer.echo(line)
    _mind_strangers(settings, known)


def _on_record(connection: Connection) -> set[str]:
    from healthd.store import contacts as stored  # noqa: PLC0415

    return {one.contact.key for one in stored.all_contacts(connection)}


def _mind_strangers(settings: Settings, known: Collection[str]) -> None:
    """A slip in a contact's key would go unnoticed: whoever comes next is told instead."""
    for key, where in settings.named_contacts().items():
        if key not in known:
            typer.echo(f"! @{key} reaches nobody: {where} names it, and there is no such contact", err=True)


@contacts.command("export")
def contacts_export(
    config: Config = None,
    what: Annotated[str, typer.Option("--what", help="contacts, owners, or json for both.")] = "contacts",
) -> None:
    """Write contacts or owners as files that `import` takes.

    They go to standard output.
    """
    import sys  # noqa: PLC0415

    from healthd import contact_files, roster  # noqa: PLC0415
    from healthd.terminal import one_of  # noqa: PLC0415

    settings = quietly(config)
    there = with_store(settings, lambda store: store.read(roster.stock))
    written = {
        "contacts": lambda: contact_files.contacts_csv(there.contacts.values()),
        "owners": lambda: contact_files.owners_csv(there.owners.values()),
        "json": lambda: contact_files.to_json(there.contacts.values(), there.owners.values()),
    }
    if what not in written:
        fail(one_of("kind of file", what, written), EXIT_CONFIG)
    sys.stdout.buffer.write(written[what]())


@contacts.command("list")
def contacts_list(config: Config = None, as_json: AsJson = False) -> None:
    """List everybody on record, where they are reached, and when."""
    from healthd import telling  # noqa: PLC0415
    from healthd.store import contacts as stored  # noqa: PLC0415

    settings = quietly(config)
    found = with_store(settings, lambda store: store.read(stored.all_contacts))
    if as_json:
        print_json([telling.contact_json(one) for one in found])
    else:
        show(telling.contacts_table(found))


@contacts.command("bounced")
def contacts_bounced(config: Config = None, as_json: AsJson = False) -> None:
    """List addresses that messages came back from.

    They are not written to any more: `healthd contacts trust` ends that.
    """
    from healthd import telling  # noqa: PLC0415
    from healthd.store import contacts as stored  # noqa: PLC0415

    settings = quietly(config)
    found = with_store(settings, lambda store: store.read(stored.all_bad))
    if as_json:
        print_json(
            [{"to": bad.target.key, "since": bad.since, "reason": bad.reason, "by": bad.source} for bad in found]
        )
    else:
        show(telling.bounced_table(found))


@contacts.command("trust")
def contacts_trust(
    target: Annotated[str, typer.Argument(help='An address as it is listed: "mail:ada@example.com".')],
    config: Config = None,
) -> None:
    """Write to an address again that messages had come back from."""
    from healthd.core.model import Target  # noqa: PLC0415
    from healthd.desk import NotThere  # noqa: PLC0415

    settings = quietly(config)
    try:
        with_store(settings, lambda store: _desk(settings, store).trust_address(Target.parse(target), who()))
    except NotThere as error:
        fail(f"✗ {error}", EXIT_NOT_FOUND)
    typer.echo(f"✓ {target} is written to again")


@routes.command("test")
def routes_test(account: Account, config: Config = None, as_json: AsJson = False) -> None:
    """Print who would be told if this account broke now.

    Also when, and by which rule. Nobody is told anything.
    """
    from healthd import telling  # noqa: PLC0415
    from healthd.app import build_engine, utc_now  # noqa: PLC0415

    settings = quietly(config)
    engine = build_engine(settings)

    def look(connection: Connection) -> tuple[list[telling.DryRun], set[str]]:
        return telling.dry_runs(connection, account, engine, utc_now()), _on_record(connection)

    found, known = with_store(settings, lambda store: store.read(look))
    if not found:
        fail(f"✗ no account is called {account!r}", EXIT_NOT_FOUND)
    _mind_strangers(settings, known)
    if as_json:
        print_json([run.as_json() for run in found])
        return
    for run in found:
        show(run.table())


@routes.command("show")
def routes_show(config: Config = None) -> None:
    """Draw the routes, and who is told where none matches."""
    from healthd import telling  # noqa: PLC0415

    settings = quietly(config)
    show(telling.routes_tree(settings.routing()))


@storms.command("list")
def storms_list(config: Config = None, as_json: AsJson = False) -> None:
    """List storms, those that last first."""
    from healthd import telling  # noqa: PLC0415
    from healthd.store import storms as stored  # noqa: PLC0415

    settings = quietly(config)
    found = with_store(settings, lambda store: store.read(stored.latest))
    if as_json:
        print_json([telling.storm_json(one) for one in found])
    else:
        show(telling.storms_table(found))


@storms.command("release")
def storms_release(
    storm: Annotated[str, typer.Argument(help="The storm's id, or WORKSPACE/PLATFORM.")], config: Config = None
) -> None:
    """End a storm: whoever still has a broken account is told now."""
    _end_storm(storm, config, cancel=False)


@storms.command("cancel")
def storms_cancel(
    storm: Annotated[str, typer.Argument(help="The storm's id, or WORKSPACE/PLATFORM.")], config: Config = None
) -> None:
    """End a storm: what was held is withdrawn."""
    _end_storm(storm, config, cancel=True)


def _end_storm(words: str, config: Path | None, *, cancel: bool) -> None:
    from healthd.store import storms as stored  # noqa: PLC0415

    settings = quietly(config)

    async def end(store: Store) -> list[str]:
        desk, ended = _desk(settings, store), []
        for one in await store.read(stored.find, words):
            touched = await desk.end_storm(one.id, who(), cancel=cancel)
            ended.append(f"✓ {one.id}: {touched} notice(s) {'withdrawn' if cancel else 'let go'}")
        return ended

    ended = with_store(settings, end)
    if not ended:
        fail(f"✗ no storm that lasts is called {words!r}", EXIT_NOT_FOUND)
    typer.echo("\n".join(ended))


def _desk(settings: Settings, store: Store) -> Desk:
    """What a person at the command line may do with the store; the running daemon does what follows from it."""
    from healthd.app import build_dispatch, utc_now  # noqa: PLC0415
    from healthd.desk import Desk  # noqa: PLC0415

    return Desk(store, build_dispatch(settings), {}, None, utc_now, lambda _: None, lambda: None)


def _with_account(
    settings: Settings, words: str, act: Callable[[Desk, int], Awaitable[T]], *, broken: bool = True
) -> tuple[str, T]:
    """Does something about the one account that is meant, of several the one that is broken. Ends the command where
    there is none, or where several are meant.
    """
    from healthd.desk import NotNow  # noqa: PLC0415

    async def inside(store: Store) -> tuple[str, T]:
        stored = await store.read(_meant, words, broken=broken)
        return _name(stored), await act(_desk(settings, store), stored.id)

    try:
        return with_store(settings, inside)
    except LookupError as error:
        fail(f"✗ {error}", EXIT_NOT_FOUND)
    except NotNow as error:
        fail(f"✗ {error}", EXIT_CONFIG)


def _meant(connection: Connection, words: str, *, broken: bool) -> StoredAccount:
    from healthd.store import accounts, incidents  # noqa: PLC0415

    found = accounts.find(connection, words)
    if not found:
        raise LookupError(f"no account is called {words!r}")
    wanted = [one for one in found if incidents.open_for(connection, one.id) is not None] if broken else found
    if not wanted:
        raise LookupError(f"{_name(found[0])} is not broken")
    if len(wanted) > 1:
        kind = "broken accounts" if broken else "accounts"
        raise LookupError(f"several {kind} are meant: {', '.join(map(_name, wanted[:10]))}")
    return wanted[0]


def _name(stored: StoredAccount) -> str:
    return f"{stored.account.workspace}/{stored.account.ref}"


@notices.command("release")
def notices_release(account: Account, config: Config = None) -> None:
    """Let go what is held of a broken account, whatever holds it."""
    name, released = _with_account(quietly(config), account, lambda desk, number: desk.release(number, who()))
    typer.echo(f"✓ {name}: {released} notice(s) let go")


def acknowledge(account: Account, config: Config = None) -> None:
    """Take a broken account on: no reminders any more.

    Nobody else is asked, either, until it is repaired, or for as long as notices.acknowledge_for says.
    """
    name, until = _with_account(quietly(config), account, lambda desk, number: desk.acknowledge(number, who()))
    typer.echo(f"✓ {name}: no reminders until {_moment(until)}, or until it is repaired")


Span = Annotated[str, typer.Argument(help="For how long, such as 8h, 2d, 1w.")]


def snooze(account: Account, span: Span, config: Config = None) -> None:
    """Send no reminders about a broken account for a while.

    Nobody else is asked meanwhile, either.
    """
    settings, end = quietly(config), _end_of(span)
    name, until = _with_account(settings, account, lambda desk, number: desk.snooze(number, end, who()))
    typer.echo(f"✓ {name}: no reminders until {_moment(until)}, or until it is repaired")


def resume(account: Account, config: Config = None) -> None:
    """Take an acknowledgement or a snooze back: reminders go on."""
    name, _ = _with_account(quietly(config), account, lambda desk, number: desk.resume(number, who()))
    typer.echo(f"✓ {name}: reminders go on")


def mute(account: Account, span: Span, config: Config = None) -> None:
    """Tell nobody of an account for a while, broken or not.

    What is still true when that ends is told then.
    """
    settings, end = quietly(config), _end_of(span)
    name, until = _with_account(settings, account, lambda desk, number: desk.mute(number, end, who()), broken=False)
    typer.echo(f"✓ {name}: nobody is told of it until {_moment(until)}")


def unmute(account: Account, config: Config = None) -> None:
    """Tell people of an account again."""
    name, _ = _with_account(quietly(config), account, lambda desk, number: desk.unmute(number, who()), broken=False)
    typer.echo(f"✓ {name}: people are told of it again")


def _end_of(span: str) -> datetime:
    from healthd.app import utc_now  # noqa: PLC0415
    from healthd.core.duration import parse_duration  # noqa: PLC0415
    from healthd.desk import LONGEST_QUIET  # noqa: PLC0415

    try:
        return utc_now() + min(parse_duration(span), LONGEST_QUIET)
    except ValueError as error:
        fail(f"✗ {error}", EXIT_CONFIG)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def bounce(config: Config = None) -> None:
    """Read a mail that came back, from standard input.

    Its address is not written to again. For a mail server's alias:
    healthd-bounces: "|healthd bounce --config /etc/healthd.toml".
    """
    import sys  # noqa: PLC0415

    from healthd.app import build_dispatch, utc_now  # noqa: PLC0415
    from healthd.bounces import Unreadable, read_stream  # noqa: PLC0415

    settings = quietly(config)
    try:
        found = read_stream(sys.stdin.buffer, utc_now())
    except Unreadable as error:
        fail(f"✗ {error}")
    dispatch, channels = build_dispatch(settings), settings.mail_channels()
    believed = with_store(settings, lambda store: store.run(dispatch.bounced, found, channels, "mail", utc_now()))
    typer.echo(f"✓ {believed} address(es) will not be written to again")


def preview(
    out: Annotated[Path, typer.Argument(help="A folder for the gallery.")] = Path("healthd-preview"),
    language: Annotated[
        list[str] | None, typer.Option("--language", "-l", help="Only in this one; may be repeated.")
    ] = None,
    templates: Annotated[Path | None, typer.Option(help="Templates of your own (notices.templates).")] = None,
) -> None:
    """Render every message in every language into files.

    A page shows them all. Needs no settings, and sends nothing.
    """
    from healthd import preview as gallery  # noqa: PLC0415
    from healthd.channels.sentences import LANGUAGES  # noqa: PLC0415
    from healthd.channels.wording import Wording  # noqa: PLC0415
    from healthd.terminal import one_of  # noqa: PLC0415

    wrong = [name for name in language or [] if name not in LANGUAGES]
    if wrong:
        fail(one_of("language", wrong[0], LANGUAGES), EXIT_CONFIG)
    if templates is not None and not templates.is_dir():
        fail(f"✗ {templates}: is no folder", EXIT_CONFIG)
    try:
        page = gallery.build(out, Wording(templates), language or list(LANGUAGES))
    except OSError as error:
        fail(f"✗ {error.filename}: cannot be written: {error.strerror}")
    typer.echo(f"✓ {page}")
