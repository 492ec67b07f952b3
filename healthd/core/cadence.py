"""When a notice is due, whether it is still true, and when to try again. Pure: facts and time in, answer out."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from healthd.core.model import GOOD_NEWS, NoticeKind

RETRY_FIRST = timedelta(seconds=10)
RETRY_MOST = timedelta(hours=1)
MUTED = "muted by a person"


@dataclass(frozen=True, slots=True)
class Cadence:
    """The operator's choices.

    Reminders come ``remind_after`` the opening of the incident, then every ``repeat_interval`` (none by default), but
    never more than ``most_reminders``. A message waits ``group_wait`` for others that belong into it, and
    ``group_interval`` after the one before it. A person with more than ``digest_above`` groups to hear of at once gets
    one message about all. An acknowledgement lasts ``acknowledge_for``. An account that was repaired
    ``chronic_repairs`` times within ``chronic_within`` goes to the operator when it breaks again.
    """

    remind_after: tuple[timedelta, ...] = (timedelta(days=1), timedelta(days=3), timedelta(days=7))
    repeat_interval: timedelta | None = None
    most_reminders: int = 10
    give_up_after: timedelta = timedelta(hours=24)
    group_wait: timedelta = timedelta(seconds=10)
    group_interval: timedelta = timedelta(minutes=5)
    digest_above: int = 3
    acknowledge_for: timedelta = timedelta(days=7)
    chronic_repairs: int = 4
    chronic_within: timedelta = timedelta(days=14)

    @property
    def most_messages(self) -> int:
        """How many messages about one incident one recipient gets at the most, its end and the page's hint included."""
        reminders = len(self.remind_after) if self.repeat_interval is None else self.most_reminders
        return 3 + min(reminders, self.most_reminders)


@dataclass(frozen=True, slots=True)
class Send:
    """The notice is still true: let it go."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now; ``reason`` is kept with the notice. ``until`` is when it is asked again; without it something else, such
    as the end of a pause, has to release it.
    """

    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Not any more; ``reason`` is kept with the notice."""

    reason: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides about a due notice. ``may_hear_at`` is the first moment at which its recipient may be written to;
    ``unwanted`` says why they are not to get it at all; ``storm`` whether their platform's notices are held.
    """

    open_incident: bool = False
    expiring: bool = False
    broken_again: bool = False
    paused: bool = False
    storm: bool = False
    unwanted: str = ""
    acknowledged_until: datetime | None = None
    snoozed_until: datetime | None = None
    muted_until: datetime | None = None
    may_hear_at: datetime | None = None
    turn_at: datetime | None = None
    """When its level of the chain is told, counted from the moment at which the level before it heard."""


NAGS = frozenset({NoticeKind.REMINDER, NoticeKind.ESCALATED})
"""What somebody who takes the matter on is spared."""


def verdict(kind: NoticeKind, now: datetime, facts: Situation) -> Send | Hold | Drop:
    """Whether a due notice is still true and may be sent now, asked once more just before it is.

    Good news is always true: it was written by the recovery itself, for people who had been told of the trouble. Only
    where the account broke again before they could hear of it would it mislead.
    """
    reason = _untrue(kind, facts) or facts.unwanted
    if reason:
        return Drop(reason)
    if kind not in GOOD_NEWS and (facts.paused or facts.storm):
        return Hold("account is paused" if facts.paused else "many accounts of the platform broke at once")
    waits = (
        (kind not in GOOD_NEWS, facts.muted_until, MUTED),
        (kind in NAGS, _taken_on_until(facts), "somebody has taken it on"),
        (kind is NoticeKind.ESCALATED, facts.turn_at, "those before it in the chain have time still"),
        (True, facts.may_hear_at, "quiet hours of its recipient"),
    )
    for applies, until, reason in waits:
        if applies and until is not None and until > now:
            return Hold(reason, until)
    return Send()


def _untrue(kind: NoticeKind, facts: Situation) -> str | None:
    if kind in GOOD_NEWS:
        return "broken again before it was told" if facts.broken_again else None
    if facts.expiring if kind is NoticeKind.EXPIRING else facts.open_incident:
        return None
    return "recovered before it was sent"


def _taken_on_until(facts: Situation) -> datetime | None:
    return max(filter(None, (facts.acknowledged_until, facts.snoozed_until)), default=None)


def first_due(
    kind: NoticeKind, now: datetime, last_of_group: datetime | None, *, alone: bool, policy: Cadence
) -> datetime:
    """When a notice that has just become true is due: at once where no other can belong into the same message, and not
    too soon after the group's last message.
    """
    due = now if alone else now + policy.group_wait
    if kind is NoticeKind.OPENED and last_of_group is not None:
        due = max(due, last_of_group + policy.group_interval)
    return due


def is_chronic(repairs: int, policy: Cadence) -> bool:
    """Whether asking a person once more is pointless: the next repair would not last either."""
    return 0 < policy.chronic_repairs <= repairs


NEEDS_AN_OPERATOR = frozenset({
    "unauthorized", "payment_required", "forbidden", "forbidden_link", "unprocessable",
    "webhook_missing", "webhook_wrong_url", "webhook_paused", "webhook_forbidden",
})  # fmt: skip
"""Kinds of trouble with an API that do not pass by themselves: they are told at once."""
ENDED_BY_ANY_ANSWER = frozenset({"unauthorized", "payment_required", "starved"})
"""Kinds that stand in the way of every question; the others end when the question that met them is answered."""
TROUBLE_PATIENCE = timedelta(minutes=10)
"""How long the other kinds must last before the operator hears of them."""


def trouble_due(kind: str, since: datetime) -> datetime:
    """When the operator is told of a trouble that still lasts then."""
    return since if kind in NEEDS_AN_OPERATOR else since + TROUBLE_PATIENCE


def reminder_due(opened_at: datetime, step: int, cadence: Cadence) -> datetime | None:
    """When reminder number ``step`` (from 1) is due, or ``None`` after the last one."""
    if step > cadence.most_reminders:
        return None
    listed = len(cadence.remind_after)
    if step <= listed:
        return opened_at + cadence.remind_after[step - 1]
    if cadence.repeat_interval is None:
        return None
    last = cadence.remind_after[-1] if listed else timedelta(0)
    return opened_at + last + cadence.repeat_interval * (step - listed)


def retry_at(
    attempts: int, created_at: datetime, now: datetime, cadence: Cadence, rng: random.Random, after: float | None
) -> datetime | None:
    """When to try a message again after ``attempts`` failures, or ``None`` when it is time to give up.

    Exponential with jitter, never before ``after`` seconds if the other side named a delay.
    """
    pause = min(RETRY_FIRST * 2 ** min(attempts - 1, 16), RETRY_MOST) * rng.uniform(0.5, 1.0)
    due = now + max(pause, timedelta(seconds=after or 0))
    return due if due <= created_at + cadence.give_up_after else None
