"""Commands about people: who is told of an account and when, what is held, and what somebody has taken on."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Collection
from datetime import timedelta
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
    with_store,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from healthd.config import Settings
    from healthd.dispatch import Case, Dispatch
    from healthd.store.accounts import StoredAccount
    from healthd.store.incidents import Incident

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
    app.command()(bounce)
    app.command()(preview)


def _who() -> str:
    return f"cli:{getpass.getuser()}"


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

    settings = quietly(config)
    channels = settings.address_checks()
    dispatch = build_dispatch(settings)

    def work(connection: Connection) -> tuple[list[str], set[str]]:
        changes = roster.take_in(
            connection, dispatch, content, utc_now(), channels=channels, workspaces=settings.workspaces,
            named=settings.named_contacts(), replace=replace, dry_run=dry_run,
        )  # fmt: skip
        return list(changes.lines()), _on_record(connection) | {one.key for one in changes.added}

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
    from healthd.store import contacts as stored  # noqa: PLC0415

    settings = quietly(config)
    if not with_store(settings, lambda store: store.run(stored.clear_bad, Target.parse(target))):
        fail(f"✗ {target!r} is not among those that messages come back from", EXIT_NOT_FOUND)
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
    from healthd.app import build_dispatch, utc_now  # noqa: PLC0415
    from healthd.store import storms as stored  # noqa: PLC0415

    settings = quietly(config)
    dispatch, who, now = build_dispatch(settings), _who(), utc_now()

    def end(connection: Connection) -> list[str]:
        ended = []
        for one in stored.find(connection, words):
            why = f"{'cancelled' if cancel else 'released'} by {who}"
            touched = dispatch.end_storm(connection, one, why, now, who, cancel=cancel)
            ended.append(f"✓ {one.id}: {touched} notice(s) {'withdrawn' if cancel else 'let go'}")
        return ended

    ended = with_store(settings, lambda store: store.run(end))
    if not ended:
        fail(f"✗ no storm that lasts is called {words!r}", EXIT_NOT_FOUND)
    typer.echo("\n".join(ended))


def _with_incident(settings: Settings, words: str, act: Callable[[Dispatch, Case, Incident], T]) -> tuple[str, T]:
    """Does something about the one account that is meant, and its open incident. Ends the command where there is none,
    or where several are meant.
    """
    from healthd.app import build_dispatch, utc_now  # noqa: PLC0415
    from healthd.dispatch import Case  # noqa: PLC0415
    from healthd.store import accounts, incidents  # noqa: PLC0415

    dispatch = build_dispatch(settings)

    def inside(connection: Connection) -> tuple[str, T]:
        found = {one: incidents.open_for(connection, one.id) for one in accounts.find(connection, words)}
        broken = [(one, incident) for one, incident in found.items() if incident is not None]
        if not found:
            raise LookupError(f"no account is called {words!r}")
        if not broken:
            raise LookupError(f"{_name(next(iter(found)))} is not broken")
        if len(broken) > 1:
            raise LookupError(f"several broken accounts are meant: {', '.join(_name(one) for one, _ in broken[:10])}")
        [(stored, incident)] = broken
        return _name(stored), act(dispatch, Case(connection, stored, utc_now()), incident)

    try:
        return with_store(settings, lambda store: store.run(inside))
    except LookupError as error:
        fail(f"✗ {error}", EXIT_NOT_FOUND)


def _name(stored: StoredAccount) -> str:
    return f"{stored.account.workspace}/{stored.account.ref}"


@notices.command("release")
def notices_release(account: Account, config: Config = None) -> None:
    """Let go what is held of a broken account, whatever holds it."""
    settings = quietly(config)
    name, released = _with_incident(
        settings, account, lambda dispatch, case, incident: dispatch.release(case, incident, _who())
    )
    typer.echo(f"✓ {name}: {released} notice(s) let go")


def acknowledge(account: Account, config: Config = None) -> None:
    """Take a broken account on: no reminders any more.

    Nobody else is asked, either, until it is repaired, or for as long as notices.acknowledge_for says.
    """
    settings = quietly(config)
    name, until = _with_incident(
        settings, account, lambda dispatch, case, incident: dispatch.acknowledge(case, incident, _who())
    )
    typer.echo(f"✓ {name}: no reminders until {_moment(until)}, or until it is repaired")


def snooze(
    account: Account,
    span: Annotated[str, typer.Argument(help="For how long, such as 8h, 2d, 1w.")],
    config: Config = None,
) -> None:
    """Send no reminders about a broken account for a while.

    Nobody else is asked meanwhile, either.
    """
    from healthd.app import utc_now  # noqa: PLC0415
    from healthd.core.duration import parse_duration  # noqa: PLC0415

    settings = quietly(config)
    try:
        length = parse_duration(span)
    except ValueError as error:
        fail(f"✗ {error}", EXIT_CONFIG)
    until = utc_now() + min(length, timedelta(days=365))

    def act(dispatch: Dispatch, case: Case, incident: Incident) -> bool:
        dispatch.snooze(case, incident, until, _who())
        return True

    name, _ = _with_incident(settings, account, act)
    typer.echo(f"✓ {name}: no reminders until {_moment(until)}, or until it is repaired")


def resume(account: Account, config: Config = None) -> None:
    """Take an acknowledgement or a snooze back: reminders go on."""
    settings = quietly(config)

    def act(dispatch: Dispatch, case: Case, incident: Incident) -> bool:
        dispatch.resume(case, incident, _who())
        return True

    name, _ = _with_incident(settings, account, act)
    typer.echo(f"✓ {name}: reminders go on")


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
