"""The command line. Heavy imports stand inside the commands: ``--help`` and ``version`` answer at once."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from healthd.config import Settings
    from healthd.store.database import Store

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_NOT_FOUND = 3

app = typer.Typer(
    name="healthd",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Keeps connected social accounts alive: finds dead grants, gets the right person to repair them.",
    epilog="Exit codes: 0 done, 1 failed, 2 the configuration or the command line is wrong, 3 not found.",
)
db = typer.Typer(no_args_is_help=True, help="Look after the database.")
app.add_typer(db, name="db")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="HEALTHD_CONFIG", help="The settings file (default: healthd.toml, if there is one)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
WorkspaceOption = Annotated[str | None, typer.Option("--workspace", "-w", help="Only this workspace.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most this many rows.")]


def main() -> None:
    app()


def _fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415

    return Console()


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def _settings(config: Path | None) -> Settings:
    """The settings, or the end of the command with every mistake in them."""
    from healthd.config import ConfigError, load  # noqa: PLC0415

    default = Path("healthd.toml")
    path = config or (default if default.exists() else None)
    try:
        return load(path)
    except ConfigError as error:
        _fail("\n".join(f"✗ {problem}" for problem in error.problems), EXIT_CONFIG)


def _quiet_logs(settings: Settings) -> None:
    """For commands whose answer is their output: only what goes wrong is logged."""
    from healthd import logs  # noqa: PLC0415
    from healthd.config import secret_values  # noqa: PLC0415

    logs.configure("warning", settings.log.format, secret_values(settings))


def _with_store(settings: Settings, work: Callable[[Store], Awaitable[T]]) -> T:
    from healthd.app import open_store  # noqa: PLC0415
    from healthd.store.database import StoreUnavailable  # noqa: PLC0415
    from healthd.store.migrations import SchemaTooNew  # noqa: PLC0415

    async def inside() -> T:
        async with open_store(settings) as store:
            return await work(store)

    try:
        return asyncio.run(inside())
    except (StoreUnavailable, SchemaTooNew) as error:
        _fail(f"✗ {settings.store.url}: {error}")


@app.command()
def run(config: Config = None) -> None:
    """Run the daemon: receive webhooks, sweep, notify, until SIGTERM."""
    from healthd import app as daemon  # noqa: PLC0415
    from healthd import logs  # noqa: PLC0415
    from healthd.config import secret_values  # noqa: PLC0415
    from healthd.store.database import StoreUnavailable  # noqa: PLC0415
    from healthd.store.migrations import SchemaTooNew  # noqa: PLC0415

    settings = _settings(config)
    logs.configure(settings.log.level, settings.log.format, secret_values(settings))
    try:
        daemon.run(settings)
    except (StoreUnavailable, SchemaTooNew, OSError) as error:
        _fail(f"✗ healthd cannot start: {error}")


@app.command("check-config")
def check_config(
    config: Config = None,
    online: Annotated[bool, typer.Option("--online", help="Also ask each API and each channel.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find every mistake in the settings at once, without touching the network unless --online."""
    settings = _settings(config)
    _quiet_logs(settings)
    from healthd import doctor  # noqa: PLC0415

    findings = doctor.offline(settings) + (asyncio.run(doctor.online(settings)) if online else [])
    if as_json:
        _print_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            typer.echo(f"{'✓' if finding.ok else '✗'} {finding.subject}: {finding.message}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def sweep(config: Config = None, workspace: WorkspaceOption = None, as_json: AsJson = False) -> None:
    """Look at every account now, and show what changed. The running daemon sends what follows from it."""
    settings = _settings(config)
    _quiet_logs(settings)
    if workspace is not None and workspace not in settings.workspaces:
        _fail(f"✗ there is no workspace {workspace!r}; there are: {', '.join(settings.workspaces)}", EXIT_NOT_FOUND)
    from healthd import by_hand  # noqa: PLC0415

    names = [workspace] if workspace else list(settings.workspaces)
    result = _with_store(settings, lambda store: by_hand.sweep(settings, store, names, show=not as_json))
    if as_json:
        _print_json(result.as_json())
    else:
        _console().print(result.table())
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

    settings = _settings(config)
    _quiet_logs(settings)
    wrong = [name for name in state or [] if name not in set(State)]
    if wrong:
        _fail(f"✗ there is no state {wrong[0]!r}; there are: {', '.join(State)}", EXIT_CONFIG)
    states = [State(name) for name in state or []]
    found = _with_store(
        settings,
        lambda store: store.read(stored.listing, workspace=workspace, states=states, platform=platform, limit=limit),
    )
    if as_json:
        _print_json([stored.as_json(one) for one in found])
    else:
        _console().print(telling.accounts_table(found))


@app.command()
def incidents(
    config: Config = None,
    workspace: WorkspaceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    limit: Limit = 200,
    as_json: AsJson = False,
) -> None:
    """List accounts that wait for a person, longest open last."""
    from healthd import telling  # noqa: PLC0415
    from healthd.store import incidents as stored  # noqa: PLC0415

    settings = _settings(config)
    _quiet_logs(settings)
    found = _with_store(
        settings,
        lambda store: store.read(stored.listing, workspace=workspace, only_open=not everything, limit=limit),
    )
    if as_json:
        _print_json([telling.incident_json(row) for row in found])
    else:
        _console().print(telling.incidents_table(found))


@app.command()
def explain(
    account: Annotated[str, typer.Argument(help="An account's id, WORKSPACE/ID, or a part of its name.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Tell an account's story: what was heard, decided, sent and clicked, and why."""
    from healthd import telling  # noqa: PLC0415
    from healthd.app import build_engine  # noqa: PLC0415

    settings = _settings(config)
    _quiet_logs(settings)
    routing = build_engine(settings)
    found = _with_store(settings, lambda store: store.read(telling.stories, account, routing))
    if not found:
        _fail(f"✗ no account is called {account!r}", EXIT_NOT_FOUND)
    if as_json:
        _print_json([story.as_json() for story in found])
        return
    if len(found) > 1:
        _console().print(telling.accounts_table([story.stored for story in found]))
        _fail("Several accounts are meant; give one's WORKSPACE/ID.", EXIT_NOT_FOUND)
    _console().print(found[0].timeline())


@app.command("notify-test")
def notify_test(
    target: Annotated[str, typer.Argument(help='Where to: a channel, or "channel:address".')],
    config: Config = None,
) -> None:
    """Send one clearly marked test message through a channel."""
    settings = _settings(config)
    _quiet_logs(settings)
    from healthd import doctor  # noqa: PLC0415

    finding = asyncio.run(doctor.send_test(settings, target))
    typer.echo(f"{'✓' if finding.ok else '✗'} {finding.subject}: {finding.message}")
    if not finding.ok:
        raise typer.Exit(EXIT_FAILED)


@db.command("upgrade")
def db_upgrade(config: Config = None) -> None:
    """Bring the database to this release's schema. The daemon does the same at its start."""
    from healthd.store import migrations  # noqa: PLC0415

    settings = _settings(config)
    _quiet_logs(settings)
    _with_store(settings, lambda store: store.read(migrations.current))
    typer.echo(f"✓ {settings.store.url} is at revision {migrations.HEAD}")


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Play the whole story without a person, and check every promise.")
    ] = False,
    host: Annotated[str, typer.Option(help="Where the demo listens.")] = "127.0.0.1",
) -> None:
    """Play the main job: a sandbox, a mail and a Slack catcher, the real daemon, and tokens that expire."""
    try:
        from healthd.demo import story  # noqa: PLC0415
    except ModuleNotFoundError as error:
        _fail(f"✗ the demo needs {error.name}: pip install 'healthd[demo]'")
    sys.exit(asyncio.run(story.play(once=once, host=host)))


@app.command()
def healthcheck(config: Config = None) -> None:
    """Ask the running daemon whether it is ready; for a container's HEALTHCHECK."""
    import http.client  # noqa: PLC0415

    from healthd.config import split_address  # noqa: PLC0415

    host, port = split_address(_settings(config).server.admin_listen)
    connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port, timeout=3)  # noqa: S104
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(200).decode("utf-8", "replace").strip()
    except OSError as error:
        _fail(f"✗ no answer from {host}:{port}: {error}")
    finally:
        connection.close()
    if answer.status != 200:
        _fail(f"✗ {text}")
    typer.echo(f"✓ {text}")


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed  # noqa: PLC0415

    typer.echo(installed("healthd"))


def _mount_sandbox() -> None:
    from healthd.sandbox.command import sandbox  # noqa: PLC0415

    app.command("sandbox")(sandbox)


_mount_sandbox()
