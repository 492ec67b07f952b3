"""The sender: claims due notices, asks once more whether they are true, puts together what belongs together, renders,
hands over, records.

At least once: the content is committed before the first attempt, and the attempt's end after it. A crash in between
repeats the same message under the same identity; it never loses one.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy import Connection

from healthd import tracing
from healthd.channels.base import (
    LINK,
    LONGEST,
    AccountFacts,
    Channel,
    Content,
    Dead,
    Delivery,
    Message,
    Notice,
    Reader,
    Receipt,
    Retry,
    StormNotice,
    TroubleNotice,
)
from healthd.core import cadence, machine
from healthd.core.cadence import Cadence, Drop, Hold, Send, Situation
from healthd.core.contacts import Contact
from healthd.core.model import (
    BROKEN,
    GOOD_NEWS,
    SEVERITIES,
    TELLS_OF_TROUBLE,
    Cause,
    NoticeKind,
    NoticeStatus,
    Resolution,
    Severity,
    State,
)
from healthd.dispatch import ASK, Case, Dispatch, account_of, decided, incident_of
from healthd.links import Links
from healthd.metrics import Metrics
from healthd.providers.base import Provider, ProviderError
from healthd.resolver import Answer, Question, Resolver, ResolverUnavailable
from healthd.store import contacts, decisions, incidents, notices, post_failures, profiles, storms, troubles
from healthd.store.accounts import StoredAccount
from healthd.store.database import Store, StoreUnavailable
from healthd.store.incidents import Incident, Step
from healthd.store.notices import Batch, Holding, StoredNotice
from healthd.store.storms import Storm
from healthd.store.troubles import Trouble

log = structlog.get_logger("healthd.outbox")

CLAIMING = "@outbox"
"""Whose turn a claim takes: what belongs into one message must not be split between two senders."""
AT_ONCE = 16
"""Messages on their way through one channel; more of them wait, and those of other channels do not."""
HAND_OVER = timedelta(seconds=LONGEST + 45)
"""Longer than any channel's own deadline and a link's: only what hangs for ever meets it."""
LEASE = timedelta(minutes=4)
"""Longer than a hand-over can take, so that none is repeated by another sender while it goes on."""
SENDING = timedelta(seconds=LONGEST)
"""What must be left of a lease when a message is handed over."""
SHORTEST_REST = 0.5
"""Seconds between two looks at what is due while its channel is full."""
MINT_WITHIN = 30.0
"""Seconds for a link of the provider's own, its turn in the allowance included."""
DIRECT_LINK_MINUTES = 15
ALMOST = 0.9
"""Of a level's time: that those before it heard some moments after the opening puts nobody off."""
LISTED = 40
"""Accounts that one message names; of more than that it gives the number."""
NEEDS_LINK = frozenset({NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.ESCALATED, NoticeKind.WRONG_ACCOUNT})
OF_AN_API = frozenset({NoticeKind.TROUBLE, NoticeKind.TROUBLE_OVER})
OF_A_STORM = frozenset({NoticeKind.STORM, NoticeKind.STORM_OVER})
BAD_ADDRESS = "what is sent to this address comes back"
NO_CONTACT = "its recipient is no longer on record"
LATER = frozenset({NoticeKind.REMINDER, NoticeKind.ESCALATED})
EVENTS = {NoticeKind.REMINDER: "incident.reminded", NoticeKind.ESCALATED: "incident.escalated"}
"""What machines hear of once it has been sent."""


class LeaseLost(Exception):
    """This process was held up for so long that another one has taken the message over, or may have."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a notice is about, as it stands now. ``first`` began the conversation in which it stands; ``unreachable``:
    what is sent to its recipient comes back, or they were taken out of the contacts.
    """

    notice: StoredNotice
    account: StoredAccount
    incident: Incident | None
    first: StoredNotice | None
    situation: Situation
    profile: profiles.Scope | None
    repairs: tuple[datetime, ...] = ()
    unreachable: bool = False
    failed_posts: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """What good news ends. It answers ``first``, whose message was sent before the others that began it. ``left``
    accounts of these messages are broken still; of the first one none is where ``all_over``, and neither of those whose
    receipts are ``also_over``.
    """

    first: StoredNotice | None = None
    left: int = 0
    all_over: bool = True
    also_over: tuple[Receipt, ...] = ()


@dataclass(frozen=True, slots=True)
class Ready:
    """Facts of notices that go out as one message, and who reads it."""

    facts: tuple[Facts, ...]
    contact: Contact | None
    also_told: tuple[str, ...]
    ending: Ending

    @property
    def leader(self) -> Facts:
        return self.facts[0]

    @property
    def notices(self) -> list[StoredNotice]:
        return [one.notice for one in self.facts]


@dataclass
class Outbox:
    """``links`` is ``None`` where no page of ours exists: then each message carries the provider's own link."""

    store: Store
    channels: Mapping[str, Channel]
    providers: Mapping[str, Provider]
    links: Links | None
    dispatch: Dispatch
    metrics: Metrics
    now: Callable[[], datetime]
    rng: random.Random
    resolver: Resolver | None = None
    severities: Mapping[str, Severity] = field(default_factory=dict)
    language: str = "en"
    by_hand: str = ""
    longest_rest: timedelta = timedelta(seconds=1)
    """How soon a notice is seen that another process (a command) wrote; our own are seen at once."""
    publish: Callable[[Collection[int]], None] = lambda _: None
    """Told the ids of the accounts whose notices have come to something."""

    def __post_init__(self) -> None:
        self._wake = asyncio.Event()
        self._stopping = False
        self._under_way: dict[asyncio.Task[None], str] = {}

    @property
    def cadence(self) -> Cadence:
        return self.dispatch.cadence

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
        """Sends what is due now; returns how many messages were taken."""
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
        """At the start of a store's only daemon: whatever an earlier process was sending is due again at once."""
        return 0 if self.store.shared else await self.store.run(notices.release_leases)

    async def _start_due(self) -> int:
        """Begins to send what is due and has room in its channel; returns how many messages that were."""
        busy = Counter(self._under_way.values())
        full = [name for name in self.channels if busy[name] >= AT_ONCE]
        # Whatever the channels of so many are, each finds room.
        most = min((AT_ONCE - busy[name] for name in self.channels if name not in full), default=AT_ONCE)
        now, lease = self.now(), uuid.uuid4().hex
        # A link of the provider's own repairs one account: then those that need a link go each by itself.
        apart = () if self.links is not None else NEEDS_LINK
        claimed = await self.store.within(CLAIMING).run(
            notices.claim, now, lease, now + LEASE, most, full, self.cadence, apart
        )
        for batch in claimed:
            task = asyncio.create_task(self._safely(batch))
            self._under_way[task] = batch.leader.target.channel
            task.add_done_callback(self._over)
        return len(claimed)

    def _over(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self.wake()

    async def _safely(self, batch: Batch) -> None:
        """One message, whatever happens to it: what healthd itself fails on is tried again like a refusal."""
        try:
            async with asyncio.timeout(HAND_OVER.total_seconds()):
                with _traced(batch):
                    await self._one(batch)
        except LeaseLost:
            log.warning("notice.lease_lost", notice=batch.leader.id)
        except StoreUnavailable as error:
            # The lease ends by itself, and the notices come again under the same identity.
            log.warning("outbox.store_unavailable", notice=batch.leader.id, reason=str(error))
        except TimeoutError:
            log.warning("notice.too_long", notice=batch.leader.id)
            with suppress(StoreUnavailable):
                await self._again(batch.notices, Retry("it took too long", unknown=True))
        except Exception as error:
            log.exception("notice.failed", notice=batch.leader.id, error=type(error).__name__)
            with suppress(StoreUnavailable):
                await self._again(batch.notices, Retry(f"healthd failed on it: {type(error).__name__}"))

    async def _one(self, batch: Batch) -> None:
        notice = batch.leader
        if notice.target == ASK.target:
            await self._ask_who(notice)
        elif notice.kind in OF_AN_API:
            await self._tell_of_trouble(notice)
        elif notice.kind in OF_A_STORM:
            await self._tell_of_storm(notice)
        elif notice.kind is NoticeKind.EVENT:
            await self._tell_machine(notice)
        else:
            await self._tell_person(batch)

    async def _ask_who(self, notice: StoredNotice) -> None:
        """The customer's own endpoint says who is responsible; without an answer those on record are told."""
        account = await self.store.read(_account_of, notice)
        scope = await self.store.read(profiles.get, account.account.workspace, account.profile)
        answer: Answer | None = None
        failure = ""
        if self.resolver is not None:
            try:
                answer = await self.resolver.ask(_question(account, scope))
                self.metrics.contact_questions.labels("answered").inc()
            except ResolverUnavailable as error:
                failure = f"the contacts endpoint: {error.reason}"
                self.metrics.contact_questions.labels("failed").inc()
                log.warning("contacts.resolver_failed", workspace=account.account.workspace, reason=failure)
        await self.store.within(account.account.workspace).run(self._answered, notice, account, answer, failure)
        self.wake()

    def _answered(
        self,
        connection: Connection,
        notice: StoredNotice,
        account: StoredAccount,
        answer: Answer | None,
        failure: str,
    ) -> None:
        now = self.now()
        case = Case(connection, account, now)
        left_out = f"; left out: {'; '.join(answer.left_out)}" if answer is not None and answer.left_out else ""
        reason = failure or f"the contacts endpoint has answered{left_out}"
        if not notices.settle(connection, [notice], NoticeStatus.DROPPED, reason=reason):
            return
        if answer is not None:
            workspace, ref = account.account.workspace, account.account.ref
            contacts.keep_answer(connection, workspace, account.profile, ref, answer.resolved, answer.fetched_at)
        incident = incident_of(connection, notice)
        if incident is not None and incident.resolved_at is None:
            decisions.note(connection, [case.decided("asked", reason, incident.id)])
            self.dispatch.tell(case, incident)
            self.dispatch.remember(connection, case.memory, now)

    async def _tell_of_trouble(self, notice: StoredNotice) -> None:
        """About an API that stands in our way, if it still does."""
        trouble = await self.store.read(troubles.get, notice.trouble_id or "")
        if trouble is None or (notice.kind is NoticeKind.TROUBLE and trouble.ended_at is not None):
            await self._drop(notice, "over before it was sent")
            return
        message = TroubleNotice(
            notice.id, notice.kind, notice.target, trouble.workspace, trouble.kind, trouble.question, trouble.message,
            trouble.remedy, trouble.since, notice.created_at, trouble.request_id, trouble.ended_at,
            await self._reader(notice),
        )  # fmt: skip
        await self._tell_operator(notice, message, NoticeKind.TROUBLE, trouble)

    async def _tell_of_storm(self, notice: StoredNotice) -> None:
        """About accounts that broke all at once, if their people's notices are still held."""
        storm = await self.store.read(storms.get, notice.storm_id or "")
        if storm is None or (notice.kind is NoticeKind.STORM and storm.ended_at is not None):
            await self._drop(notice, "over before it was sent")
            return
        policy = self.dispatch.storms
        message = StormNotice(
            notice.id, notice.kind, notice.target, storm.workspace, storm.platform, storm.broken, storm.accounts,
            policy.window, policy.longest, storm.began_at, notice.created_at, storm.id,
            await self.store.read(storms.still_broken, storm.id), storm.outcome or "", storm.ended_at,
            await self._reader(notice),
        )  # fmt: skip
        await self._tell_operator(notice, message, NoticeKind.STORM, storm)

    async def _tell_operator(
        self, notice: StoredNotice, message: Message, beginning: NoticeKind, subject: Trouble | Storm
    ) -> None:
        if await self.store.alongside(self._operator_waits, notice):
            return
        channel = await self._channel([notice])
        if channel is None:
            return
        first = await self.store.read(_first, notice, (beginning,))
        receipt = await self._hand_over(channel, [notice], message, first)
        if receipt is not None:
            await self.store.within(subject.workspace).run(self._record_told, notice, subject, receipt, self.now())
            self._count(notice, NoticeStatus.SENT)
            log.info("notice.sent", notice=notice.id, kind=notice.kind, channel=notice.target.channel)

    def _operator_waits(self, connection: Connection, notice: StoredNotice) -> bool:
        """Operators may have quiet hours, where they are on record, and addresses that messages come back from."""
        now = self.now()
        contact = _contact(connection, notice)
        opens_at = contact.hours.opens_at(now) if contact is not None else now
        if contacts.bad_among(connection, [notice.target]):
            notices.settle(connection, [notice], NoticeStatus.DROPPED, reason=BAD_ADDRESS)
            return True
        if opens_at > now:
            reason = "quiet hours of its recipient"
            notices.settle(connection, [notice], NoticeStatus.PENDING, reason=reason, due_at=opens_at)
            return True
        return False

    def _record_told(
        self, connection: Connection, notice: StoredNotice, subject: Trouble | Storm, receipt: Receipt, now: datetime
    ) -> None:
        """It is sent; and if it was over by then, that is told as well."""
        if not notices.settle(connection, [notice], NoticeStatus.SENT, receipt=receipt, sent_at=now):
            return
        found = troubles.get if isinstance(subject, Trouble) else storms.get
        latest = found(connection, subject.id)
        if notice.kind in GOOD_NEWS or latest is None or latest.ended_at is None:
            return
        over = NoticeKind.TROUBLE_OVER if isinstance(subject, Trouble) else NoticeKind.STORM_OVER
        notices.write(connection, [notices.follow_up(notice, over, now)])

    async def _tell_machine(self, notice: StoredNotice) -> None:
        channel = await self._channel([notice])
        if channel is None or notice.content is None:
            return
        link = None
        if notice.incident_id and self.links is not None:
            link = await self.store.read(self._link_of_incident, notice.incident_id)
        receipt = await self._attempt(channel, [notice], notice.content, None, link)
        if receipt is not None:
            await self.store.alongside(notices.settle, [notice], NoticeStatus.SENT, receipt=receipt, sent_at=self.now())
            self._count(notice, NoticeStatus.SENT)

    def _link_of_incident(self, connection: Connection, incident_id: str) -> str | None:
        found = incidents.any_link(connection, incident_id)
        return self.links.url(found) if found is not None and self.links is not None else None

    async def _tell_person(self, batch: Batch) -> None:
        began = self.now()
        facts = await self.store.read(self._look_up, batch, began)
        verdicts = [cadence.verdict(one.notice.kind, began, one.situation) for one in facts]
        going = _going(batch, facts, verdicts)
        withheld = [one.notice for one in facts if one not in going]
        if withheld:
            await self._withhold(withheld, facts[0].account.account.workspace)
        if not going:
            return
        channel = await self._channel([one.notice for one in going])
        if channel is None:
            return
        if going[0].account.account.workspace not in self.providers:
            await self._finish(
                [one.notice for one in going], NoticeStatus.DEAD, "its workspace is no longer configured"
            )
            return
        if withheld:
            going = await self.store.alongside(_regrouped, going)
        ready = await self.store.read(self._made_ready, going)
        leader = ready.leader
        link = partial(self._link, leader) if leader.notice.kind in NEEDS_LINK else None
        first = ready.ending.first or leader.first
        receipt = await self._hand_over(channel, ready.notices, self._message(ready), first, link, ready.ending)
        if receipt is not None:
            await self._sent(ready, receipt, began)

    def _look_up(self, connection: Connection, batch: Batch, now: datetime) -> list[Facts]:
        contact = _contact(connection, batch.leader)
        may_hear_at = contact.hours.opens_at(now) if contact is not None else None
        bad = bool(contacts.bad_among(connection, [batch.leader.target]))
        return [self._facts(connection, notice, now, may_hear_at, bad_address=bad) for notice in batch.notices]

    def _below(self, notice: StoredNotice) -> str:
        least = self.severities.get(notice.target.channel, Severity.INFO)
        if notice.kind in GOOD_NEWS or SEVERITIES[notice.kind] >= least:
            return ""
        return f"its channel takes nothing below {least.name.lower()}"

    def _facts(
        self,
        connection: Connection,
        notice: StoredNotice,
        now: datetime,
        may_hear_at: datetime | None,
        *,
        bad_address: bool,
    ) -> Facts:
        account = _account_of(connection, notice)
        first = _first(connection, notice, (NoticeKind.OPENED, NoticeKind.ESCALATED))
        unreachable = BAD_ADDRESS if bad_address else NO_CONTACT if _is_let_go(connection, first or notice) else ""
        incident = incident_of(connection, notice)
        scope = profiles.get(connection, account.account.workspace, account.profile)
        storm = storms.get(connection, incident.storm_id) if incident is not None and incident.storm_id else None
        situation = Situation(
            open_incident=incident is not None and incident.resolved_at is None,
            expiring=account.account.state is State.EXPIRING,
            broken_again=account.account.state in BROKEN,
            paused=(account.account.paused and account.auto_paused_at is None)
            or (scope is not None and not scope.active),
            storm=storm is not None and storm.ended_at is None,
            unwanted=unreachable or self._below(notice),
            acknowledged_until=incident.acknowledged_until if incident else None,
            snoozed_until=incident.snoozed_until if incident else None,
            muted_until=account.muted_until,
            may_hear_at=may_hear_at,
            turn_at=self._turn_at(Case(connection, account, now), notice)
            if notice.kind is NoticeKind.ESCALATED
            else None,
        )
        repairs = self._repairs(connection, account) if notice.kind is NoticeKind.CHRONIC else ()
        failed = _failed_posts(connection, incident, now)
        return Facts(notice, account, incident, first, situation, scope, repairs, bool(unreachable), failed)

    def _turn_at(self, case: Case, notice: StoredNotice) -> datetime | None:
        """When the notice's level of the chain has its turn: those before it may have heard late, after a pause or a
        night. At once where none of them is left.
        """
        anybody, heard_at = notices.heard_before(case.connection, notice.incident_id or "", notice.level)
        plan = self.dispatch.plan(case)
        if not anybody or notice.level >= len(plan):
            return None
        after = plan[notice.level].after - plan[notice.level - 1].after
        return (heard_at or case.now) + after * ALMOST

    def _repairs(self, connection: Connection, account: StoredAccount) -> tuple[datetime, ...]:
        since = self.now() - self.cadence.chronic_within
        return tuple(incidents.repairs_since(connection, account.id, since))

    def _made_ready(self, connection: Connection, going: Sequence[Facts]) -> Ready:
        leader = going[0].notice
        contact = _contact(connection, leader)
        told: dict[str, None] = {}
        if leader.incident_id:
            others = notices.told(connection, leader.incident_id)
            keys = [one.contact for one in others if one.contact]
            names = {key: found.name for key, found in contacts.directory(connection, keys).contacts.items()}
            told = {
                names.get(one.contact) or one.target.address or one.target.channel: None
                for one in others
                if one.target != leader.target and one.contact != (leader.contact or None)
            }
        ending = _ending(connection, going) if leader.kind is NoticeKind.RESOLVED else Ending()
        return Ready(tuple(going), contact, tuple(told), ending)

    async def _reader(self, notice: StoredNotice) -> Reader:
        return self._reader_of(await self.store.read(_contact, notice))

    def _reader_of(self, contact: Contact | None) -> Reader:
        if contact is None:
            return Reader(language=self.language)
        return Reader(contact.name, contact.language or self.language, contact.hours.zone)

    async def _channel(self, sent: Sequence[StoredNotice]) -> Channel | None:
        """The channel that the message goes through; without one it has come to its end."""
        channel = self.channels.get(sent[0].target.channel)
        if channel is None:
            await self._finish(sent, NoticeStatus.DEAD, "its channel is no longer configured")
        return channel

    async def _hand_over(
        self,
        channel: Channel,
        sent: Sequence[StoredNotice],
        message: Message,
        first: StoredNotice | None,
        link: Callable[[], Awaitable[str]] | None = None,
        ending: Ending = Ending(),
    ) -> Receipt | None:
        """One attempt. The receipt, or ``None`` where it failed: then what follows from that has been recorded."""
        content = sent[0].content or await self._render(channel, sent, message, first)
        try:
            address = await link() if link else None
        except Retry as retry:
            await self._again(sent, retry)
            return None
        return await self._attempt(channel, sent, content, first, address, ending)

    async def _attempt(
        self,
        channel: Channel,
        sent: Sequence[StoredNotice],
        content: Content,
        first: StoredNotice | None,
        link: str | None,
        ending: Ending = Ending(),
    ) -> Receipt | None:
        notice = sent[0]
        if notice.lease_until is not None and self.now() > notice.lease_until - SENDING:
            raise LeaseLost
        delivery = Delivery(
            notice_id=notice.id,
            kind=notice.kind,
            target=notice.target,
            content=content,
            link=link,
            created_at=notice.created_at,
            thread=first.message_id if first else None,
            first=first.receipt if first else None,
            all_over=ending.all_over,
            also_over=ending.also_over,
        )
        try:
            return await channel.send(delivery)
        except Retry as retry:
            await self._again(sent, retry)
        except Dead as dead:
            await self._finish(sent, NoticeStatus.DEAD, dead.reason)
        except Exception as error:
            # How far it came before it failed nobody knows.
            log.exception("notice.failed", notice=notice.id, error=type(error).__name__)
            await self._again(sent, Retry(f"healthd failed on it: {type(error).__name__}", unknown=True))
        return None

    async def _render(
        self, channel: Channel, sent: Sequence[StoredNotice], message: Message, first: StoredNotice | None
    ) -> Content:
        with tracing.span("notice.render", kind=sent[0].kind, channel=sent[0].target.channel):
            content = channel.render(message)
        if not await self.store.alongside(_keep, sent, content, self.now(), first):
            raise LeaseLost
        return content

    def _message(self, ready: Ready) -> Notice:
        leader = ready.leader.notice
        needs_link = leader.kind in NEEDS_LINK
        shown = sorted(map(_account_facts, ready.facts), key=lambda one: one.broken_at)
        return Notice(
            id=leader.id,
            kind=leader.kind,
            step=leader.step,
            target=leader.target,
            workspace=ready.leader.account.account.workspace,
            accounts=tuple(shown[:LISTED]),
            more=max(0, len(shown) - LISTED),
            left=ready.ending.left,
            also_told=ready.also_told,
            created_at=leader.created_at,
            reader=self._reader_of(ready.contact),
            link=LINK if needs_link else None,
            link_minutes=DIRECT_LINK_MINUTES if needs_link and self.links is None else None,
            by_hand=self.by_hand,
        )

    async def _link(self, leader: Facts) -> str:
        if self.links is not None:
            first = leader.first.id if leader.first else leader.notice.id
            return self.links.url(incidents.link_id(first))
        account = leader.account
        try:
            async with asyncio.timeout(MINT_WITHIN):
                return await self.providers[account.account.workspace].mint(
                    account.account.ref, account.profile or None
                )
        except ProviderError as error:
            raise Retry(f"no link to be had: {error.kind}") from error
        except TimeoutError:
            raise Retry("no link to be had: the API's allowance is used up") from None

    async def _drop(self, notice: StoredNotice, reason: str) -> None:
        await self.store.alongside(notices.settle, [notice], NoticeStatus.DROPPED, reason=reason)
        self._count(notice, NoticeStatus.DROPPED)
        log.info("notice.withheld", notice=notice.id, status=NoticeStatus.DROPPED, reason=reason)

    async def _withhold(self, withheld: Sequence[StoredNotice], workspace: str) -> None:
        turn = self.store.within(workspace)
        for notice, outcome, reason in await turn.run(self._settle_withheld, withheld):
            self._count(notice, outcome)
            log.info("notice.withheld", notice=notice.id, status=outcome, reason=reason)

    def _settle_withheld(
        self, connection: Connection, withheld: Sequence[StoredNotice]
    ) -> list[tuple[StoredNotice, str, str]]:
        """Judged once more where nothing can change any longer: a hold whose end came meanwhile would last for ever."""
        now = self.now()
        outcomes = []
        for one in self._look_up(connection, Batch(withheld[0], tuple(withheld)), now):
            notice = one.notice
            verdict = cadence.verdict(notice.kind, now, one.situation)
            match verdict:
                case Send():
                    outcome, reason = NoticeStatus.PENDING, "true again"
                    mine = notices.settle(connection, [notice], outcome, due_at=now, ungroup=True)
                case Hold(until=None):
                    outcome, reason = NoticeStatus.HELD, verdict.reason
                    mine = notices.settle(
                        connection, [notice], outcome, reason=reason, holding=_holding(one), ungroup=True
                    )
                case Hold():
                    outcome, reason = NoticeStatus.PENDING, verdict.reason
                    # Its time to be tried begins then: a night is not a server that failed for a night.
                    dated = None if notice.may_have_arrived else verdict.until
                    mine = notices.settle(
                        connection, [notice], outcome, reason=reason, due_at=verdict.until, created_at=dated,
                        holding=Holding("muted") if reason == cadence.MUTED else None, ungroup=True,
                    )  # fmt: skip
                case Drop():
                    outcome, reason = NoticeStatus.DROPPED, verdict.reason
                    mine = self._settle_dropped(connection, one, verdict.reason, now)
            if mine:
                outcomes.append((notice, "waits" if outcome is NoticeStatus.PENDING else str(outcome), reason))
        decisions.note(connection, [decided(notice, what, reason, now) for notice, what, reason in outcomes])
        return outcomes

    def _settle_dropped(self, connection: Connection, one: Facts, reason: str, now: datetime) -> bool:
        notice, incident = one.notice, one.incident
        if not notices.settle(connection, [notice], NoticeStatus.DROPPED, reason=reason, ungroup=True):
            return False
        if incident is None or notice.kind not in TELLS_OF_TROUBLE:
            return True
        case = Case(connection, one.account, now)
        if one.unreachable and one.situation.open_incident:
            self.dispatch.unreached(case, incident, notice, reason)
        # An earlier attempt may have reached its reader without our knowing: then the good news is owed too.
        if notice.may_have_arrived:
            self._owe_good_news(case, incident, notice)
        return True

    async def _again(self, sent: Sequence[StoredNotice], retry: Retry) -> None:
        notice = sent[0]
        due = cadence.retry_at(notice.attempts, notice.created_at, self.now(), self.cadence, self.rng, retry.after)
        if due is None:
            await self._finish(sent, NoticeStatus.DEAD, f"given up: {retry.reason}", unknown=retry.unknown)
            return
        doubtful = retry.unknown or notice.may_have_arrived
        await self.store.alongside(
            notices.settle, sent, NoticeStatus.PENDING, reason=retry.reason, due_at=due, doubtful=doubtful
        )
        self._count(notice, "retry")
        log.warning(
            "notice.retry", notice=notice.id, channel=notice.target.channel, reason=retry.reason, due_at=due.isoformat()
        )

    async def _finish(
        self, sent: Sequence[StoredNotice], status: NoticeStatus, reason: str, *, unknown: bool = False
    ) -> None:
        account = await self.store.read(account_of, sent[0])
        turn = self.store.within(account.account.workspace) if account is not None else self.store
        await turn.run(self._settle_finished, sent, status, reason, unknown)
        for notice in sent:
            self._count(notice, status)
        log.error("notice.dead", notice=sent[0].id, channel=sent[0].target.channel, reason=reason)

    def _settle_finished(
        self, connection: Connection, sent: Sequence[StoredNotice], status: NoticeStatus, reason: str, unknown: bool
    ) -> None:
        """It will not arrive: whoever comes next in the chain is told now."""
        now = self.now()
        doubtful = unknown or sent[0].may_have_arrived
        if not notices.settle(connection, sent, status, reason=reason, doubtful=doubtful):
            return
        decisions.note(connection, [decided(notice, str(status), reason, now) for notice in sent])
        for notice in sent:
            incident = incident_of(connection, notice)
            if incident is None or notice.kind not in TELLS_OF_TROUBLE:
                continue
            case = Case(connection, _account_of(connection, notice), now)
            if incident.resolved_at is None:
                self.dispatch.unreached(case, incident, notice, reason)
            elif doubtful:
                self._owe_good_news(case, incident, notice)

    async def _sent(self, ready: Ready, receipt: Receipt, began: datetime) -> None:
        now = self.now()
        leader = ready.leader.notice
        turn = self.store.within(ready.leader.account.account.workspace)
        steps = await turn.run(self._record, ready, receipt, began, now)
        if steps is None:
            log.warning("notice.lease_lost", notice=leader.id)
            return
        self.metrics.came_so_far(steps)
        for one in ready.facts:
            self._count(one.notice, NoticeStatus.SENT)
            if one.notice.kind is NoticeKind.OPENED and one.incident is not None:
                span = max(now - one.incident.opened_at, timedelta(0))
                self.metrics.time_to_notify.labels(one.notice.target.channel).observe(span.total_seconds())
        log.info(
            "notice.sent", notice=leader.id, kind=leader.kind, channel=leader.target.channel,
            incident=leader.incident_id, accounts=len(ready.facts),
        )  # fmt: skip

    def _record(
        self, connection: Connection, ready: Ready, receipt: Receipt, began: datetime, now: datetime
    ) -> list[Step] | None:
        """One transaction: it is sent, and what follows from that for each of its accounts."""
        if not notices.settle(connection, ready.notices, NoticeStatus.SENT, receipt=receipt, sent_at=now):
            return None
        others = f", with {len(ready.facts) - 1} other(s) in one message" if len(ready.facts) > 1 else ""
        for one in ready.facts:
            why = f"{one.notice.why or 'told of the beginning'}{others}"
            decisions.note(connection, [decided(one.notice, "sent", why, now)])
            self._follow_up(connection, one, began, now)
        told = [one.incident.id for one in ready.facts if one.incident and one.notice.kind in TELLS_OF_TROUBLE]
        return incidents.reached(connection, "told", told, now)

    def _follow_up(self, connection: Connection, one: Facts, began: datetime, now: datetime) -> None:
        notice = one.notice
        incident = incident_of(connection, notice)
        if incident is None or notice.kind not in NEEDS_LINK:
            return
        case = Case(connection, one.account, now)
        if incident.resolved_at is None:
            if notice.kind is not NoticeKind.WRONG_ACCOUNT:
                first = one.first.created_at if one.first else notice.created_at
                start = incident.opened_at if notice.level == 0 else first
                self.dispatch.remind(case, incident, notice, start, began)
            if notice.kind in EVENTS:
                self.dispatch.emit(case, EVENTS[notice.kind], incident, notice)
        elif notice.kind in TELLS_OF_TROUBLE:
            self._owe_good_news(case, incident, notice)

    def _owe_good_news(self, case: Case, incident: Incident, notice: StoredNotice) -> None:
        """The repair was committed while this notice was on its way: its reader is told of it after all."""
        if incident.resolution is Resolution.REPAIRED:
            self.dispatch.good_news(case, incident, notice)

    def _count(self, notice: StoredNotice, outcome: str) -> None:
        self.metrics.notices.labels(notice.target.channel, notice.kind, outcome).inc()
        tracing.outcome(outcome)
        self.publish(() if notice.account_id is None else (notice.account_id,))


def _traced(batch: Batch) -> AbstractContextManager[str | None]:
    """The sending belongs to the trace that it follows from. What is due days later has a trace of its own, with a link
    to that one; and so has what else goes out in the same message.
    """
    notice = batch.leader
    followed = [one.trace for one in batch.notices if one.trace]
    parent = notice.trace if notice.kind not in LATER else None
    return tracing.span(
        "notice.send",
        kind=notice.kind,
        channel=notice.target.channel,
        parent=parent,
        links=[trace for trace in followed if trace != parent],
    )


def _contact(connection: Connection, notice: StoredNotice) -> Contact | None:
    """Whose address the notice goes to, where that is on record."""
    found = contacts.get(connection, notice.contact) if notice.contact else None
    return None if found is None else found.contact


def _question(account: StoredAccount, scope: profiles.Scope | None) -> Question:
    named = scope if account.profile else None
    return Question(
        account.account.workspace, account.account.ref, account.account.platform, account.name, account.username,
        account.profile, named.external_id if named else None, named.name if named else "",
    )  # fmt: skip


def _account_of(connection: Connection, notice: StoredNotice) -> StoredAccount:
    account = account_of(connection, notice)
    if account is None:
        raise LookupError(f"notice {notice.id} is about an account that is not in the store")
    return account


def _is_let_go(connection: Connection, first: StoredNotice) -> bool:
    """Whether its recipient was taken out of the contacts since their conversation began."""
    if first.incident_id is None or first.kind not in TELLS_OF_TROUBLE:
        return False
    link = incidents.link(connection, incidents.link_id(first.id))
    return link is not None and link.revoked_at is not None


def _failed_posts(connection: Connection, incident: Incident | None, now: datetime) -> int:
    """Posts that failed while the account was broken. The provider's clock may be a little ahead of ours."""
    if incident is None:
        return 0
    until = incident.resolved_at or now + machine.CLOCKS_DIFFER
    return post_failures.between(connection, incident.account_id, incident.broken_at, until)


def _first(connection: Connection, notice: StoredNotice, kinds: Sequence[NoticeKind]) -> StoredNotice | None:
    """The notice that began the conversation in which this one stands, unless it is that one."""
    for kind in kinds:
        first_id = notices.notice_id(notice.subject, notice.target, kind, 0)
        if first_id == notice.id:
            return None
        if (found := notices.get(connection, first_id)) is not None:
            return found
    return None


def _ending(connection: Connection, going: Sequence[Facts]) -> Ending:
    """Looks at the messages that began what is over now."""
    firsts = {one.first.message_id: one.first for one in going if one.first is not None}
    left = {message: notices.still_broken(connection, message) for message in firsts}
    first = min(firsts.values(), key=lambda one: (one.sent_at or one.created_at, one.id), default=None)
    leading = first.message_id if first is not None else ""
    over = tuple(
        one.receipt for message, one in firsts.items() if message != leading and not left[message] and one.receipt
    )
    return Ending(first, sum(left.values()), not left.get(leading, 0), over)


def _keep(
    connection: Connection, sent: Sequence[StoredNotice], content: Content, now: datetime, first: StoredNotice | None
) -> bool:
    """What will be sent is on disk before it is, and its link leads to all accounts that it names. False when the lease
    was lost meanwhile.
    """
    if not notices.keep_content(connection, sent, content, now):
        return False
    named = [one.incident_id for one in sent if one.incident_id]
    if sent[0].kind in NEEDS_LINK and len(named) > 1:
        incidents.cover(connection, incidents.link_id((first or sent[0]).id), named)
    return True


def _going(batch: Batch, facts: Sequence[Facts], verdicts: Sequence[Send | Hold | Drop]) -> list[Facts]:
    """Those of a batch that are sent now. What may have arrived already is repeated as it was, or not at all."""
    going = [one for one, verdict in zip(facts, verdicts, strict=True) if isinstance(verdict, Send)]
    return list(facts) if going and batch.leader.content is not None and batch.leader.may_have_arrived else going


def _regrouped(connection: Connection, going: Sequence[Facts]) -> list[Facts]:
    """Some of a message that nobody has got are no longer true: the others make a new one."""
    fresh = notices.regroup(connection, [one.notice for one in going])
    return [replace(one, notice=notice) for one, notice in zip(going, fresh, strict=True)]


def _holding(one: Facts) -> Holding:
    if one.situation.paused:
        return Holding("paused")
    return Holding("storm", one.incident.storm_id or "") if one.incident is not None else Holding("paused")


def _account_facts(one: Facts) -> AccountFacts:
    account, incident = one.account.account, one.incident
    return AccountFacts(
        ref=account.ref,
        platform=account.platform,
        name=one.account.name,
        username=one.account.username,
        profile=(one.profile.name or one.account.profile) if one.profile and one.account.profile else None,
        cause=incident.cause if incident else Cause.TOKEN,
        unconfirmed=incident is not None and incident.confirmed_at is None,
        broken_at=incident.broken_at if incident else one.notice.created_at,
        resolved_at=incident.resolved_at if incident else None,
        validity_days=account.validity_days,
        repaired_at=one.repairs,
        failed_posts=one.failed_posts,
    )
