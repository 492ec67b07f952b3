"""The outbox: notices written with the state they tell of, claimed by lease, and recorded when handed over.

Several notices of one recipient may go out as one message. The first of them leads: its id is the message's, and the
others carry it as ``group_id``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Select, and_, bindparam, exists, func, null, or_, select, text, update

from healthd import tracing
from healthd.core.cadence import Cadence
from healthd.core.model import TELLS_OF_TROUBLE, NoticeKind, NoticeStatus, Target
from healthd.core.routing import Recipient
from healthd.store.accounts import chunked
from healthd.store.schema import HELD, IN_WORK, OPEN, Time, accounts, incidents, notices
from healthd.store.words import Later, upsert

WAITING = (NoticeStatus.PENDING, NoticeStatus.HELD)
MOST_IN_ONE = 1000
"""Notices that one message may be about; whatever else is due makes the next."""


HOLDS = ("paused", "storm", "chronic", "nobody", "muted")


@dataclass(frozen=True, slots=True)
class Holding:
    """What keeps a notice back until something releases it: one of ``HOLDS``. ``ref`` names which one, such as the
    storm's id.
    """

    kind: str
    ref: str = ""
    reason: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.ref}" if self.ref else self.kind


@dataclass(frozen=True, slots=True)
class Draft:
    """A notice that is to be written. ``contact`` is whose address it is, ``family`` what may go into one message with
    it, ``level`` its place in the chain of those responsible, ``why`` the rule that names its recipient.
    """

    subject: str
    kind: NoticeKind
    target: Target
    created_at: datetime
    due_at: datetime
    contact: str = ""
    incident_id: str | None = None
    account_id: int | None = None
    trouble_id: str | None = None
    storm_id: str | None = None
    family: str = ""
    step: int = 0
    level: int = 0
    why: str = ""
    holding: Holding | None = None
    content: Mapping[str, str] | None = None
    trace: str | None = field(default_factory=tracing.current)


@dataclass(frozen=True, slots=True)
class StoredNotice:
    """``created_at`` is when the notice is first due, and dates the message. ``lease`` is set while an attempt is under
    way; ``may_have_arrived`` when the outcome of an earlier one is not known.
    """

    id: str
    subject: str
    incident_id: str | None
    account_id: int | None
    trouble_id: str | None
    storm_id: str | None
    kind: NoticeKind
    step: int
    level: int
    target: Target
    contact: str
    family: str
    why: str
    status: NoticeStatus
    reason: str | None
    hold: str | None
    created_at: datetime
    due_at: datetime
    attempts: int
    content: Mapping[str, str] | None
    receipt: Mapping[str, str] | None
    rendered_at: datetime | None
    sent_at: datetime | None
    group_id: str | None = None
    lease: str | None = None
    lease_until: datetime | None = None
    may_have_arrived: bool = False
    trace: str | None = None

    @property
    def message_id(self) -> str:
        """The id of the message that it goes out in."""
        return self.group_id or self.id


@dataclass(frozen=True, slots=True)
class Batch:
    """Notices that one message is about, its leader first."""

    leader: StoredNotice
    notices: tuple[StoredNotice, ...]


def notice_id(subject: str, target: Target, kind: NoticeKind, step: int) -> str:
    """The same notice has the same id wherever and whenever it is written: it is what makes a repeat recognisable."""
    words = "\x1f".join((subject, target.channel, target.address, kind, str(step)))
    return hashlib.sha256(words.encode()).hexdigest()[:24]


def _notice(row: Row[Any]) -> StoredNotice:
    return StoredNotice(
        id=row.id,
        subject=row.subject,
        incident_id=row.incident_id,
        account_id=row.account_id,
        trouble_id=row.trouble_id,
        storm_id=row.storm_id,
        kind=NoticeKind(row.kind),
        step=row.step,
        level=row.level,
        target=Target(row.channel, row.address),
        contact=row.contact,
        family=row.family,
        why=row.why,
        status=NoticeStatus(row.status),
        reason=row.reason,
        hold=row.hold,
        created_at=row.created_at,
        due_at=row.due_at,
        attempts=row.attempts,
        content=orjson.loads(row.content) if row.content else None,
        receipt=orjson.loads(row.receipt) if row.receipt else None,
        rendered_at=row.rendered_at,
        sent_at=row.sent_at,
        group_id=row.group_id,
        lease=row.lease,
        lease_until=row.lease_until,
        may_have_arrived=row.doubtful,
        trace=row.trace,
    )


_WRITE = upsert(notices).on_conflict_do_nothing()


def write(connection: Connection, drafts: Sequence[Draft]) -> int:
    """Writes notices; one that was written before stays as it is. Returns how many are new."""
    return connection.execute(_WRITE, [_row(draft) for draft in drafts]).rowcount if drafts else 0


def _row(draft: Draft) -> dict[str, Any]:
    holding = draft.holding
    return {
        "id": notice_id(draft.subject, draft.target, draft.kind, draft.step),
        "subject": draft.subject,
        "incident_id": draft.incident_id,
        "account_id": draft.account_id,
        "trouble_id": draft.trouble_id,
        "storm_id": draft.storm_id,
        "kind": draft.kind,
        "step": draft.step,
        "level": draft.level,
        "channel": draft.target.channel,
        "address": draft.target.address,
        "contact": draft.contact,
        "family": draft.family,
        "why": draft.why,
        "status": NoticeStatus.HELD if holding else NoticeStatus.PENDING,
        "hold": holding.key if holding else None,
        "reason": (holding.reason or holding.kind) if holding else None,
        "created_at": draft.created_at,
        "due_at": draft.due_at,
        "content": orjson.dumps(dict(draft.content)).decode() if draft.content is not None else None,
        "trace": draft.trace,
    }


def follow_up(notice: StoredNotice, kind: NoticeKind, now: datetime) -> Draft:
    """What is told to the same recipient about the same subject, now."""
    return Draft(
        subject=notice.subject, kind=kind, target=notice.target, contact=notice.contact, created_at=now, due_at=now,
        incident_id=notice.incident_id, account_id=notice.account_id, trouble_id=notice.trouble_id,
        storm_id=notice.storm_id, family=notice.family, level=notice.level, why=notice.why,
    )  # fmt: skip


GROUPED = frozenset(
    {NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.ESCALATED, NoticeKind.RESOLVED, NoticeKind.EXPIRING}
)
_TO = and_(notices.c.channel == bindparam("channel_"), notices.c.address == bindparam("address_"))
_leader = notices.alias("leader")
_DUE = (
    select(notices)
    .where(
        text(IN_WORK),
        notices.c.due_at <= bindparam("now"),
        or_(notices.c.lease_until.is_(None), notices.c.lease_until <= bindparam("now")),
        or_(
            notices.c.group_id.is_(None),
            notices.c.group_id == notices.c.id,
            # The leader has come to its own end, or is kept back: the others go without it.
            ~exists().where(
                _leader.c.id == notices.c.group_id,
                _leader.c.group_id == notices.c.group_id,
                _leader.c.status.in_((NoticeStatus.PENDING, NoticeStatus.SENDING)),
            ),
        ),
        notices.c.channel.not_in(bindparam("skip", expanding=True)),
    )
    .order_by(notices.c.due_at, notices.c.id)
    .limit(bindparam("most"))
    # What a transaction of somebody else is changing waits for the next claim.
    .with_for_update(of=notices, skip_locked=True)
)
_COMPANIONS = (
    select(notices)
    .where(
        text(IN_WORK),
        _TO,
        notices.c.kind == bindparam("kind_"),
        notices.c.status == NoticeStatus.PENDING,
        notices.c.group_id.is_(None),
        notices.c.content.is_(None),
        notices.c.due_at <= bindparam("horizon"),
    )
    .order_by(notices.c.due_at, notices.c.id)
    .limit(MOST_IN_ONE)
    .with_for_update(skip_locked=True)
)
_OF_GROUP = notices.c.group_id == bindparam("group")
_GROUP = (
    select(notices.c.id, notices.c.status, notices.c.doubtful)
    .where(_OF_GROUP)
    .order_by(notices.c.due_at, notices.c.id)
    .with_for_update(skip_locked=True)
)
_GROUP_SIZE = select(func.count()).select_from(notices).where(_OF_GROUP)
_UNGROUP = (
    update(notices)
    .where(notices.c.id.in_(bindparam("ids", expanding=True)))
    .values(group_id=null(), content=null(), rendered_at=null())
)
_TAKE = (
    update(notices)
    .where(notices.c.id.in_(bindparam("ids", expanding=True)))
    .values(
        # What was being sent when its sender was lost may have arrived.
        doubtful=or_(
            notices.c.doubtful, and_(notices.c.status == NoticeStatus.SENDING, notices.c.rendered_at.is_not(None))
        ),
        status=NoticeStatus.SENDING,
        lease=bindparam("lease_"),
        lease_until=bindparam("until"),
        attempts=notices.c.attempts + 1,
        group_id=bindparam("group"),
    )
    .returning(notices)
)


def claim(
    connection: Connection,
    now: datetime,
    lease: str,
    until: datetime,
    limit: int,
    skip: Collection[str],
    cadence: Cadence,
    apart: Collection[NoticeKind] = (),
) -> list[Batch]:
    """Takes due notices, and those whose sender has not come back within its lease, but none of the channels to be
    skipped; with each come those that belong into the same message. Notices of the kinds ``apart`` go alone.
    """
    due = connection.execute(_DUE, {"now": now, "skip": list(skip), "most": limit}).all()
    taken: set[str] = set()
    batches = []
    for row in due:
        if row.id in taken:
            continue
        together = [row.id] if row.kind in apart else _together(connection, row, now, cadence)
        ids = [one for one in together if one not in taken]
        if not ids:
            continue
        taken.update(ids)
        group = ids[0] if len(ids) > 1 else None
        found: dict[str, StoredNotice] = {}
        for chunk in chunked(ids):
            facts = {"ids": chunk, "lease_": lease, "until": until, "group": group}
            found.update({one.id: _notice(one) for one in connection.execute(_TAKE, facts)})
        batches.append(Batch(found[ids[0]], tuple(found[one] for one in ids)))
    return batches


def _together(connection: Connection, first: Row[Any], now: datetime, cadence: Cadence) -> list[str]:
    """The ids of what goes into one message with a notice that is due, the one that leads it first."""
    if first.group_id is not None:
        return _still_together(connection, first.group_id)
    if (
        first.kind not in GROUPED
        or first.content is not None
        or first.status != NoticeStatus.PENDING
        or not first.family
    ):
        return [first.id]
    soon = cadence.group_wait if first.kind in TELLS_OF_TROUBLE else cadence.group_interval
    asked = {"channel_": first.channel, "address_": first.address, "kind_": first.kind, "horizon": now + soon}
    place = first.family.partition("/")[0]
    others = [row for row in connection.execute(_COMPANIONS, asked) if row.family.partition("/")[0] == place]
    if len({row.family for row in others}) <= cadence.digest_above:
        others = [row for row in others if row.family == first.family]
    return [first.id, *(row.id for row in others if row.id != first.id)]


def _still_together(connection: Connection, group: str) -> list[str]:
    """The ids of a message's notices, its leader's first. What may have arrived is repeated as it was; of what has not,
    those that came to an end of their own are left out, and the others are put into words anew. None while somebody
    else's transaction is changing one of them.
    """
    rows = connection.execute(_GROUP, {"group": group}).all()
    if len(rows) < connection.execute(_GROUP_SIZE, {"group": group}).scalar_one():
        return []
    left = [row.id for row in rows if row.doubtful or row.status in {*WAITING, NoticeStatus.SENDING}]
    left.sort(key=lambda one: one != group)
    if len(left) < len(rows) or left[0] != group:
        for chunk in chunked(row.id for row in rows):
            connection.execute(_UNGROUP, {"ids": chunk})
    return left


_RELEASE_LEASES = (
    update(notices).where(text(IN_WORK), notices.c.status == NoticeStatus.SENDING).values(lease_until=null())
)


def release_leases(connection: Connection) -> int:
    """At the start of the only daemon on this store: whatever an earlier process was sending is due again at once."""
    return connection.execute(_RELEASE_LEASES).rowcount


_KEEP = (
    update(notices)
    .where(notices.c.id == bindparam("wanted"), notices.c.lease.is_not_distinct_from(bindparam("mine")))
    .values(content=bindparam("content_"), rendered_at=bindparam("now"))
)
_RENDERED = (
    update(notices).where(notices.c.id.in_(bindparam("ids", expanding=True))).values(rendered_at=bindparam("now"))
)


def keep_content(
    connection: Connection, sent: Sequence[StoredNotice], content: Mapping[str, str], now: datetime
) -> bool:
    """Commits what will be sent, before it is sent: every later attempt sends the same. The leader keeps it, and its
    link leads to all accounts of the message. False when the lease was lost meanwhile.
    """
    leader, *others = sent
    encoded = orjson.dumps(dict(content)).decode()
    mine = {"wanted": leader.id, "content_": encoded, "now": now, "mine": leader.lease}
    if not connection.execute(_KEEP, mine).rowcount:
        return False
    for chunk in chunked(one.id for one in others):
        connection.execute(_RENDERED, {"ids": chunk, "now": now})
    return True


def regroup(connection: Connection, members: Sequence[StoredNotice]) -> list[StoredNotice]:
    """Makes a new message of these, the first of them leading. What an earlier one said is forgotten."""
    group = members[0].id if len(members) > 1 else None
    for chunk in chunked(one.id for one in members):
        connection.execute(
            update(notices).where(notices.c.id.in_(chunk)).values(group_id=group, content=None, rendered_at=None)
        )
    return [replace(one, group_id=group, content=None, rendered_at=None) for one in members]


def settle(
    connection: Connection,
    sent: Sequence[StoredNotice],
    status: NoticeStatus,
    *,
    reason: str | None = None,
    due_at: datetime | None = None,
    created_at: datetime | None = None,
    receipt: Mapping[str, str] | None = None,
    sent_at: datetime | None = None,
    holding: Holding | None = None,
    doubtful: bool | None = None,
    ungroup: bool = False,
) -> bool:
    """Ends an attempt of one message. False when the lease was lost meanwhile: then another sender has it, and this
    one's word no longer counts. ``ungroup`` takes the notices out of their message, unless that may have arrived.
    """
    values: dict[str, Any] = {
        "status": status, "reason": reason, "lease": None, "lease_until": None, "hold": holding.key if holding else None
    }  # fmt: skip
    optional = {"due_at": due_at, "created_at": created_at, "sent_at": sent_at, "doubtful": doubtful}
    values |= {name: value for name, value in optional.items() if value is not None}
    if receipt is not None:
        values["receipt"] = orjson.dumps(dict(receipt)).decode()
    if ungroup and not sent[0].may_have_arrived:
        values |= {"group_id": None, "content": None, "rendered_at": None}
    touched = 0
    for chunk in chunked(one.id for one in sent):
        mine = (notices.c.id.in_(chunk), notices.c.lease == sent[0].lease)
        touched += connection.execute(update(notices).where(*mine).values(values)).rowcount
    return touched > 0


_DROP_WAITING = (
    update(notices)
    .where(
        notices.c.incident_id == bindparam("incident"),
        notices.c.status.in_(WAITING),
        notices.c.kind.not_in((NoticeKind.RESOLVED, NoticeKind.EVENT)),
    )
    .values(status=NoticeStatus.DROPPED, reason=bindparam("why_"), hold=null())
    .returning(notices)
)


def drop_waiting(connection: Connection, incident_id: str, reason: str) -> list[StoredNotice]:
    """Withdraws what has not been sent of an incident that is over."""
    return [_notice(row) for row in connection.execute(_DROP_WAITING, {"incident": incident_id, "why_": reason})]


_NOW_OR_LATER = Later(notices.c.due_at, bindparam("now", type_=Time()), Time())
_LET_GO = {
    "status": NoticeStatus.PENDING,
    "due_at": _NOW_OR_LATER,
    "created_at": _NOW_OR_LATER,
    "reason": null(),
    "hold": null(),
}
_RELEASE_PAUSED = (
    update(notices)
    .where(text(HELD), notices.c.hold == "paused", notices.c.account_id.in_(bindparam("accounts", expanding=True)))
    .values(_LET_GO)
)
_RELEASE = update(notices).where(text(HELD), notices.c.hold == bindparam("key")).values(_LET_GO).returning(notices)
_RELEASE_INCIDENT = (
    update(notices)
    .where(text(HELD), notices.c.incident_id == bindparam("incident"), notices.c.channel != "")
    .values(_LET_GO)
)


_HELD_AS_PAUSED = (
    select(accounts.c.ref)
    .join_from(notices, accounts, accounts.c.id == notices.c.account_id)
    .where(text(HELD), notices.c.hold == "paused", accounts.c.workspace == bindparam("workspace"))
    .distinct()
)


def held_as_paused(connection: Connection, workspace: str) -> list[str]:
    """Refs of the accounts of which notices are held because they, or their profile, were paused."""
    return list(connection.execute(_HELD_AS_PAUSED, {"workspace": workspace}).scalars())


def release_held(connection: Connection, account_ids: Iterable[int], now: datetime) -> int:
    """Lets notices go that were held because these accounts were paused; each is asked once more whether it is still
    true.
    """
    return sum(
        connection.execute(_RELEASE_PAUSED, {"accounts": chunk, "now": now}).rowcount for chunk in chunked(account_ids)
    )


def release(connection: Connection, holding: Holding, now: datetime) -> list[StoredNotice]:
    """Lets everything go that this kept back."""
    return [_notice(row) for row in connection.execute(_RELEASE, {"key": holding.key, "now": now})]


def release_incident(connection: Connection, incident_id: str, now: datetime) -> int:
    """Lets go whatever of this incident is kept back."""
    return connection.execute(_RELEASE_INCIDENT, {"incident": incident_id, "now": now}).rowcount


_WAKE = (
    update(notices)
    .where(
        notices.c.incident_id == bindparam("incident"),
        notices.c.status == NoticeStatus.PENDING,
        notices.c.due_at > bindparam("now"),
        notices.c.attempts > 0,
        notices.c.content.is_(None),
        notices.c.group_id.is_(None),
    )
    .values(due_at=bindparam("now"), created_at=bindparam("now"))
)


def wake(connection: Connection, incident_id: str, now: datetime) -> int:
    """Asks once more, now, about what was put off although it was due."""
    return connection.execute(_WAKE, {"incident": incident_id, "now": now}).rowcount


_WAKE_MUTED = (
    update(notices)
    .where(
        notices.c.account_id == bindparam("account"),
        notices.c.status == NoticeStatus.PENDING,
        notices.c.hold == "muted",
        notices.c.due_at > bindparam("then"),
    )
    .values(due_at=bindparam("then"), created_at=bindparam("then"))
)


def wake_muted(connection: Connection, account_id: int, then: datetime) -> int:
    """What was put off because the account is muted is asked about at that time, if not before. How much that is."""
    return connection.execute(_WAKE_MUTED, {"account": account_id, "then": then}).rowcount


_OF_STORM = select(incidents.c.id).where(incidents.c.storm_id == bindparam("storm"), text(OPEN))
_HOLD_STORM = (
    update(notices)
    .where(
        notices.c.incident_id.in_(_OF_STORM),
        notices.c.status == NoticeStatus.PENDING,
        notices.c.kind == NoticeKind.OPENED,
    )
    .values(status=NoticeStatus.HELD, hold=bindparam("key"), reason=bindparam("why_"))
    .returning(notices)
)
_CANCEL_STORM = (
    update(notices)
    .where(
        notices.c.incident_id.in_(_OF_STORM),
        notices.c.status.in_(WAITING),
        notices.c.kind.in_((NoticeKind.OPENED, NoticeKind.ESCALATED)),
    )
    .values(status=NoticeStatus.DROPPED, hold=null(), reason=bindparam("why_"))
    .returning(notices)
)


def hold_storm(connection: Connection, holding: Holding) -> list[StoredNotice]:
    """Keeps back what is waiting to be told of a storm's incidents; ``holding`` names the storm."""
    facts = {"storm": holding.ref, "key": holding.key, "why_": holding.reason}
    return [_notice(row) for row in connection.execute(_HOLD_STORM, facts)]


def cancel_storm(connection: Connection, storm_id: str, reason: str) -> list[StoredNotice]:
    """Withdraws what was kept back of a storm's incidents, and what would follow from it."""
    return [_notice(row) for row in connection.execute(_CANCEL_STORM, {"storm": storm_id, "why_": reason})]


_RENEW = (
    update(notices)
    .where(notices.c.subject == bindparam("about"), notices.c.status == NoticeStatus.DROPPED)
    .values(_LET_GO)
)


def renew_dropped(connection: Connection, subject: str, now: datetime) -> int:
    """Notices that were withdrawn because they were no longer true, and are true again."""
    return connection.execute(_RENEW, {"about": subject, "now": now}).rowcount


_WITHDRAW = (
    update(notices)
    .where(notices.c.subject == bindparam("about"), notices.c.status.in_(WAITING))
    .values(status=NoticeStatus.DROPPED, reason=bindparam("why_"), hold=null())
)
_TOLD_ABOUT = select(notices.c.channel, notices.c.address, notices.c.contact).where(
    notices.c.subject == bindparam("about"),
    or_(notices.c.status == NoticeStatus.SENT, notices.c.doubtful),
)


def withdraw(connection: Connection, subject: str, reason: str) -> list[Recipient]:
    """Drops what has not been sent about a subject. Returns who was, or may have been, told of it."""
    connection.execute(_WITHDRAW, {"about": subject, "why_": reason})
    told = connection.execute(_TOLD_ABOUT, {"about": subject})
    return [Recipient(Target(row.channel, row.address), row.contact) for row in told]


_TOLD = (
    select(notices)
    .where(
        notices.c.incident_id == bindparam("incident"),
        notices.c.kind.in_(TELLS_OF_TROUBLE),
        or_(notices.c.status == NoticeStatus.SENT, notices.c.doubtful),
    )
    .order_by(notices.c.level, notices.c.id)
)


def told(connection: Connection, incident_id: str) -> list[StoredNotice]:
    """What was, or may have been, handed over of the beginning of this incident: one notice for each recipient."""
    found: dict[Target, StoredNotice] = {}
    for row in connection.execute(_TOLD, {"incident": incident_id}):
        notice = _notice(row)
        found.setdefault(notice.target, notice)
    return list(found.values())


def told_through(connection: Connection, incident_id: str, target: str) -> StoredNotice | None:
    """What this recipient, written as ``channel:address``, was told of the beginning of the incident."""
    return next((one for one in told(connection, incident_id) if one.target.key == target), None)


_STILL_BROKEN = (
    select(func.count(incidents.c.id.distinct()))
    .select_from(notices.join(incidents, incidents.c.id == notices.c.incident_id))
    .where(
        notices.c.group_id == bindparam("message"),
        incidents.c.resolved_at.is_(None),
        incidents.c.id != bindparam("but"),
    )
)


def still_broken(connection: Connection, message_id: str, but: str = "") -> int:
    """How many accounts of one message are broken still, leaving out one incident."""
    return connection.execute(_STILL_BROKEN, {"message": message_id, "but": but}).scalar_one()


_LAST_SENT = select(func.max(notices.c.sent_at, type_=notices.c.sent_at.type)).where(
    _TO, notices.c.family == bindparam("family_"), notices.c.kind == bindparam("kind_")
)


def last_sent(connection: Connection, target: Target, family: str, kind: NoticeKind) -> datetime | None:
    """When this recipient last got such a message about this family."""
    asked = {"channel_": target.channel, "address_": target.address, "family_": family, "kind_": kind}
    return connection.execute(_LAST_SENT, asked).scalar()


_ALIVE = ("pending", "sending", "sent", "held")
_ANYBODY_LEFT = select(
    exists().where(
        notices.c.incident_id == bindparam("incident"),
        notices.c.kind.in_(TELLS_OF_TROUBLE),
        notices.c.level <= bindparam("upto"),
        notices.c.status.in_(_ALIVE),
    )
)
_HEARD_BEFORE = select(func.count(), func.min(notices.c.sent_at, type_=notices.c.sent_at.type)).where(
    notices.c.incident_id == bindparam("incident"),
    notices.c.kind.in_(TELLS_OF_TROUBLE),
    notices.c.level < bindparam("below"),
    notices.c.status.in_(_ALIVE),
)
_NEXT_LEVEL = select(func.min(notices.c.level)).where(
    notices.c.incident_id == bindparam("incident"),
    notices.c.kind == NoticeKind.ESCALATED,
    notices.c.status == NoticeStatus.PENDING,
    notices.c.level > bindparam("beyond"),
)
_BRING_FORWARD = (
    update(notices)
    .where(
        notices.c.incident_id == bindparam("incident"),
        notices.c.kind == NoticeKind.ESCALATED,
        notices.c.status == NoticeStatus.PENDING,
        notices.c.level == bindparam("at_level"),
        notices.c.due_at > bindparam("now"),
    )
    .values(due_at=bindparam("now"), created_at=bindparam("now"))
)


def anybody_left(connection: Connection, incident_id: str, level: int) -> bool:
    """Whether somebody up to this level of the chain has been, or is still to be, told."""
    return bool(connection.execute(_ANYBODY_LEFT, {"incident": incident_id, "upto": level}).scalar())


def heard_before(connection: Connection, incident_id: str, level: int) -> tuple[bool, datetime | None]:
    """Whether anybody before this level of the chain is, or may still be, told, and when the first of them was."""
    alive, first = connection.execute(_HEARD_BEFORE, {"incident": incident_id, "below": level}).one()
    return bool(alive), first


def bring_forward(connection: Connection, incident_id: str, level: int, now: datetime) -> int:
    """The next level of the chain is told now; how many recipients that is."""
    upcoming = connection.execute(_NEXT_LEVEL, {"incident": incident_id, "beyond": level}).scalar()
    if upcoming is None:
        return 0
    facts = {"incident": incident_id, "at_level": upcoming, "now": now}
    return connection.execute(_BRING_FORWARD, facts).rowcount


_OPEN_TO = (
    select(notices)
    .join(incidents, incidents.c.id == notices.c.incident_id)
    .where(
        _TO,
        notices.c.kind.in_(TELLS_OF_TROUBLE),
        notices.c.status == NoticeStatus.SENT,
        incidents.c.resolved_at.is_(None),
    )
    .order_by(notices.c.id)
)
_WROTE_TO = (
    select(notices.c.channel, notices.c.address)
    .where(
        notices.c.channel.in_(bindparam("channels", expanding=True)),
        notices.c.address.in_(bindparam("spellings", expanding=True)),
        notices.c.status == NoticeStatus.SENT,
    )
    .distinct()
)


def open_to(connection: Connection, target: Target) -> list[StoredNotice]:
    """What this recipient was handed over of accounts that are broken still."""
    asked = {"channel_": target.channel, "address_": target.address}
    return [_notice(row) for row in connection.execute(_OPEN_TO, asked)]


def wrote_to(connection: Connection, channels: Collection[str], address: str) -> list[Target]:
    """Through which of the channels anything was ever sent to this address, as it is written or in small letters."""
    asked = {"channels": list(channels), "spellings": [address, address.lower()]}
    return [Target(row.channel, row.address) for row in connection.execute(_WROTE_TO, asked)]


_NOBODY = (
    select(notices)
    .where(text(HELD), notices.c.hold == "nobody")
    .order_by(notices.c.due_at, notices.c.id)
    .limit(bindparam("most"))
)
_TURN = update(notices).where(notices.c.id == bindparam("wanted")).values(due_at=bindparam("now"))


def for_nobody(connection: Connection, limit: int) -> list[StoredNotice]:
    """Notices that nobody was there to get, those first that were not looked at for longest."""
    return [_notice(row) for row in connection.execute(_NOBODY, {"most": limit})]


def still_for_nobody(connection: Connection, notice: StoredNotice, now: datetime) -> None:
    """Looked at in vain: it is the others' turn next time."""
    connection.execute(_TURN, {"wanted": notice.id, "now": now})


_END = (
    update(notices)
    .where(notices.c.id == bindparam("wanted"))
    .values(status=bindparam("as_"), reason=bindparam("why_"), hold=null())
)


def discard(connection: Connection, notice: StoredNotice, reason: str) -> None:
    """Ends a notice that nobody is sending."""
    connection.execute(_END, {"wanted": notice.id, "as_": NoticeStatus.DROPPED, "why_": reason})


_REVIVE = (
    update(notices)
    .where(
        or_(notices.c.id == bindparam("message"), notices.c.group_id == bindparam("message")),
        notices.c.status == NoticeStatus.DEAD,
    )
    .values(status=NoticeStatus.PENDING, reason=null(), hold=null(), attempts=0, due_at=bindparam("now"))
)


def revive(connection: Connection, notice: StoredNotice, now: datetime) -> int:
    """The message that it went out in was given up: it is tried once more. How many notices that is, nothing where it
    was not given up.
    """
    return connection.execute(_REVIVE, {"message": notice.message_id, "now": now}).rowcount


def lose(connection: Connection, notice: StoredNotice, reason: str) -> None:
    """What was handed over has reached nobody after all."""
    connection.execute(_END, {"wanted": notice.id, "as_": NoticeStatus.DEAD, "why_": reason})


def rows(connection: Connection, query: Select[Any]) -> list[StoredNotice]:
    """What a query of whole notices finds."""
    return [_notice(row) for row in connection.execute(query)]


_BY_ID = select(notices).where(notices.c.id == bindparam("wanted"))
_OF_ACCOUNT = (
    select(notices)
    .where(notices.c.account_id == bindparam("account"), notices.c.kind != NoticeKind.EVENT)
    .order_by(notices.c.created_at.desc())
    .limit(bindparam("most"))
)


def get(connection: Connection, wanted: str) -> StoredNotice | None:
    row = connection.execute(_BY_ID, {"wanted": wanted}).first()
    return None if row is None else _notice(row)


def of_account(connection: Connection, account_id: int, limit: int = 100) -> list[StoredNotice]:
    return [_notice(row) for row in connection.execute(_OF_ACCOUNT, {"account": account_id, "most": limit})]


_NEXT_DUE = select(
    func.min(Later(notices.c.due_at, func.coalesce(notices.c.lease_until, notices.c.due_at), Time()), type_=Time())
).where(text(IN_WORK))


def next_due(connection: Connection) -> datetime | None:
    """When the next notice is due, or the next lease ends."""
    return connection.execute(_NEXT_DUE).scalar()


_BACKLOG = (
    select(notices.c.status, func.count(), func.min(notices.c.due_at, type_=notices.c.due_at.type))
    .where(text(IN_WORK))
    .group_by(notices.c.status)
)


_RETRYING = (
    select(notices.c.channel, func.count()).where(text(IN_WORK), notices.c.attempts > 0).group_by(notices.c.channel)
)


def retrying(connection: Connection) -> dict[str, int]:
    """How many notices wait that could not be handed over at least once, by channel."""
    return {row[0]: row[1] for row in connection.execute(_RETRYING)}


def backlog(connection: Connection, now: datetime) -> tuple[dict[str, int], timedelta]:
    """How many notices are waiting by status, and for how long the longest overdue one has been due."""
    rows = connection.execute(_BACKLOG).all()
    oldest = min((row[2] for row in rows), default=now)
    return {row[0]: row[1] for row in rows}, max(now - oldest, timedelta(0))


_HELD_BY = select(notices.c.hold, func.count()).where(text(HELD)).group_by(notices.c.hold)
_MUTED = select(func.count()).select_from(notices).where(text(IN_WORK), notices.c.hold == "muted")


def held(connection: Connection) -> dict[str, int]:
    """How many notices are kept back, by what keeps them."""
    muted = connection.execute(_MUTED).scalar_one()
    counts = {"muted": muted} if muted else {}
    for hold, count in connection.execute(_HELD_BY):
        kind = (hold or "paused").partition(":")[0]
        counts[kind] = counts.get(kind, 0) + count
    return counts


REACHES_SOMEBODY = (
    notices.c.incident_id == incidents.c.id,
    notices.c.kind.in_(TELLS_OF_TROUBLE),
    or_(
        notices.c.status.in_(("pending", "sending", "sent")),
        and_(notices.c.status == NoticeStatus.HELD, notices.c.hold != "nobody"),
    ),
)
"""Conditions on a notice that tells, or will tell, somebody of an incident."""
_UNREACHED = (
    select(incidents.c.workspace, func.count())
    .where(text(OPEN), ~exists().where(*REACHES_SOMEBODY))
    .group_by(incidents.c.workspace)
)


def unreached(connection: Connection) -> list[tuple[str, int]]:
    """``(workspace, broken accounts of which nobody could be told)``."""
    return [(row[0], row[1]) for row in connection.execute(_UNREACHED)]
