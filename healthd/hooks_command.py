"""``healthd webhook``: the provider's webhook, registered, looked at, tested, given a new secret, repaired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from healthd.terminal import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    AsJson,
    Config,
    WorkspaceOption,
    fail,
    one_of,
    print_json,
    quietly,
    show,
    who,
    with_store,
)

if TYPE_CHECKING:
    from healthd.config import Settings
    from healthd.hooks_by_hand import Hooks, Status
    from healthd.providers.base import NewSubscription
    from healthd.store.database import Store

T = TypeVar("T")

webhook = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The webhook that the provider calls.")

WriteSecret = Annotated[
    Path | None,
    typer.Option("--write-secret", help="Put the secret into this new file (mode 0600) instead of showing it."),
]


def add_to(app: typer.Typer) -> None:
    """Makes these commands part of the whole."""
    app.add_typer(webhook, name="webhook")


@webhook.command()
def register(
    config: Config = None, workspace: WorkspaceOption = None, write_secret: WriteSecret = None, as_json: AsJson = False
) -> None:
    """Make the webhook.

    Its secret is shown once: it belongs into the workspace's webhook_secrets.
    """
    from healthd import hooks_by_hand  # noqa: PLC0415

    settings = quietly(config)
    name = _workspace(settings, workspace)
    made = _with_secret(settings, name, write_secret, hooks_by_hand.register, "webhook.register")
    _tell_secret(name, made, write_secret, as_json=as_json)


@webhook.command()
def status(config: Config = None, workspace: WorkspaceOption = None, as_json: AsJson = False) -> None:
    """Show the webhook, and what is wrong with it.

    Also what could not be delivered.
    """
    from healthd import hooks_by_hand  # noqa: PLC0415

    settings = quietly(config)
    names = [_workspace(settings, workspace)] if workspace else list(settings.workspaces)
    found, failures = [], {}
    for name in names:
        try:
            found.append(_with_hooks(settings, name, lambda hooks, _: hooks_by_hand.status(hooks)))
        except hooks_by_hand.NotDone as reason:
            failures[name] = str(reason)
    if as_json:
        print_json([one.as_json() for one in found])
    elif found:
        _show_status(found)
    for name, why in failures.items():
        typer.echo(f"✗ {name}: {why}", err=True)
    if failures or any(one.verdict.problem for one in found):
        raise typer.Exit(EXIT_FAILED)


def _show_status(found: list[Status]) -> None:
    from rich.text import Text  # noqa: PLC0415

    from healthd.self_care import REMEDIES  # noqa: PLC0415
    from healthd.telling import add_row, moment, table  # noqa: PLC0415

    shown = table(
        "workspace", "webhook", "leads to", "status", "events", "last called (UTC)", "pending", "dead letters"
    )
    for one in found:
        about = one.verdict.about
        counts = ["" if number is None else str(number) for number in (one.pending, one.dead_letters)]
        colour = "red" if one.verdict.problem else "green"
        add_row(
            shown, one.workspace, about.ref if about else "–", about.url if about else one.url,
            Text(about.status if about else "missing", style=colour), "\n".join(about.events) if about else "",
            moment(about.triggered_at) if about else "", *counts,
        )  # fmt: skip
    show(shown)
    for one in found:
        if one.verdict.problem:
            typer.echo(f"✗ {one.workspace}: {one.verdict.said}. {REMEDIES[one.verdict.problem]}", err=True)


@webhook.command("test")
def send_test(config: Config = None, workspace: WorkspaceOption = None) -> None:
    """Have the provider send a test, and wait for it.

    healthd must be running. Where it fails, this says at which step, and what to do.
    """
    from healthd import hooks_by_hand  # noqa: PLC0415

    settings = quietly(config)
    name = _workspace(settings, workspace)
    said = _or_fail(
        lambda: _with_hooks(settings, name, lambda hooks, store: hooks_by_hand.send_test(settings, hooks, store, None))
    )
    typer.echo(f"✓ {said}")


@webhook.command()
def rotate(
    config: Config = None,
    workspace: WorkspaceOption = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Remove the old webhook, once the new one gets through.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Give up a new webhook whose secret was lost, and make another.")
    ] = False,
    write_secret: WriteSecret = None,
    as_json: AsJson = False,
) -> None:
    """Give the webhook a new secret, without a gap, in two steps.

    The first makes a second webhook and shows its secret; both secrets are good while both stand in webhook_secrets.
    With --finish the new one is tested, and the old one removed. It may be interrupted anywhere.
    """
    from healthd import hooks_by_hand  # noqa: PLC0415

    settings = quietly(config)
    name = _workspace(settings, workspace)
    if finish:
        if again or write_secret:
            fail("✗ --finish goes with neither --again nor --write-secret", EXIT_CONFIG)
        done = _or_fail(
            lambda: _with_hooks(
                settings,
                name,
                lambda hooks, store: hooks_by_hand.finish_rotation(settings, hooks, store),
                doing="webhook.rotate.finish",
            )
        )
        typer.echo("\n".join(done))
        return
    made = _with_secret(
        settings, name, write_secret, lambda hooks: hooks_by_hand.rotate(hooks, again=again), "webhook.rotate"
    )
    _tell_secret(name, made, write_secret, as_json=as_json, beside=True)


@webhook.command()
def repair(
    config: Config = None,
    workspace: WorkspaceOption = None,
    move: Annotated[
        bool, typer.Option("--move", help="Let the webhook that leads to another host lead here instead.")
    ] = False,
    write_secret: WriteSecret = None,
) -> None:
    """Mend what is wrong with the webhook.

    Missing events are added, a stopped or paused one is started again. One that is missing is made only with
    --write-secret: its secret has to get into the settings.
    """
    from healthd import hooks_by_hand  # noqa: PLC0415
    from healthd.self_care import Problem  # noqa: PLC0415

    settings = quietly(config)
    name = _workspace(settings, workspace)
    if write_secret is not None:
        found = _or_fail(lambda: _with_hooks(settings, name, lambda hooks, _: hooks_by_hand.status(hooks)))
        if found.verdict.problem is Problem.MISSING:
            made = _with_secret(settings, name, write_secret, hooks_by_hand.register, "webhook.register")
            _tell_secret(name, made, write_secret, as_json=False)
            return
    done = _or_fail(
        lambda: _with_hooks(
            settings, name, lambda hooks, _: hooks_by_hand.repair(hooks, move=move), doing="webhook.repair"
        )
    )
    typer.echo("\n".join(done))


def _workspace(settings: Settings, name: str | None) -> str:
    """The one that is meant: the only one, where none is named."""
    if name is None and len(settings.workspaces) == 1:
        return next(iter(settings.workspaces))
    if name is None:
        fail(
            f"✗ there are several workspaces: name one with --workspace ({', '.join(settings.workspaces)})", EXIT_CONFIG
        )
    if name not in settings.workspaces:
        fail(one_of("workspace", name, settings.workspaces), EXIT_NOT_FOUND)
    return name


def _with_hooks(settings: Settings, name: str, work: Callable[[Hooks, Store], Awaitable[T]], doing: str = "") -> T:
    """``doing`` goes on record once it is done."""
    from healthd.app import utc_now  # noqa: PLC0415
    from healthd.hooks_by_hand import opened  # noqa: PLC0415
    from healthd.store import access  # noqa: PLC0415
    from healthd.store.database import StoreUnavailable  # noqa: PLC0415

    async def inside(store: Store) -> T:
        async with opened(settings, name, store) as hooks:
            done = await work(hooks, store)
        if doing:
            # It is done all the same, and what came of it, a secret perhaps, must not be lost.
            with suppress(StoreUnavailable):
                await store.run(access.note_audit, utc_now(), who(), doing, f"workspace:{name}")
        return done

    return with_store(settings, inside)


def _or_fail(work: Callable[[], T]) -> T:
    from healthd.hooks_by_hand import NotDone  # noqa: PLC0415

    try:
        return work()
    except NotDone as reason:
        fail(f"✗ {reason}")


def _with_secret(
    settings: Settings, name: str, path: Path | None, make: Callable[[Hooks], Awaitable[NewSubscription]], doing: str
) -> NewSubscription:
    """Makes a webhook, and puts its secret into the file, which is there before anything is asked of the provider."""
    from healthd.hooks_by_hand import put_secret, secret_file  # noqa: PLC0415

    def work() -> NewSubscription:
        if path is None:
            return _with_hooks(settings, name, lambda hooks, _: make(hooks), doing)
        with secret_file(path) as file:
            made = _with_hooks(settings, name, lambda hooks, _: make(hooks), doing)
            put_secret(file, made)
            return made

    return _or_fail(work)


def _tell_secret(name: str, made: NewSubscription, path: Path | None, *, as_json: bool, beside: bool = False) -> None:
    """The secret, this once, and where it belongs."""
    row = made.subscription
    if as_json:
        kept = {"secret_file": str(path.absolute())} if path else {"secret": made.secret.get_secret_value()}
        print_json({"workspace": name, "webhook": row.ref, "url": row.url, "events": list(row.events), **kept})
        return
    typer.echo(f"✓ webhook {row.ref} leads to {row.url}, for {', '.join(row.events)}")
    if path is None:
        typer.echo(f"\nIts secret, which nobody can show again:\n\n  {made.secret.get_secret_value()}\n")
        entry = '{ file = "/a/file/with/the/secret" }'
    else:
        typer.echo(f"✓ its secret is in {path.absolute()}\n")
        entry = f"{{ file = {_quoted(str(path.absolute()))} }}"
    if beside:
        typer.echo(
            f"Add it in [workspaces.{name}], and leave the old one there:\n\n  webhook_secrets = [OLD, {entry}]\n"
        )
        typer.echo("Start healthd again, then run `healthd webhook rotate --finish`.")
    else:
        typer.echo(f"Put it into [workspaces.{name}]:\n\n  webhook_secrets = [{entry}]\n")
        typer.echo("Start healthd again, then run `healthd webhook test`.")


def _quoted(text: str) -> str:
    """As TOML writes it."""
    import json  # noqa: PLC0415

    return json.dumps(text, ensure_ascii=False)
