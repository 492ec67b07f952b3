"""What a link leads to, as it stands now: one account, or all those of the message that the link stood in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from healthd.core.model import BROKEN, Resolution, State
from healthd.core.probing import CLICK_WINDOW
from healthd.store import accounts, incidents
from healthd.store.accounts import StoredAccount
from healthd.store.incidents import Incident, Link
from healthd.store.notices import MOST_IN_ONE
from healthd.web.noting import quiet_until

PATIENCE = timedelta(minutes=2)
"""How long after a press an account may stay broken before the page doubts that the right one was chosen."""
SHOWN = 50
"""Accounts that the page lists; of more it gives the number, and they move up as others are repaired."""

PRESSABLE = frozenset({"broken", "unconfirmed", "waiting", "still_broken"})
OPEN_PAGES = PRESSABLE | {"several"}
WATCHED = frozenset({"waiting", "still_broken"})
"""Pages and rows of somebody who has pressed."""


@dataclass(frozen=True, slots=True)
class Case:
    """One incident that a link leads to. ``link`` names this incident and its account, whichever the link was made
    for. ``pressed``: it was this visitor's browser that pressed the button. ``other_connected``: another account of the
    platform was connected since the last press.
    """

    token: str
    link: Link
    incident: Incident
    account: StoredAccount
    pressed: bool
    other_connected: bool

    def state(self, now: datetime) -> str:
        """One of the names in ``SAYINGS``."""
        if self.link.revoked_at is not None:
            return "over"
        if self.account.account.state is State.REMOVED or self.incident.resolution is Resolution.REMOVED:
            return "removed"
        if self.incident.resolved_at is not None:
            return "again" if self.account.account.state in BROKEN else "repaired"
        return "over" if now >= self.link.expires_at else self._progress(now)

    def _progress(self, now: datetime) -> str:
        """A robot's press leaves the page as it is for the person who opens it afterwards."""
        clicked = self.account.clicked_at
        if not self.pressed or clicked is None or now - clicked >= CLICK_WINDOW:
            return "unconfirmed" if self.incident.confirmed_at is None else "broken"
        return "still_broken" if self.other_connected or now - clicked >= PATIENCE else "waiting"


@dataclass(frozen=True, slots=True)
class Visit:
    """All that a link leads to. ``cases`` are those that the page lists, and there are ``more``. ``total`` and ``left``
    count all of them, but no account that was removed; ``left`` are broken still.
    """

    token: str
    link: Link
    cases: tuple[Case, ...]
    more: int = 0
    total: int = 1
    left: int = 0

    @property
    def several(self) -> bool:
        return len(self.cases) > 1

    def rows(self, now: datetime) -> list[tuple[Case, str]]:
        """The cases with their states: what this visitor has pressed first, then what is broken, then what is done."""
        return sorted(((case, case.state(now)) for case in self.cases), key=_place)

    def state(self, now: datetime) -> str:
        """One of the names in ``SAYINGS``."""
        states = {case.state(now) for case in self.cases}
        if not self.several:
            return states.pop()
        if not PRESSABLE.isdisjoint(states):
            return "several"
        return next(page for state, page in _TOGETHER.items() if state in states)

    def case(self, incident_id: str | None) -> Case | None:
        """The one that a form is about: without a name, the one that the link was made for."""
        wanted = incident_id or self.link.incident_id
        return next((case for case in self.cases if case.incident.id == wanted), None)

    def quiet_until(self, now: datetime) -> datetime | None:
        """Until when nobody is reminded, where somebody asked for that of all that is broken."""
        moments = [quiet_until(case.incident) for case in self.cases if case.incident.resolved_at is None]
        first = min((at or now for at in moments), default=now)
        return first if first > now else None

    def taken_on(self, now: datetime) -> bool:
        """Whether somebody said that they take it on."""
        return any((case.incident.acknowledged_until or now) > now for case in self.cases)


_TOGETHER = {"over": "over", "again": "several_again", "repaired": "several_repaired", "removed": "several_removed"}
"""What a page about several accounts says when none of them can be repaired through it: the first that fits."""
_ORDER = ("broken", "unconfirmed", "over", "again", "repaired", "removed")


def _place(row: tuple[Case, str]) -> tuple[int, float]:
    case, state = row
    if state in WATCHED and case.account.clicked_at is not None:
        return -1, -case.account.clicked_at.timestamp()
    return 0 if state in PRESSABLE else _ORDER.index(state), case.incident.broken_at.timestamp()


def cookie_of(link: Link, incident_id: str) -> str:
    """The cookie of a browser that pressed the button. It lives on this page's path alone, and opens nothing."""
    return "pressed" if incident_id == link.incident_id else f"pressed-{incident_id}"


def look_up(connection: Connection, token: str, link_id: str, cookies: Collection[str]) -> Visit | None:
    """``None`` where the link is not on record."""
    link = incidents.link(connection, link_id)
    found = all_of(connection, link) if link else []
    if link is None or not found:
        return None
    listed = sorted(found, key=lambda incident: incident.resolved_at is not None)[:SHOWN]
    if len(found) > 1 and any(_took_the_link_along(link, incident) for incident in found):
        link = replace(link, revoked_at=None)
    cases = tuple(case for one in listed if (case := _case(connection, token, link, one, cookies)) is not None)
    kept = [incident for incident in found if incident.resolution is not Resolution.REMOVED]
    left = sum(incident.resolved_at is None for incident in kept)
    return Visit(token, link, cases, len(found) - len(listed), len(kept), left) if cases else None


def _took_the_link_along(link: Link, incident: Incident) -> bool:
    """An account that is removed revokes its links; what else stood in the message needs this one all the same."""
    removed = incident.id == link.incident_id and incident.resolution is Resolution.REMOVED
    return removed and link.revoked_at == incident.resolved_at


def all_of(connection: Connection, link: Link) -> list[Incident]:
    """Every incident that a link leads to, the longest broken first, and the one that it was made for among them."""
    found = incidents.covered(connection, link.id, MOST_IN_ONE)
    if any(incident.id == link.incident_id for incident in found):
        return found
    own = incidents.get(connection, link.incident_id)
    return found if own is None else [own, *found]


def _case(connection: Connection, token: str, link: Link, incident: Incident, cookies: Collection[str]) -> Case | None:
    account = accounts.by_id(connection, incident.account_id)
    if account is None:
        return None
    pressed, clicked = cookie_of(link, incident.id) in cookies, account.clicked_at
    other = pressed and clicked is not None and incidents.other_connected_since(connection, account, clicked)
    mine = replace(link, incident_id=incident.id, account_id=incident.account_id)
    return Case(token, mine, incident, account, pressed, other)
