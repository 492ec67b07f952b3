"""People: where they can be reached, in which language, and at what hours. Pure: times in, times out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from healthd.core.model import Target

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = frozenset(range(7))
CONTACT_KEY = re.compile(r"[a-z0-9][a-z0-9._+@-]{0,126}", re.ASCII)
OWNER = "owner"
"""``@owner`` in a route stands for whoever is on record for the account; no contact may be called so."""

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_LOOK_AHEAD = 15
"""Days in which an hour that is allowed must come: any week has one, and clocks change by hours only."""


@dataclass(frozen=True, slots=True)
class Hours:
    """When somebody may be written to, on the clock of their own zone.

    ``quiet`` begins at its first time and ends before its second, over midnight where that is the earlier one; ``days``
    are those on which anything may be sent, with Monday as 0.
    """

    zone: tzinfo = UTC
    quiet: tuple[time, time] | None = None
    days: frozenset[int] = EVERY_DAY

    def opens_at(self, now: datetime) -> datetime:
        """``now`` where it is allowed already, or else the first moment that is. Aware UTC in and out."""
        if self.allows(now):
            return now
        local = now.astimezone(self.zone)
        for days in range(_LOOK_AHEAD):
            date = local.date() + timedelta(days=days)
            # A time that a change of clocks skips is taken an hour later, as every clock on the wall would; one that
            # comes twice is tried both times.
            moments = sorted(
                datetime.combine(date, edge, self.zone).replace(fold=fold).astimezone(UTC)
                for edge in self._edges()
                for fold in (0, 1)
            )
            for at in moments:
                if at > now and self.allows(at):
                    return at
        return now

    def allows(self, now: datetime) -> bool:
        local = now.astimezone(self.zone)
        return local.weekday() in self.days and not self._is_quiet(local.time().replace(tzinfo=None))

    def _edges(self) -> tuple[time, ...]:
        midnight = time(0)
        return (midnight, self.quiet[1]) if self.quiet else (midnight,)

    def _is_quiet(self, at: time) -> bool:
        if self.quiet is None:
            return False
        start, end = self.quiet
        return start <= at < end if start < end else at >= start or at < end


@dataclass(frozen=True, slots=True)
class Contact:
    """A person, or a team that acts as one. ``addresses`` are told all at once; ``language`` empty: the default's."""

    key: str
    name: str
    addresses: tuple[Target, ...]
    hours: Hours = field(default_factory=Hours)
    language: str = ""


def parse_quiet(text: str) -> tuple[time, time] | None:
    """``"22:00-07:00"``, or nothing at all. Raises ``ValueError`` saying what to write."""
    if not text.strip():
        return None
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} are no quiet hours: write them as 22:00-07:00, on the clock of the contact's zone")
    start, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    if start == end:
        raise ValueError(f"{text!r} would be quiet for ever: leave out the contact, or its quiet hours")
    return start, end


def format_quiet(quiet: tuple[time, time] | None) -> str:
    return f"{quiet[0]:%H:%M}-{quiet[1]:%H:%M}" if quiet else ""


def parse_days(text: str) -> frozenset[int]:
    """``"mon-fri"``, ``"mon,wed,sat-sun"``, or nothing for every day. Raises ``ValueError`` saying what to write."""
    found: set[int] = set()
    for part in filter(None, re.split(r"[\s,;]+", text.strip().lower())):
        first, _, last = part.partition("-")
        try:
            start, end = WEEKDAYS.index(first[:3]), WEEKDAYS.index((last or first)[:3])
        except ValueError:
            raise ValueError(f"{text!r} are no days: write them as mon-fri, or mon,wed,sat") from None
        found.update(day % 7 for day in range(start, end + 1 if end >= start else end + 8))
    return frozenset(found) or EVERY_DAY


def format_days(days: frozenset[int]) -> str:
    return "" if days == EVERY_DAY else ",".join(WEEKDAYS[day] for day in sorted(days))


def parse_zone(name: str) -> tzinfo:
    """``"Europe/Berlin"``; nothing is UTC. Raises ``ValueError`` saying what to write."""
    if not name.strip():
        return UTC
    try:
        return ZoneInfo(name.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone: write it as Europe/Berlin or America/New_York") from None


def format_zone(zone: tzinfo) -> str:
    return zone.key if isinstance(zone, ZoneInfo) else ""
