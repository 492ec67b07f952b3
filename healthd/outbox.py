"""The sender: claims due notices, asks once more whether they are true, renders, hands over, records.

At least once: the content is committed before the first attempt, and the attempt's end after it. A crash in between
repeats the same message under the same identity; it never loses one.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from healthd.channels.base import LINK, Channel, Content, Dead, Delivery, Notice, Receipt, Retry
from healthd.core import cadence
from healthd.core.cadence import Cadence, Drop, Hold
from healthd.core.model import Cause, NoticeKind, NoticeStatus, Resolution, State
from healthd.links import Links
from healthd.metrics import Metrics
from healthd.providers.base import Provider, ProviderError
from healthd.store import accounts, incidents, notices, profiles
from healthd.store.accounts import StoredAccount
from healthd.store.database import Store, StoreUnavailable
from healthd.store.incidents import Incident
from healthd.store.notices import StoredNotice

log = structlog.get_logger("healthd.outbox")

AT_ONCE = 16
LEASE = timedelta(minutes=3)
"""Longer than any channel's own deadline, so that a slow hand-over is not repeated by another sender."""
DIRECT_LINK_MINUTES = 15
NEEDS_LINK = frozenset({NoticeKind.OPENED, NoticeKind.REMINDER})


@dataclass(frozen=True, slots=True)
class Facts:
    """What a notice is about, as it stands now."""

    account: StoredAccount
    incident: Incident | None
    first: StoredNotice | None
    scope_active: bool


def look_up(connection: Connection, notice: StoredNotice) -> Facts:
    account = accounts.by_id(connection, notice.account_id)
    if account is None:
        raise LookupError(f"notice {notice.id} is about an account that is not in the store")
    first_id = notices.notice_id(notice.subject, notice.target, NoticeKind.OPENED, 0)
    scopes = profiles.scopes(connection, account.account.workspace)
    return Facts(
        account,
        incidents.get(connection, notice.incident_id) if notice.incident_id else None,
        notices.get(connection, first_id) if first_id != notice.id else None,
        all(scope.active for scope in scopes if scope.ref == account.profile),
    )


@dataclass
class Outbox:
    """``links`` is ``None`` where no page of ours exists: then each message carries the provider's own link."""

    store: Store
    channels: Mapping[str, Channel]
    providers: Mapping[str, Provider]
    links: Links | None
    cadence: Cadence
    metrics: Metrics
    now: Callable[[], datetime]
    rng: random.Random

    def __post_init__(self) -> None:
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def stop(self) -> None:
        """Claims nothing more; ``run`` returns once what is under way has ended."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Sends what is due for as long as the daemon runs, first of all what an earlier process left half done."""
        try:
            await self.store.run(notices.release_leases)
        except StoreUnavailable as error:
            log.warning("outbox.store_unavailable", reason=str(error))
        while not self._stopping:
            self._wake.clear()
            try:
                sent = await self.send_due()
            except StoreUnavailable as error:
                log.warning("outbox.store_unavailable", reason=str(error))
                sent = 0
            if not sent:
                await self._rest()

    async def _rest(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), timeout=1)
        except TimeoutError:
            return

    async def send_due(self) -> int:
        """Sends one batch; returns how many notices were taken."""
        lease = uuid.uuid4().hex
        now = self.now()
        claimed = await self.store.run(notices.claim, now, lease, now + LEASE, AT_ONCE)
        results = await asyncio.gather(*(self._one(notice) for notice in claimed), return_exceptions=True)
        for notice, result in zip(claimed, results, strict=True):
            if isinstance(result, BaseException):
                log.error("notice.failed", notice=notice.id, error=type(result).__name__, exc_info=result)
                await self._again(notice, Retry(f"healthd failed on it: {type(result).__name__}"))
        return len(claimed)

    async def _one(self, notice: StoredNotice) -> None:
        facts = await self.store.read(look_up, notice)
        verdict = cadence.verdict(
            notice.kind,
            open_incident=facts.incident is not None and facts.incident.resolved_at is None,
            paused=facts.account.account.paused or not facts.scope_active,
            expiring=facts.account.account.state is State.EXPIRING,
        )
        if isinstance(verdict, Hold | Drop):
            await self._withhold(notice, facts, verdict)
            return
        channel = self.channels.get(notice.target.channel)
        if channel is None:
            await self._finish(notice, NoticeStatus.DEAD, "its channel is no longer configured")
            return
        try:
            content = notice.content or await self._render(channel, notice, facts)
            receipt = await channel.send(await self._delivery(notice, facts, content))
        except Retry as retry:
            await self._again(notice, retry)
        except Dead as dead:
            await self._finish(notice, NoticeStatus.DEAD, dead.reason)
        else:
            await self._sent(notice, facts, receipt)

    async def _render(self, channel: Channel, notice: StoredNotice, facts: Facts) -> Content:
        content = channel.render(self._message(notice, facts))
        await self.store.run(notices.keep_content, notice.id, content, self.now())
        return content

    def _message(self, notice: StoredNotice, facts: Facts) -> Notice:
        account, incident = facts.account.account, facts.incident
        needs_link = notice.kind in NEEDS_LINK
        return Notice(
            id=notice.id,
            kind=notice.kind,
            step=notice.step,
            target=notice.target,
            workspace=account.workspace,
            platform=account.platform,
            account_ref=account.ref,
            account_name=facts.account.name,
            account_username=facts.account.username,
            profile=facts.account.profile or None,
            cause=incident.cause if incident else Cause.TOKEN,
            unconfirmed=incident is not None and incident.confirmed_at is None,
            broken_at=incident.broken_at if incident else notice.created_at,
            created_at=notice.created_at,
            resolved_at=incident.resolved_at if incident else None,
            validity_days=account.validity_days,
            link=LINK if needs_link else None,
            link_minutes=DIRECT_LINK_MINUTES if needs_link and self.links is None else None,
        )

    async def _delivery(self, notice: StoredNotice, facts: Facts, content: Content) -> Delivery:
        return Delivery(
            notice_id=notice.id,
            kind=notice.kind,
            target=notice.target,
            content=content,
            link=await self._link(notice, facts) if notice.kind in NEEDS_LINK else None,
            created_at=notice.created_at,
            thread=facts.first.id if facts.first else None,
            first=facts.first.receipt if facts.first else None,
        )

    async def _link(self, notice: StoredNotice, facts: Facts) -> str:
        if self.links is not None:
            first = facts.first.id if facts.first else notice.id
            return self.links.url(incidents.link_id(first))
        account = facts.account
        try:
            return await self.providers[account.account.workspace].mint(account.account.ref, account.profile or None)
        except ProviderError as error:
            raise Retry(f"no link to be had: {error.kind}") from error

    async def _withhold(self, notice: StoredNotice, facts: Facts, verdict: Hold | Drop) -> None:
        status = NoticeStatus.HELD if isinstance(verdict, Hold) else NoticeStatus.DROPPED

        def settle(connection: Connection) -> None:
            notices.settle(connection, notice, status, reason=verdict.reason)
            # An earlier attempt may have reached its reader without our knowing: then the good news is owed too.
            if status is NoticeStatus.DROPPED and notice.repeat and notice.kind is NoticeKind.OPENED:
                self._owe_good_news(connection, notice, facts.incident)

        await self.store.run(settle)
        self._count(notice, status)
        log.info("notice.withheld", notice=notice.id, status=status, reason=verdict.reason)

    async def _again(self, notice: StoredNotice, retry: Retry) -> None:
        due = cadence.retry_at(notice.attempts, notice.created_at, self.now(), self.cadence, self.rng, retry.after)
        if due is None:
            await self._finish(notice, NoticeStatus.DEAD, f"given up: {retry.reason}")
            return
        await self.store.run(notices.settle, notice, NoticeStatus.PENDING, reason=retry.reason, due_at=due)
        self._count(notice, "retry")
        log.warning(
            "notice.retry", notice=notice.id, channel=notice.target.channel, reason=retry.reason, due_at=due.isoformat()
        )

    async def _finish(self, notice: StoredNotice, status: NoticeStatus, reason: str) -> None:
        await self.store.run(notices.settle, notice, status, reason=reason)
        self._count(notice, status)
        log.error("notice.dead", notice=notice.id, channel=notice.target.channel, reason=reason)

    async def _sent(self, notice: StoredNotice, facts: Facts, receipt: Receipt) -> None:
        now = self.now()
        mine = await self.store.run(self._record, notice, receipt, now)
        if not mine:
            log.warning("notice.lease_lost", notice=notice.id)
            return
        self._count(notice, NoticeStatus.SENT)
        if notice.kind is NoticeKind.OPENED and facts.incident is not None:
            span = max(now - facts.incident.opened_at, timedelta(0))
            self.metrics.time_to_notify.labels(notice.target.channel).observe(span.total_seconds())
        log.info(
            "notice.sent",
            notice=notice.id,
            kind=notice.kind,
            channel=notice.target.channel,
            incident=notice.incident_id,
        )

    def _record(self, connection: Connection, notice: StoredNotice, receipt: Receipt, now: datetime) -> bool:
        """One transaction: it is sent, and what follows from that."""
        if not notices.settle(connection, notice, NoticeStatus.SENT, receipt=receipt, sent_at=now):
            return False
        if notice.kind in NEEDS_LINK and notice.incident_id:
            incident = incidents.get(connection, notice.incident_id)
            if incident is not None and incident.resolved_at is None:
                self._plan_reminder(connection, notice, incident, now)
            elif notice.kind is NoticeKind.OPENED:
                self._owe_good_news(connection, notice, incident)
        return True

    def _plan_reminder(self, connection: Connection, notice: StoredNotice, incident: Incident, now: datetime) -> None:
        due = cadence.reminder_due(incident.opened_at, notice.step + 1, self.cadence)
        if due is not None:
            notices.write(
                connection,
                subject=notice.subject,
                incident_id=incident.id,
                account_id=notice.account_id,
                kind=NoticeKind.REMINDER,
                targets=(notice.target,),
                due_at=max(due, now),
                now=max(due, now),
                step=notice.step + 1,
            )

    def _owe_good_news(self, connection: Connection, notice: StoredNotice, incident: Incident | None) -> None:
        """The repair was committed while this notice was on its way: its reader is told of it after all."""
        if incident is not None and incident.resolution is Resolution.REPAIRED:
            now = self.now()
            notices.write(
                connection,
                subject=notice.subject,
                incident_id=incident.id,
                account_id=notice.account_id,
                kind=NoticeKind.RESOLVED,
                targets=(notice.target,),
                due_at=now,
                now=now,
            )

    def _count(self, notice: StoredNotice, outcome: str) -> None:
        self.metrics.notices.labels(notice.target.channel, notice.kind, outcome).inc()
