"""The sender: claims due notices, asks once more whether they are true, renders, hands over, records.

At least once: the content is committed before the first attempt, and the attempt's end after it. A crash in between
repeats the same message under the same identity; it never loses one.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy import Connection

from healthd.channels.base import LINK, LONGEST, Channel, Content, Dead, Delivery, Notice, Receipt, Retry, TroubleNotice
from healthd.core import cadence
from healthd.core.cadence import Cadence, Drop, Hold
from healthd.core.model import Cause, NoticeKind, NoticeStatus, Resolution, State
from healthd.links import Links
from healthd.metrics import Metrics
from healthd.providers.base import Provider, ProviderError
from healthd.store import accounts, incidents, notices, profiles, troubles
from healthd.store.accounts import StoredAccount
from healthd.store.database import Store, StoreUnavailable
from healthd.store.incidents import Incident
from healthd.store.notices import StoredNotice
from healthd.store.troubles import Trouble

log = structlog.get_logger("healthd.outbox")

AT_ONCE = 16
"""Notices on their way through one channel; more of them wait, and those of other channels do not."""
HAND_OVER = timedelta(seconds=LONGEST + 45)
"""Longer than any channel's own deadline and a link's: only what hangs for ever meets it."""
LEASE = timedelta(minutes=4)
"""Longer than a hand-over can take, so that none is repeated by another sender while it goes on."""
SHORTEST_REST = 0.5
"""Seconds between two looks at what is due while its channel is full."""
MINT_WITHIN = 30.0
"""Seconds for a link of the provider's own, its turn in the allowance included."""
DIRECT_LINK_MINUTES = 15
NEEDS_LINK = frozenset({NoticeKind.OPENED, NoticeKind.REMINDER})


@dataclass(frozen=True, slots=True)
class Facts:
    """What a notice is about, as it stands now."""

    account: StoredAccount
    incident: Incident | None
    first: StoredNotice | None
    scope_active: bool


def _first(connection: Connection, notice: StoredNotice, kind: NoticeKind) -> StoredNotice | None:
    """The notice that began the conversation in which this one stands, unless it is that one."""
    first_id = notices.notice_id(notice.subject, notice.target, kind, 0)
    return notices.get(connection, first_id) if first_id != notice.id else None


def look_up(connection: Connection, notice: StoredNotice) -> Facts:
    account = accounts.by_id(connection, notice.account_id) if notice.account_id is not None else None
    if account is None:
        raise LookupError(f"notice {notice.id} is about an account that is not in the store")
    scopes = profiles.scopes(connection, account.account.workspace)
    return Facts(
        account,
        incidents.get(connection, notice.incident_id) if notice.incident_id else None,
        _first(connection, notice, NoticeKind.OPENED),
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
    longest_rest: timedelta = timedelta(seconds=1)
    """How soon a notice is seen that another process (a command) wrote; our own are seen at once."""

    def __post_init__(self) -> None:
        self._wake = asyncio.Event()
        self._stopping = False
        self._under_way: dict[asyncio.Task[None], str] = {}

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
            await self._guarded(self._take_over)
            while not self._stopping:
                self._wake.clear()
                if not await self._guarded(self._start_due):
                    await self._rest()
            await self._ended()
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def send_due(self) -> int:
        """Sends what is due now; returns how many notices were taken."""
        total = 0
        while taken := await self._start_due():
            total += taken
            await self._ended()
        return total

    async def _guarded(self, step: Callable[[], Awaitable[int]]) -> int:
        """A step that fails is told and comes again: nothing may end the sender but a stop."""
        try:
            return await step()
        except StoreUnavailable as error:
            log.warning("outbox.store_unavailable", reason=str(error))
        except Exception:
            self.metrics.jobs_failed.labels("outbox").inc()
            log.exception("outbox.failed")
        return 0

    async def _rest(self) -> None:
        """Until the next notice is due, or until it is woken; what is due and has no room waits for an end."""
        rest = self.longest_rest.total_seconds()
        with suppress(StoreUnavailable):
            due = await self.store.read(notices.next_due)
            ahead = (due - self.now()).total_seconds() if due is not None else rest
            rest = min(rest, max(ahead, SHORTEST_REST))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout=rest)

    async def _ended(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _take_over(self) -> int:
        return await self.store.run(notices.release_leases)

    async def _start_due(self) -> int:
        """Begins to send what is due and has room in its channel; returns how many notices that were."""
        busy = Counter(self._under_way.values())
        full = [name for name in self.channels if busy[name] >= AT_ONCE]
        # Whatever the channels of so many are, each finds room.
        most = min((AT_ONCE - busy[name] for name in self.channels if name not in full), default=AT_ONCE)
        now, lease = self.now(), uuid.uuid4().hex
        claimed = await self.store.run(notices.claim, now, lease, now + LEASE, most, full)
        for notice in claimed:
            task = asyncio.create_task(self._safely(notice))
            self._under_way[task] = notice.target.channel
            task.add_done_callback(self._over)
        return len(claimed)

    def _over(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self.wake()

    async def _safely(self, notice: StoredNotice) -> None:
        """One notice, whatever happens to it: what healthd itself fails on is tried again like a refusal."""
        try:
            async with asyncio.timeout(HAND_OVER.total_seconds()):
                await self._one(notice)
        except StoreUnavailable as error:
            # The lease ends by itself, and the notice comes again under the same identity.
            log.warning("outbox.store_unavailable", notice=notice.id, reason=str(error))
        except Exception as error:
            log.exception("notice.failed", notice=notice.id, error=type(error).__name__)
            with suppress(StoreUnavailable):
                await self._again(notice, Retry(f"healthd failed on it: {type(error).__name__}"))

    async def _one(self, notice: StoredNotice) -> None:
        if notice.trouble_id is not None:
            await self._tell_operator(notice, notice.trouble_id)
        else:
            await self._tell_person(notice)

    async def _tell_operator(self, notice: StoredNotice, trouble_id: str) -> None:
        """About an API that stands in our way, if it still does."""
        trouble = await self.store.read(troubles.get, trouble_id)
        if trouble is None or (notice.kind is NoticeKind.TROUBLE and trouble.ended_at is not None):
            await self._withhold(notice, Drop("over before it was sent"), None)
            return
        channel = await self._channel(notice)
        if channel is None:
            return
        first = await self.store.read(_first, notice, NoticeKind.TROUBLE)
        message = TroubleNotice(
            notice.id, notice.kind, notice.target, trouble.workspace, trouble.kind, trouble.question, trouble.message,
            trouble.remedy, trouble.since, notice.created_at, trouble.request_id, trouble.ended_at,
        )  # fmt: skip
        receipt = await self._hand_over(channel, notice, message, first)
        if receipt is not None:
            await self.store.run(self._record_told, notice, trouble, receipt, self.now())
            self._count(notice, NoticeStatus.SENT)
            log.info("notice.sent", notice=notice.id, kind=notice.kind, channel=notice.target.channel)

    def _record_told(
        self, connection: Connection, notice: StoredNotice, trouble: Trouble, receipt: Receipt, now: datetime
    ) -> None:
        """It is sent; and if it was over by then, that is told as well."""
        if not notices.settle(connection, notice, NoticeStatus.SENT, receipt=receipt, sent_at=now):
            return
        latest = troubles.get(connection, trouble.id)
        if notice.kind is NoticeKind.TROUBLE and latest is not None and latest.ended_at is not None:
            notices.write(
                connection, subject=notice.subject, trouble_id=trouble.id, kind=NoticeKind.TROUBLE_OVER,
                targets=(notice.target,), due_at=now, now=now,
            )  # fmt: skip

    async def _tell_person(self, notice: StoredNotice) -> None:
        began = self.now()
        facts = await self.store.read(look_up, notice)
        verdict = cadence.verdict(
            notice.kind,
            open_incident=facts.incident is not None and facts.incident.resolved_at is None,
            paused=facts.account.account.paused or not facts.scope_active,
            expiring=facts.account.account.state is State.EXPIRING,
        )
        if isinstance(verdict, Hold | Drop):
            await self._withhold(notice, verdict, facts.incident)
            return
        channel = await self._channel(notice)
        if channel is None:
            return
        if facts.account.account.workspace not in self.providers:
            await self._finish(notice, NoticeStatus.DEAD, "its workspace is no longer configured")
            return
        link = partial(self._link, notice, facts) if notice.kind in NEEDS_LINK else None
        receipt = await self._hand_over(channel, notice, self._message(notice, facts), facts.first, link)
        if receipt is not None:
            await self._sent(notice, facts, receipt, began)

    async def _channel(self, notice: StoredNotice) -> Channel | None:
        """The channel that the notice goes through; without one it has come to its end."""
        channel = self.channels.get(notice.target.channel)
        if channel is None:
            await self._finish(notice, NoticeStatus.DEAD, "its channel is no longer configured")
        return channel

    async def _hand_over(
        self,
        channel: Channel,
        notice: StoredNotice,
        message: Notice | TroubleNotice,
        first: StoredNotice | None,
        link: Callable[[], Awaitable[str]] | None = None,
    ) -> Receipt | None:
        """One attempt. The receipt, or ``None`` where it failed: then what follows from that has been recorded."""
        try:
            content = notice.content or await self._render(channel, notice, message)
            return await channel.send(self._delivery(notice, content, first, await link() if link else None))
        except Retry as retry:
            await self._again(notice, retry)
        except Dead as dead:
            await self._finish(notice, NoticeStatus.DEAD, dead.reason)
        return None

    async def _render(self, channel: Channel, notice: StoredNotice, message: Notice | TroubleNotice) -> Content:
        content = channel.render(message)
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

    def _delivery(
        self, notice: StoredNotice, content: Content, first: StoredNotice | None, link: str | None
    ) -> Delivery:
        return Delivery(
            notice_id=notice.id,
            kind=notice.kind,
            target=notice.target,
            content=content,
            link=link,
            created_at=notice.created_at,
            thread=first.id if first else None,
            first=first.receipt if first else None,
        )

    async def _link(self, notice: StoredNotice, facts: Facts) -> str:
        if self.links is not None:
            first = facts.first.id if facts.first else notice.id
            return self.links.url(incidents.link_id(first))
        account = facts.account
        try:
            async with asyncio.timeout(MINT_WITHIN):
                return await self.providers[account.account.workspace].mint(
                    account.account.ref, account.profile or None
                )
        except ProviderError as error:
            raise Retry(f"no link to be had: {error.kind}") from error
        except TimeoutError:
            raise Retry("no link to be had: the API's allowance is used up") from None

    async def _withhold(self, notice: StoredNotice, verdict: Hold | Drop, incident: Incident | None) -> None:
        status = NoticeStatus.HELD if isinstance(verdict, Hold) else NoticeStatus.DROPPED

        def settle(connection: Connection) -> None:
            notices.settle(connection, notice, status, reason=verdict.reason)
            # An earlier attempt may have reached its reader without our knowing: then the good news is owed too.
            if status is NoticeStatus.DROPPED and notice.repeat and notice.kind is NoticeKind.OPENED:
                self._owe_good_news(connection, notice, incident)

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

    async def _sent(self, notice: StoredNotice, facts: Facts, receipt: Receipt, began: datetime) -> None:
        now = self.now()
        mine = await self.store.run(self._record, notice, receipt, began, now)
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

    def _record(
        self, connection: Connection, notice: StoredNotice, receipt: Receipt, began: datetime, now: datetime
    ) -> bool:
        """One transaction: it is sent, and what follows from that."""
        if not notices.settle(connection, notice, NoticeStatus.SENT, receipt=receipt, sent_at=now):
            return False
        if notice.kind in NEEDS_LINK and notice.incident_id:
            incident = incidents.get(connection, notice.incident_id)
            if incident is not None and incident.resolved_at is None:
                self._plan_reminder(connection, notice, incident, began)
            elif notice.kind is NoticeKind.OPENED:
                self._owe_good_news(connection, notice, incident)
        return True

    def _plan_reminder(self, connection: Connection, notice: StoredNotice, incident: Incident, began: datetime) -> None:
        """The next one whose time was still to come: what was sent late is not followed by a reminder at once."""
        step = notice.step + 1
        while (due := cadence.reminder_due(incident.opened_at, step, self.cadence)) is not None and due <= began:
            step += 1
        if due is not None:
            notices.write(
                connection,
                subject=notice.subject,
                incident_id=incident.id,
                account_id=notice.account_id,
                kind=NoticeKind.REMINDER,
                targets=(notice.target,),
                due_at=due,
                now=due,
                step=step,
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
