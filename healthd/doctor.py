"""What ``check-config`` and ``notify-test`` find out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from healthd.channels.base import Channel, Dead, Delivery, Notice, Retry
from healthd.config import Settings
from healthd.core.model import Cause, Lane, NoticeKind, Target
from healthd.metrics import Metrics
from healthd.providers.base import ProviderError
from healthd.sweep import Workspace


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at, and what came of it."""

    subject: str
    ok: bool
    message: str

    def as_json(self) -> dict[str, Any]:
        return {"subject": self.subject, "ok": self.ok, "message": self.message}


def offline(settings: Settings) -> list[Finding]:
    """What the settings amount to; mistakes in them have been told already."""
    routes = len(settings.routes)
    told = "nobody is told by default" if not settings.notices.default else ", ".join(settings.notices.default)
    unsigned = [name for name, workspace in settings.workspaces.items() if not workspace.webhook_secrets]
    findings = [
        Finding("settings", True, f"{len(settings.workspaces)} workspace(s), {len(settings.channels)} channel(s)"),
        Finding("routing", True, f"{routes} route(s), then: {told}"),
    ]
    findings += [
        Finding(f"workspaces.{name}", True, "no webhook_secrets: trouble is found by the sweep only")
        for name in unsigned
    ]
    return findings


async def online(settings: Settings) -> list[Finding]:
    """Asks each workspace's API who the key belongs to and what it may do, and each channel whether it answers."""
    from healthd.app import VERSION, build_workspaces  # noqa: PLC0415 - app imports nothing of the command line

    findings = []
    for name, workspace in build_workspaces(settings, Metrics(VERSION)).items():
        async with workspace.provider.session():
            findings += await _ask_api(name, workspace)
    for name, chosen in settings.channels.items():
        channel = chosen.open()
        try:
            findings.append(Finding(f"channels.{name}", True, await channel.check()))
        except (Retry, Dead) as trouble:
            findings.append(Finding(f"channels.{name}", False, trouble.reason))
        finally:
            await channel.close()
    return findings


async def _ask_api(name: str, workspace: Workspace) -> list[Finding]:
    subject = f"workspaces.{name}"
    try:
        owner = await workspace.provider.identity()
        listed = await workspace.provider.list_accounts(None, Lane.CLICK)
        await workspace.provider.health_all(None)
    except ProviderError as error:
        return [Finding(subject, False, f"{error}. {error.remedy}")]
    return [Finding(subject, True, f"the key belongs to {owner!r} and sees {len(listed)} account(s)")]


async def send_test(settings: Settings, text: str) -> Finding:
    """Sends one message that says of itself that it is a test."""
    target = Target.parse(text)
    chosen = settings.channels.get(target.channel)
    if chosen is None:
        return Finding(text, False, f"there is no such channel; there are: {', '.join(settings.channels) or 'none'}")
    try:
        chosen.validate_address(target.address)
    except ValueError as error:
        return Finding(text, False, str(error))
    channel = chosen.open()
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
    notice = Notice(
        id=identity,
        kind=NoticeKind.OPENED,
        step=0,
        target=target,
        workspace=next(iter(settings.workspaces), "test"),
        platform="facebook",
        account_ref="0",
        account_name="TEST: nothing is broken",
        account_username=None,
        profile=None,
        cause=Cause.TOKEN,
        unconfirmed=False,
        broken_at=now,
        created_at=now,
    )
    link = f"{settings.public_url or 'https://healthd.invalid'}/r/this-is-a-test"
    return Delivery(identity, notice.kind, target, channel.render(notice), link, now)
