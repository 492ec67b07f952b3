"""Who is told, and who next: the routes that match an account, its owners on record, or the default recipients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from healthd.core.contacts import OWNER, Contact
from healthd.core.model import Target

ESCALATE_AFTER = timedelta(days=2)
"""When the next level of a chain is told that has no time of its own."""


@dataclass(frozen=True, slots=True)
class Routed:
    """What a route may ask of an account. ``labels`` are those on record for it, its profile and its workspace."""

    workspace: str
    platform: str
    account: str
    profile: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipient:
    """One place to send to, and the contact whose place it is (empty: nobody's in particular)."""

    target: Target
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Owners:
    """The contacts, by key, who are responsible for an account, level by level. ``afters`` says when a level is told;
    ``None``, or nothing at all, leaves it to ``escalate_after``. ``why`` names the record that says so.
    """

    levels: tuple[tuple[str, ...], ...] = ()
    afters: tuple[timedelta | None, ...] = ()
    why: str = "owner on record"


@dataclass(frozen=True, slots=True)
class Level:
    """Who is told ``after`` that long, if it is still broken then and nobody has taken it on. ``why``: the rule."""

    after: timedelta
    recipients: tuple[Recipient, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """Whom a route names, and when: targets as written, contacts (``@ada``) and ``@owner`` among them."""

    to: tuple[Target, ...]
    after: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Route:
    """Steps for the accounts that meet every matcher given; an empty matcher matches all."""

    to: tuple[Target, ...]
    workspace: frozenset[str] = frozenset()
    platform: frozenset[str] = frozenset()
    account: frozenset[str] = frozenset()
    profile: frozenset[str] = frozenset()
    labels: tuple[tuple[str, str], ...] = ()
    then: tuple[Step, ...] = ()
    stop: bool = True
    """Whether later routes are passed over once this one matched."""

    def matches(self, asked: Routed) -> bool:
        named = (
            (self.workspace, asked.workspace),
            (self.platform, asked.platform),
            (self.account, asked.account),
            (self.profile, asked.profile),
        )
        return all(not wanted or found in wanted for wanted, found in named) and all(
            asked.labels.get(name) == value for name, value in self.labels
        )

    def steps(self) -> Iterator[Step]:
        yield Step(self.to)
        yield from self.then


@dataclass(frozen=True, slots=True)
class Routing:
    """All routes in order, and who is told where none matches and nobody is on record."""

    routes: tuple[Route, ...] = ()
    default: tuple[Target, ...] = ()
    escalate_after: timedelta = ESCALATE_AFTER

    def matching(self, asked: Routed) -> Iterator[tuple[int, Route]]:
        """The routes that apply, with their numbers (from 1)."""
        for number, route in enumerate(self.routes, 1):
            if route.matches(asked):
                yield number, route
                if route.stop:
                    return

    def plan(self, asked: Routed, contacts: Mapping[str, Contact], owners: Owners = Owners()) -> tuple[Level, ...]:
        """Who is told and when, level by level; nobody twice. Empty where nobody is configured to be told.

        Where no route matches, or those that do reach nobody, the account's owners are told, and the default recipients
        after the last of them. A route that names nobody at all mutes.
        """
        levels: list[Level] = []
        muted = False
        for number, route in self.matching(asked):
            muted |= not route.to
            for step in route.steps():
                levels += self._expanded(step, contacts, owners, f"route {number}")
        if not muted and not any(level.recipients for level in levels):
            owned = Step((Target(f"@{OWNER}"),))
            levels += self._expanded(owned, contacts, owners, "")
            after = levels[-1].after + self.escalate_after if levels else timedelta(0)
            levels += self._expanded(Step(self.default, after), contacts, owners, "the default recipients")
        return tuple(_once_each(levels))

    def _expanded(self, step: Step, contacts: Mapping[str, Contact], owners: Owners, why: str) -> Iterator[Level]:
        direct = [target for target in step.to if target.channel != f"@{OWNER}"]
        yield Level(step.after, tuple(_recipients(direct, contacts)), why)
        if len(direct) == len(step.to):
            return
        says = f"{why}: {owners.why}" if why else owners.why
        after = step.after
        for number, keys in enumerate(owners.levels):
            own = owners.afters[number] if number < len(owners.afters) else None
            if own is not None:
                after = step.after + own
            elif number:
                after += self.escalate_after
            found = tuple(_recipients([Target(f"@{key}") for key in keys], contacts))
            yield Level(after, found, f"{says}, level {number + 1}")


def _recipients(targets: Iterable[Target], contacts: Mapping[str, Contact]) -> Iterator[Recipient]:
    """Contacts as the places where they are reached. One that is not on record reaches nobody."""
    for target in targets:
        if not target.channel.startswith("@"):
            yield Recipient(target)
        elif (contact := contacts.get(target.channel[1:])) is not None:
            yield from (Recipient(address, contact.key) for address in contact.addresses)


def _once_each(levels: Iterable[Level]) -> Iterator[Level]:
    """The levels in the order of their times, each place at its earliest only. Who is first is told at once."""
    seen: set[Target] = set()
    first: timedelta | None = None
    ordered = sorted(levels, key=lambda level: level.after)
    merged: dict[timedelta, list[Level]] = {}
    for level in ordered:
        merged.setdefault(level.after, []).append(level)
    for after, together in merged.items():
        found: list[Recipient] = []
        for recipient in (recipient for level in together for recipient in level.recipients):
            if recipient.target not in seen:
                seen.add(recipient.target)
                found.append(recipient)
        if not found:
            continue
        first = after if first is None else first
        why = ", ".join(dict.fromkeys(level.why for level in together if level.recipients))
        yield Level(after - first, tuple(found), why)


def references(targets: Iterable[Target]) -> Iterator[str]:
    """The contacts that are named, ``@owner`` aside."""
    for target in targets:
        if target.channel.startswith("@") and target.channel != f"@{OWNER}":
            yield target.channel[1:]
