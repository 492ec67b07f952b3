"""The command line. Heavy imports stand inside the commands: ``--help`` and ``version`` answer at once."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Annotated

import typer

from healthd import backups, hooks_command, people, tokens, wizard
from healthd.terminal import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    AsJson,
    Config,
    Limit,
    WorkspaceOption,
    fail,
    one_of,
    print_json,
    quiet_logs,
    quietly,
    read_settings,
    settings_file,
    show,
    with_store,
)

app = typer.Typer(
    name="healthd",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Keeps connected social accounts alive: finds dead grants, gets the right person to repair them.",
    epilog="Exit codes: 0 done, 1 failed, 2 the configuration or the command line is wrong, 3 not found.",
)
db = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look after the database.")
app.add_typer(db, name="db")
backups.add_to(db)
people.add_to(app)
tokens.add_to(app)
hooks_command.add_to(app)
wizard.add_to(app)


def main() -> None:
    app()


@app.command()
def run(config: Config = None) -> None:
    """Run the daemon until SIGTERM.

    It receives webhooks, looks at every account, tells the right people, and shows all of it to Prometheus.
    """
    import structlog  # noqa: PLC0415

    gc.disable()  # there is no garbage among modules, and looking for it takes a tenth of the start
    from healthd import app as daemon  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    from healthd import logs  # noqa: PLC0415
    from healthd.config import secret_values  # noqa: PLC0415
    from healthd.store.database import StoreUnavailable  # noqa: PLC0415
    from healthd.store.migrations import WrongSchema  # noqa: PLC0415

    settings = read_settings(config)
    logs.configure(settings.log.level, settings.log.format, secret_values(settings))
    try:
        daemon.run(settings)
    except (StoreUnavailable, WrongSchema, OSError) as error:
        fail(f"✗ healthd cannot start: {error}")
    except Exception:  # noqa: BLE001 - Python's own traceback would show what the log masks
        structlog.get_logger("healthd").critical("healthd.crashed", exc_info=True)
        raise typer.Exit(EXIT_FAILED) from None


@app.command("check-config")
def check_config(
    config: Config = None,
    online: Annotated[bool, typer.Option("--online", help="Also ask each API and each channel.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find every mistake in the settings at once.

    The network is not touched, unless --online also asks each API what its key may do, and each channel whether it
    answers. Nobody is told anything.
    """
    from healthd import doctor  # noqa: PLC0415
    from healthd.config import ConfigError, load  # noqa: PLC0415

    code = EXIT_FAILED
    try:
        settings = load(settings_file(config))
    except ConfigError as error:
        if not as_json:
            fail("\n".join(f"✗ {problem}" for problem in error.problems), EXIT_CONFIG)
        findings, code = [doctor.mistake(problem) for problem in error.problems], EXIT_CONFIG
    else:
        quiet_logs(settings)
        findings = doctor.offline(settings) + (asyncio.run(doctor.online(settings)) if online else [])
    if as_json:
        print_json([finding.as_json() for finding in findings])
    else:
        typer.echo("\n".join(map(str, findings)))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(code)


@app.command()
def sweep(config: Config = None, workspace: WorkspaceOption = None, as_json: AsJson = False) -> None:
    """Look at every account now, and show what changed.

    The running daemon sends the messages that follow from it.
    """
    settings = quietly(config)
    if workspace is not None and workspace not in settings.workspaces:
        fail(one_of("workspace", workspace, settings.workspaces), EXIT_NOT_FOUND)
    from healthd import by_hand  # noqa: PLC0415

    names = [workspace] if workspace else list(settings.workspaces)
    result = with_store(settings, lambda store: by_hand.sweep(settings, store, names, show=not as_json))
    if as_json:
        print_json(result.as_json())
    else:
        show(result.shown())
    for name, reason in result.failures.items():
        typer.echo(f"✗ {name}: {reason}", err=True)
    if result.failures:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def accounts(
    config: Config = None,
    workspace: WorkspaceOption = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", "-s", help="Only in this state; may be repeated.")
    ] = None,
    platform: Annotated[str | None, typer.Option("--platform", "-p", help="Only on this platform.")] = None,
    limit: Limit = 200,
    as_json: AsJson = False,
) -> None:
    """List accounts and what healthd believes of them."""
    from healthd import telling  # noqa: PLC0415
    from healthd.core.model import State  # noqa: PLC0415
    from healthd.store import accounts as stored  # noqa: PLC0415

    settings = quietly(config)
    wrong = [name for name in state or [] if name not in set(State)]
    if wrong:
        fail(one_of("state", wrong[0], State), EXIT_CONFIG)
    states = [State(name) for name in state or []]
    found = with_store(
        settings,
        lambda store: store.read(stored.listing, workspace=workspace, states=states, platform=platform, limit=limit),
    )
    if not found and workspace is not None and workspace not in settings.workspaces:
        fail(one_of("workspace", workspace, settings.workspaces), EXIT_NOT_FOUND)
    if as_json:
        print_json([stored.as_json(one) for one in found])
    else:
        show(telling.accounts_table(found))
        _mind_the_limit(len(found), limit)


@app.command()
def incidents(
    config: Config = None,
    workspace: WorkspaceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    limit: Limit = 200,
    as_json: AsJson = False,
) -> None:
    """List accounts that wait for a person.

    The newest case comes first.
    """
    from healthd import telling  # noqa: PLC0415
    from healthd.store import incidents as stored  # noqa: PLC0415

    settings = quietly(config)
    found = with_store(
        settings,
        lambda store: store.read(stored.listing, workspace=workspace, only_open=not everything, limit=limit),
    )
    if not found and workspace is not None and workspace not in settings.workspaces:
        fail(one_of("workspace", workspace, settings.workspaces), EXIT_NOT_FOUND)
    if as_json:
        print_json([telling.incident_json(row) for row in found])
    else:
        show(telling.incidents_table(found))
        _mind_the_limit(len(found), limit)


def _mind_the_limit(shown: int, limit: int) -> None:
    if shown == limit:
        typer.echo(f"The first {limit}; there may be more: --limit shows them.", err=True)


@app.command()
def explain(
    account: Annotated[str, typer.Argument(help="An account's id, WORKSPACE/ID, or a part of its name.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Tell an account's story, and why it went so.

    What was heard of it, what was decided, who was told, and who pressed the button.
    """
    from healthd import telling  # noqa: PLC0415
    from healthd.app import build_engine, utc_now  # noqa: PLC0415

    settings = quietly(config)
    routing = build_engine(settings)
    found = with_store(settings, lambda store: store.read(telling.stories, account, routing, utc_now()))
    if not found:
        fail(f"✗ no account is called {account!r}", EXIT_NOT_FOUND)
    if as_json:
        print_json([story.as_json() for story in found])
        return
    if len(found) > 1:
        show(telling.accounts_table([story.stored for story in found]))
        fail("Several accounts are meant; give one's WORKSPACE/ID.", EXIT_NOT_FOUND)
    show(found[0].timeline())


@app.command("notify-test")
def notify_test(
    target: Annotated[str, typer.Argument(help='Where to: a channel, or "channel:address".')],
    config: Config = None,
) -> None:
    """Send one clearly marked test message through a channel."""
    settings = quietly(config)
    from healthd import doctor  # noqa: PLC0415

    finding = asyncio.run(doctor.send_test(settings, target))
    typer.echo(str(finding))
    if not finding.ok:
        raise typer.Exit(EXIT_FAILED)


@db.command("upgrade")
def db_upgrade(config: Config = None) -> None:
    """Bring the database to this release's schema.

    The daemon does the same at its start.
    """
    from healthd.app import guarded  # noqa: PLC0415
    from healthd.store import migrations  # noqa: PLC0415
    from healthd.store.database import Store, StoreUnavailable  # noqa: PLC0415

    settings = quietly(config)

    async def upgrade() -> tuple[str | None, str]:
        store = Store(settings.store.address)
        try:
            return await store.upgrade()
        finally:
            await store.close()

    try:
        with guarded(settings.store.url):
            before, after = asyncio.run(upgrade())
    except (StoreUnavailable, migrations.WrongSchema) as error:
        fail(f"✗ {settings.store.url}: {error}")
    if before == after:
        typer.echo(f"✓ {settings.store.url}: already at revision {after}, nothing to do")
    else:
        typer.echo(f"✓ {settings.store.url}: from {f'revision {before}' if before else 'empty'} to revision {after}")


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Play the whole story without a person, and check every promise.")
    ] = False,
    host: Annotated[str, typer.Option(help="Where the demo listens.")] = "127.0.0.1",
) -> None:
    """Play the main job from end to end.

    It starts a sandbox, a mail and a Slack catcher and the real daemon, and lets tokens expire.
    """
    try:
        from healthd.demo import story  # noqa: PLC0415
    except ModuleNotFoundError as error:
        fail(f"✗ the demo needs {error.name}: pip install 'healthd[demo]'")
    sys.exit(asyncio.run(story.play(once=once, host=host)))


@app.command()
def healthcheck(config: Config = None) -> None:
    """Ask the running daemon whether it is ready.

    For a container's HEALTHCHECK.
    """
    import http.client  # noqa: PLC0415

    from healthd.config import split_address  # noqa: PLC0415

    host, port = split_address(read_settings(config).server.admin_listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - to ask, not to listen
    connection = http.client.HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(200).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        fail(f"✗ no answer from {host}:{port}: {error}")
    finally:
        connection.close()
    if answer.status != 200:
        fail(f"✗ {text}")
    typer.echo(f"✓ {text}")


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed  # noqa: PLC0415

    typer.echo(installed("healthd"))


@app.command(
    "sandbox",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def sandbox(context: typer.Context) -> None:
    """Run a SmartlyQ on this machine.

    The same API, and accounts that break when you say so.
    """
    from healthd.sandbox.command import sandbox as serve  # noqa: PLC0415

    # The sandbox shares no code with the daemon, and describes its own options.
    own = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    own.command()(serve)
    own(context.args, prog_name="healthd sandbox")
