"""What ``check-config`` and ``notify-test`` find out."""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from healthd.channels.base import LINK, AccountFacts, Channel, Dead, Delivery, Notice, Reader, Retry
from healthd.channels.wording import Wording
from healthd.config import Problem, Settings, did_you_mean
from healthd.core.model import PLATFORMS, Cause, Lane, NoticeKind, Profile, Target
from healthd.metrics import Metrics
from healthd.providers.base import Conflict, MissingScope, NotFound, Provider, ProviderError, Unprocessable
from healthd.sweep import Workspace

NOBODY = "0"
"""No account has this id: a reconnect link asked for it shows whether the key may ask, and kills nobody's link."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at, and what came of it."""

    subject: str
    ok: bool
    message: str

    def as_json(self) -> dict[str, Any]:
        return {"subject": self.subject, "ok": self.ok, "message": self.message}

    def __str__(self) -> str:
        return f"{'✓' if self.ok else '✗'} {self.subject}: {self.message}"


def mistake(problem: Problem) -> Finding:
    """A mistake in the settings, told as anything else that was found."""
    return Finding(problem.key or problem.where, False, str(problem).removeprefix(f"{problem.where}: "))


def offline(settings: Settings) -> list[Finding]:
    """What the settings amount to; mistakes in them have been told already."""
    counts = f"{len(settings.workspaces)} workspace(s), {len(settings.channels)} channel(s)"
    return [
        Finding("settings", True, counts), _store(settings), *_routing(settings), *_templates(settings),
        *_notes(settings),
    ]  # fmt: skip


def _templates(settings: Settings) -> Iterator[Finding]:
    """Every message in every language by the operator's own templates: a slip shows now, not in a night."""
    folder = settings.notices.templates
    if folder is None:
        return
    mistakes = Wording(folder).check()
    for mistake in mistakes:
        yield Finding("notices.templates", False, mistake)
    if not mistakes:
        yield Finding("notices.templates", True, f"{folder}: every message can be rendered")


def _store(settings: Settings) -> Finding:
    if settings.store.is_postgres:
        return _database(settings)
    file = Path(settings.store.url.removeprefix("sqlite:///").partition("?")[0]).absolute()
    if not file.parent.is_dir():
        return Finding("store", False, f"there is no folder {file.parent}: make it, or name another in store.url")
    place = file if file.exists() else file.parent
    if not os.access(place, os.R_OK | os.W_OK):
        return Finding("store", False, f"{place} cannot be written by this user")
    return Finding("store", True, f"{file}{'' if file.exists() else ', to be made at the first start'}")


def _database(settings: Settings) -> Finding:
    """A database that is not on this machine is asked."""
    from healthd.store.database import Store, StoreUnavailable  # noqa: PLC0415
    from healthd.store.migrations import current  # noqa: PLC0415

    async def revision() -> str | None:
        store = Store(settings.store.address)
        try:
            return await store.read(current)
        finally:
            await store.close()

    try:
        found = asyncio.run(revision())
    except StoreUnavailable as error:
        return Finding("store", False, f"{settings.store.url}: {error}")
    return Finding("store", True, f"{settings.store.url}: {f'revision {found}' if found else 'empty, to be filled'}")


def _routing(settings: Settings) -> Iterator[Finding]:
    told = ", ".join(settings.notices.default) or "nobody"
    yield Finding("routing", True, f"{len(settings.routes)} route(s); where none matches: {told}")
    for number, route in enumerate(settings.routes):
        for platform in sorted(set(route.platform) - set(PLATFORMS)):
            close = difflib.get_close_matches(platform, PLATFORMS, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            note = f"{platform!r} is no platform that healthd knows by name{meant}"
            yield Finding(f"routes.{number}.platform", not close, note)
        matches_all = not (route.workspace or route.platform or route.account or route.profile or route.labels)
        if matches_all and route.stop and number + 1 < len(settings.routes):
            yield Finding(
                f"routes.{number}", False, "matches everything and stops: the routes after it are never asked"
            )


def _notes(settings: Settings) -> Iterator[Finding]:
    if not settings.notices.operator:
        yield Finding(
            "notices.operator", True, "nobody: of a refused key or a silent API only the log and the metrics will tell"
        )
    for name, workspace in settings.workspaces.items():
        if not workspace.webhook_secrets:
            yield Finding(f"workspaces.{name}", True, "no webhook_secrets: trouble is found by the sweep only")
    if not settings.server.admin_is_local and settings.access.asks and not settings.access.by_settings:
        yield Finding(
            "access", True, "server.admin_listen leaves this machine, and the settings let nobody in: healthd starts "
            "only where there is a token (healthd token create NAME --role admin)"
        )  # fmt: skip
    if settings.link.mode == "direct":
        yield Finding(
            "link.mode", True, "direct: the link in a message works once, and for 15 minutes after it was sent"
        )


async def online(settings: Settings) -> list[Finding]:
    """Asks each workspace's API who the key belongs to and what it may do, and each channel whether it answers."""
    from healthd.app import VERSION, build_workspaces  # noqa: PLC0415 - app imports nothing of the command line

    findings = []
    for workspace in build_workspaces(settings, Metrics(VERSION)).values():
        async with workspace.provider.session():
            findings += [finding async for finding in _ask_api(workspace)]
    for name, chosen in settings.channels.items():
        channel = chosen.open(Wording(settings.notices.templates))
        try:
            findings.append(Finding(f"channels.{name}", True, await channel.check()))
        except (Retry, Dead) as trouble:
            findings.append(Finding(f"channels.{name}", False, trouble.reason))
        finally:
            await channel.close()
    return findings


async def _ask_api(workspace: Workspace) -> AsyncIterator[Finding]:
    """Whose key it is, then what it may do, one finding for each scope. A key that is refused is not asked further."""
    subject, provider = f"workspaces.{workspace.name}", workspace.provider
    try:
        owner = await provider.identity()
    except ProviderError as error:
        yield Finding(subject, False, f"{error}. {error.remedy}")
        return
    yield Finding(subject, True, f"the key belongs to {owner!r}")
    reading = await _reading(subject, provider)
    yield reading
    yield await _writing(subject, provider)
    if workspace.with_profiles:
        async for finding in _profiles(subject, provider, look_inside=reading.ok):
            yield finding


async def _reading(subject: str, provider: Provider) -> Finding:
    try:
        listed = await provider.list_accounts(None, Lane.CLICK)
        await provider.health_all(None)
    except ProviderError as error:
        return _refused(subject, "social:read", error)
    return Finding(subject, True, f"social:read: the key sees {len(listed.shown)} account(s) and their health")


async def _writing(subject: str, provider: Provider) -> Finding:
    """Only a real link would prove it, and each one kills the link that somebody may be about to use."""
    try:
        await provider.mint(NOBODY, None)
    except (NotFound, Unprocessable):
        pass
    except ProviderError as error:
        return _refused(subject, "social:write", error)
    return Finding(
        subject, True, "social:write: asked for a reconnect link of no account, which the API did not forbid; "
        "whether it makes real ones shows when one is needed"
    )  # fmt: skip


async def _profiles(subject: str, provider: Provider, *, look_inside: bool) -> AsyncIterator[Finding]:
    """``look_inside`` is false where the key may not even see the workspace's own accounts: that was told already."""
    try:
        found: list[Profile] = [profile async for profile in provider.profiles()]
    except NotFound:
        yield Finding(subject, True, "profiles are not enabled for this workspace: there are none to watch")
        return
    except ProviderError as error:
        yield _refused(subject, "profiles:read", error, 'or set profiles = "none"')
        return
    yield Finding(subject, True, f"profiles:read: {len(found)} profile(s)")
    if not look_inside:
        return
    active = [profile for profile in found if profile.active]
    if not active:
        yield Finding(subject, True, "profiles:manage: not asked, for want of an active profile to look into")
        return
    try:
        listed = await provider.list_accounts(active[0].ref, Lane.CLICK)
    except (NotFound, Conflict):
        yield Finding(subject, True, "profiles:manage: not told, since the profile was paused or removed just now")
    except ProviderError as error:
        yield _refused(subject, "profiles:manage", error, 'or set profiles = "none"')
    else:
        yield Finding(subject, True, f"profiles:manage: sees {len(listed.shown)} account(s) in a profile")


def _refused(subject: str, scope: str, error: ProviderError, otherwise: str = "") -> Finding:
    """A 403 names what is missing; anything else leaves the question open."""
    if isinstance(error, MissingScope):
        missing = f"the key lacks the scope {error.scope or scope}: add it at the provider"
        return Finding(subject, False, f"{missing}{f', {otherwise}' if otherwise else ''}")
    return Finding(subject, False, f"{scope}: could not be checked: {error}. {error.remedy}")


async def send_test(settings: Settings, text: str) -> Finding:
    """Sends one message that says of itself that it is a test."""
    target = Target.parse(text)
    chosen = settings.channels.get(target.channel)
    if chosen is None:
        return Finding(text, False, f"there is no such channel; {did_you_mean(target.channel, settings.channels)}")
    try:
        chosen.validate_address(target.address)
    except ValueError as error:
        return Finding(text, False, str(error))
    channel = chosen.open(Wording(settings.notices.templates))
    try:
        await channel.send(_test_delivery(settings, channel, target))
    except (Retry, Dead) as trouble:
        return Finding(text, False, trouble.reason)
    finally:
        await channel.close()
    return Finding(text, True, "handed over")


def _test_delivery(settings: Settings, channel: Channel, target: Target) -> Delivery:
    now = datetime.now(UTC)
    identity = f"test-{int(now.timestamp() * 1000):x}"
    # With links of its own healthd has a page to show, which says that this one opens nothing.
    link = f"{settings.public_url}/r/this-is-a-test" if settings.link.mode == "page" else None
    notice = Notice(
        id=identity,
        kind=NoticeKind.OPENED,
        step=0,
        target=target,
        workspace=next(iter(settings.workspaces), "test"),
        accounts=(AccountFacts("0", "facebook", "TEST: nothing is broken", None, None, Cause.TOKEN, False, now),),
        created_at=now,
        reader=Reader(language=settings.notices.language),
        link=LINK if link else None,
        by_hand=settings.notices.by_hand,
    )
    return Delivery(identity, notice.kind, target, channel.render(notice), link, now)
