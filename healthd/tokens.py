"""Commands about access tokens: who may use the operator's pages and API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from healthd.terminal import (
    EXIT_CONFIG,
    EXIT_NOT_FOUND,
    AsJson,
    Config,
    fail,
    one_of,
    print_json,
    quietly,
    show,
    who,
    with_store,
)

if TYPE_CHECKING:
    from datetime import datetime

    from healthd.core.roles import Role
    from healthd.store.access import AccessToken

token = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Tokens for the operator's pages and API: docs/access.md."
)

Name = Annotated[str, typer.Argument(help="Whose it is, or what for: lower-case letters, digits, - and _.")]


def add_to(app: typer.Typer) -> None:
    """Makes these commands part of the whole."""
    app.add_typer(token, name="token")


@token.command("create")
def create(
    name: Name,
    role: Annotated[str, typer.Option("--role", "-r", help="viewer looks, operator also acts, admin does everything.")],
    config: Config = None,
    expires: Annotated[str, typer.Option("--expires", help="When it ends, such as 90d. Default: never.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token, and show it once.

    It goes to standard output, and is stored nowhere: only its digest is.
    """
    from healthd.app import utc_now  # noqa: PLC0415
    from healthd.config import NAME  # noqa: PLC0415
    from healthd.store import access  # noqa: PLC0415

    settings = quietly(config)
    chosen, now = _role(role), utc_now()
    ends_at = _end(expires, now)
    if not NAME.fullmatch(name):
        fail(f"✗ {name!r} is no name for a token: write lower-case letters, digits, - and _", EXIT_CONFIG)
    if name in settings.access.tokens:
        fail(f"✗ there is a token {name!r} in the settings, [access.tokens.{name}]: choose another name")
    secret = f"{access.PREFIX}{access.new_secret()}"
    try:
        made = with_store(
            settings,
            lambda store: store.run(
                access.create_token, name, chosen, access.digest_of(secret), at=now, by=who(), expires_at=ends_at
            ),
        )
    except access.NameTaken:
        fail(f"✗ there is a token {name!r}: choose another name, or revoke it first (healthd token revoke {name})")
    if as_json:
        print_json(_as_json(made) | {"token": secret})
        return
    typer.echo(f"✓ {name} is {chosen}, {_until(ends_at)}. This is shown once:", err=True)
    typer.echo(secret)


@token.command("list")
def list_tokens(config: Config = None, as_json: AsJson = False) -> None:
    """List the tokens, those of the settings too."""
    from healthd.store import access  # noqa: PLC0415

    settings = quietly(config)
    found = with_store(settings, lambda store: store.read(access.tokens))
    rows = [_as_json(one) for one in found]
    rows += [{"name": name, "role": one.role, "by": "settings"} for name, one in sorted(settings.access.tokens.items())]
    if as_json:
        print_json(rows)
        return
    from rich.table import Table  # noqa: PLC0415

    from healthd.app import utc_now  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for title in ("name", "role", "made by", "made", "ends", "last used"):
        table.add_column(title)
    for one in found:
        ended = one.expires_at is not None and one.expires_at <= utc_now()
        ends = "ended" if ended else _moment(one.expires_at)
        table.add_row(one.name, one.role, one.created_by, _moment(one.created_at), ends, _moment(one.used_at))
    for name, given in sorted(settings.access.tokens.items()):
        table.add_row(name, given.role, "settings", "", "", "")
    show(table)


@token.command("revoke")
def revoke(name: Name, config: Config = None) -> None:
    """End a token at once, and every sign-in that began with it."""
    from healthd.app import utc_now  # noqa: PLC0415
    from healthd.store import access  # noqa: PLC0415

    settings = quietly(config)
    if with_store(settings, lambda store: store.run(access.revoke_token, name, at=utc_now(), by=who())):
        typer.echo(f"✓ {name} is revoked, and nobody is signed in with it any more")
        return
    if name in settings.access.tokens:
        fail(f"✗ {name!r} stands in the settings: take [access.tokens.{name}] out, and start healthd again")
    known = with_store(settings, lambda store: store.read(access.tokens))
    fail(one_of("token", name, [one.name for one in known]), EXIT_NOT_FOUND)


def _role(text: str) -> Role:
    from healthd.core.roles import Role  # noqa: PLC0415

    if text not in set(Role):
        fail(one_of("role", text, Role), EXIT_CONFIG)
    return Role(text)


def _end(text: str, now: datetime) -> datetime | None:
    from healthd.core.duration import parse_duration  # noqa: PLC0415

    if not text:
        return None
    try:
        span = parse_duration(text)
        ends_at = now + span
    except (ValueError, OverflowError) as error:
        fail(f"✗ --expires: {error}", EXIT_CONFIG)
    if ends_at <= now:
        fail("✗ --expires: it would have ended before it began", EXIT_CONFIG)
    return ends_at


def _as_json(one: AccessToken) -> dict[str, Any]:
    return {
        "name": one.name,
        "role": one.role,
        "by": one.created_by,
        "created_at": one.created_at.isoformat(),
        "expires_at": one.expires_at and one.expires_at.isoformat(),
        "used_at": one.used_at and one.used_at.isoformat(),
    }


def _until(at: datetime | None) -> str:
    return "until it is revoked" if at is None else f"until {_moment(at)}"


def _moment(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
