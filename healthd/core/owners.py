"""Owners on record: who is responsible for an account, its profile, its platform or its whole workspace. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from healthd.core.contacts import Contact

SCOPES = ("account", "profile", "platform", "workspace")
"""What owners may be on record for, the most specific first."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What is on record for one account, profile, platform or workspace.

    ``ref`` is the account's or profile's id at the provider, or the platform's name, and empty for a workspace.
    ``owners`` are keys of contacts, level by level: those of the first are told at once, the next if nothing helped.
    """

    workspace: str
    scope: str
    ref: str
    owners: tuple[tuple[str, ...], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, str, str]:
        return self.workspace, self.scope, self.ref

    @property
    def says(self) -> str:
        """``"workspace acme, profile p7"``, as a person would point to it."""
        return f"workspace {self.workspace}" + (f", {self.scope} {self.ref}" if self.ref else "")


@dataclass(frozen=True, slots=True)
class Assignment:
    """Whom an account belongs to. ``why`` names the record that decided, ``wrong`` what could not be read of it."""

    owners: tuple[tuple[str, ...], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedLevel:
    """Contacts by key, and when they are told: ``None`` leaves it to ``notices.escalate_after``."""

    keys: tuple[str, ...]
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the customer's own endpoint says of an account. A key that is not among ``contacts`` means one on record."""

    levels: tuple[ResolvedLevel, ...] = ()
    contacts: Mapping[str, Contact] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def owners(self) -> tuple[tuple[str, ...], ...]:
        return tuple(level.keys for level in self.levels)


def assigned(records: Iterable[Owned]) -> Assignment:
    """What the records that apply to an account amount to: the owners of the most specific that has any, and the labels
    of all, where the more specific wins.
    """
    ordered = sorted(records, key=lambda one: SCOPES.index(one.scope))
    labels: dict[str, str] = {}
    for record in reversed(ordered):
        labels.update(record.labels)
    deciding = next((record for record in ordered if any(record.owners)), None)
    if deciding is None:
        return Assignment(labels=labels)
    return Assignment(deciding.owners, labels, f"owners of {deciding.says}")
