"""When a notice is due, whether it is still true, and when to try again. Pure: facts and time in, answer out."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from healthd.core.model import GOOD_NEWS, NoticeKind

RETRY_FIRST = timedelta(seconds=10)
RETRY_MOST = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Cadence:
    """The operator's choices: reminders that long after the incident opened, and how long a message is tried for."""

    remind_after: tuple[timedelta, ...] = (timedelta(days=1), timedelta(days=3), timedelta(days=7))
    give_up_after: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Send:
    """The notice is still true: let it go."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now; ``reason`` is kept with the notice until it is released."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Not any more; ``reason`` is kept with the notice."""

    reason: str


def verdict(kind: NoticeKind, *, open_incident: bool, paused: bool, expiring: bool) -> Send | Hold | Drop:
    """Whether a due notice is still true, asked once more just before it is sent.

    ``expiring`` is whether the account is still about to expire. Good news is always true: it was written by the
    recovery itself, for people who had been told of the trouble.
    """
    if kind in GOOD_NEWS:
        return Send()
    if not (expiring if kind is NoticeKind.EXPIRING else open_incident):
        return Drop("recovered before it was sent")
    return Hold("account is paused") if paused else Send()


NEEDS_AN_OPERATOR = frozenset({"unauthorized", "payment_required", "forbidden", "forbidden_link", "unprocessable"})
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
    return opened_at + cadence.remind_after[step - 1] if step <= len(cadence.remind_after) else None


def retry_at(
    attempts: int, created_at: datetime, now: datetime, cadence: Cadence, rng: random.Random, after: float | None
) -> datetime | None:
    """When to try a message again after ``attempts`` failures, or ``None`` when it is time to give up.

    Exponential with jitter, never before ``after`` seconds if the other side named a delay.
    """
    pause = min(RETRY_FIRST * 2 ** min(attempts - 1, 16), RETRY_MOST) * rng.uniform(0.5, 1.0)
    due = now + max(pause, timedelta(seconds=after or 0))
    return due if due <= created_at + cadence.give_up_after else None
