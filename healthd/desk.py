"""What an operator does about accounts, notices, storms and people: through the pages, the API or the command line.

Each act is one transaction, which also writes who did it. What an act sets in motion (a look at the account, a message)
is done by the parts that always do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection

from healthd.core.contacts import Contact
from healthd.core.model import Lane, NoticeKind, Target
from healthd.core.owners import Owned
from healthd.dispatch import Case, Dispatch
from healthd.links import Links
from healthd.providers.base import Provider, Unavailable
from healthd.store import accounts, contacts, decisions, incidents, notices, pauses, storms
from healthd.store.access import note_audit
from healthd.store.accounts import StoredAccount
from healthd.store.contacts import StoredAssignment, StoredContact
from healthd.store.database import Store
from healthd.store.incidents import Incident, Link
from healthd.store.storms import Storm

T = TypeVar("T")

CALL_WITHIN = 20.0
"""Seconds in which the API must answer what somebody waits for."""
LONGEST_QUIET = timedelta(days=365)


class NotThere(LookupError):
    """What an act is about does not exist."""


class NotNow(ValueError):
    """It exists, and this cannot be done with it as it is; the message says why."""


@dataclass(frozen=True, slots=True)
class RepairLink:
    """``lasting``: it leads to our own page and works until the incident ends; else it is the provider's, for once and
    for a quarter of an hour.
    """

    url: str
    expires_at: datetime | None
    lasting: bool


@dataclass
class Desk:
    """``who`` is on record with each act: ``"token:ada"``, ``"cli:root"``. ``wake_prober`` is told whose accounts are
    to be asked about, ``changed`` that there is something to send or to show. Raises ``NotThere``, ``NotNow``,
    ``StoreUnavailable``, and ``ProviderError`` where the API is asked.
    """

    store: Store
    dispatch: Dispatch
    providers: Mapping[str, Provider]
    links: Links | None
    now: Callable[[], datetime]
    wake_prober: Callable[[str], None]
    changed: Callable[[], None]

    async def check_now(self, account_id: int, who: str) -> None:
        """The account is asked about at once, before everything that is not a person's click."""
        stored = await self._on_account(account_id, who, "check", _look_now)
        self.wake_prober(stored.account.workspace)

    async def acknowledge(self, account_id: int, who: str) -> datetime:
        """Until when nobody is reminded. Raises ``NotNow`` where the account is not broken."""
        until = await self.store.run(self._on_incident, account_id, who, "acknowledge", self.dispatch.acknowledge)
        self.changed()
        return until

    async def snooze(self, account_id: int, until: datetime, who: str) -> datetime:
        """No reminders until then. Raises ``NotNow`` where the account is not broken, or that is no time to come."""
        until = self._ahead(until)

        def act(case: Case, incident: Incident, who: str) -> datetime:
            self.dispatch.snooze(case, incident, until, who)
            return until

        await self.store.run(self._on_incident, account_id, who, "snooze", act, _until(until))
        self.changed()
        return until

    async def resume(self, account_id: int, who: str) -> None:
        """Takes an acknowledgement or a snooze back."""
        await self.store.run(self._on_incident, account_id, who, "resume", self.dispatch.resume)
        self.changed()

    async def release(self, account_id: int, who: str) -> int:
        """What is held of the account's incident goes out; how many notices that are."""
        released = await self.store.run(self._on_incident, account_id, who, "release", self.dispatch.release)
        self.changed()
        return released

    async def mute(self, account_id: int, until: datetime, who: str) -> datetime:
        """Nobody is told of the account until then, broken or not."""
        until = self._ahead(until)
        await self._on_account(
            account_id, who, "mute", lambda case: self.dispatch.mute(case, until, who), _until(until)
        )
        self.changed()
        return until

    async def unmute(self, account_id: int, who: str) -> None:
        await self._on_account(account_id, who, "unmute", lambda case: self.dispatch.unmute(case, who))
        self.changed()

    async def repair_link(self, account_id: int, who: str) -> RepairLink:
        """A link for whoever asks, to repair the account with or to hand on. Of a broken one it is our page's; of any
        other the provider's own, which whoever opens it first uses up.
        """
        now = self.now()
        links = self.links
        if links is not None:
            made = await self.store.run(self._make_link, account_id, who, now)
            if made is not None:
                return RepairLink(links.url(made.id), made.expires_at, lasting=True)
        stored = await self.account(account_id)
        url = await self._ask(stored, lambda provider: provider.mint(stored.account.ref, stored.profile or None))
        await self.store.run(self._note, who, "link", stored, "of the provider's own")
        return RepairLink(url, None, lasting=False)

    def _make_link(self, connection: Connection, account_id: int, who: str, now: datetime) -> Link | None:
        stored = _account(connection, account_id)
        incident = incidents.open_for(connection, account_id)
        if incident is None:
            return None
        target = f"desk:{who}"
        link_id = incidents.link_id(notices.notice_id(incident.id, Target("desk", who), NoticeKind.OPENED, 0))
        wanted = Link(link_id, incident.id, account_id, target, now + self.dispatch.link_lifetime, None)
        incidents.ensure_links(connection, [wanted], now)
        self._note(connection, who, "link", stored)
        found = incidents.link(connection, link_id)
        if found is None or found.expires_at <= now or found.revoked_at is not None:
            raise NotNow("your link to this incident has expired: the messages about it hold others")
        return found

    async def pause_posting(self, account_id: int, who: str) -> None:
        """Nothing is posted to the account until somebody resumes it; healthd itself never does."""
        await self._set_posting(account_id, who, paused=True)

    async def resume_posting(self, account_id: int, who: str) -> None:
        await self._set_posting(account_id, who, paused=False)

    async def _set_posting(self, account_id: int, who: str, *, paused: bool) -> None:
        stored = await self.account(account_id)
        ref, profile = stored.account.ref, stored.profile or None
        await self._ask(stored, lambda p: p.pause(ref, profile) if paused else p.resume(ref, profile))
        await self.store.run(self._record_posting, account_id, who, paused, self.now())
        self.wake_prober(stored.account.workspace)
        self.changed()

    def _record_posting(self, connection: Connection, account_id: int, who: str, paused: bool, now: datetime) -> None:
        before = _account(connection, account_id)
        after = replace(before, account=replace(before.account, paused=paused), auto_paused_at=None)
        if not paused:
            after = replace(after, probe_at=now, probe_lane=Lane.CONFIRM)
            notices.release_held(connection, [account_id], now)
        accounts.write(connection, [(before, after)])
        pauses.withdraw(connection, account_id)
        action = "pause posting" if paused else "resume posting"
        decided = Case(connection, before, now).decided(
            f"posting {'paused' if paused else 'resumed'}", "by hand", who=who
        )
        decisions.note(connection, [decided])
        self._note(connection, who, action, before)

    async def retry_notice(self, notice_id: str, who: str) -> None:
        """A message that was given up is tried again, if what it says is still true then."""

        def act(connection: Connection) -> None:
            found = notices.get(connection, notice_id)
            if found is None:
                raise NotThere(f"there is no notice {notice_id}")
            if not notices.revive(connection, found, self.now()):
                raise NotNow(f"it is {found.status}: only what was given up (dead) can be tried again")
            note_audit(connection, self.now(), who, "retry", notice_id, found.account_id)

        await self.store.run(act)
        self.changed()

    async def end_storm(self, storm_id: str, who: str, *, cancel: bool) -> int:
        """Releases what a storm holds, or withdraws it; how many notices that are."""

        def act(connection: Connection) -> int:
            found = _storm(connection, storm_id)
            what = "cancel" if cancel else "release"
            why = f"{'cancelled' if cancel else 'released'} by {who}"
            touched = self.dispatch.end_storm(connection, found, why, self.now(), who, cancel=cancel)
            note_audit(connection, self.now(), who, f"{what} storm", storm_id)
            return touched

        touched = await self.store.run(act)
        self.changed()
        return touched

    async def put_contact(
        self, contact: Contact, who: str, sure: Callable[[StoredContact | None], None] = lambda _: None
    ) -> bool:
        """Writes a contact; whether it is a new one. Of what is broken and had nobody to be told, people are told now.
        ``sure`` is shown what is there before that, in the same transaction, and ends it by raising.
        """

        def act(connection: Connection) -> bool:
            before = contacts.get(connection, contact.key)
            sure(before)
            fresh = before is None
            contacts.put(connection, [contact], contacts.API, self.now())
            note_audit(connection, self.now(), who, "put contact", contact.key)
            self.dispatch.try_again(connection, self.now())
            return fresh

        fresh = await self.store.run(act)
        self.changed()
        return fresh

    async def remove_contact(
        self, key: str, who: str, sure: Callable[[StoredContact | None], None] = lambda _: None
    ) -> None:
        def act(connection: Connection) -> None:
            sure(contacts.get(connection, key))
            if not contacts.remove(connection, key, self.now()):
                raise NotThere(f"there is no contact {key!r}")
            note_audit(connection, self.now(), who, "remove contact", key)

        await self.store.run(act)

    async def put_owners(
        self, owned: Owned, who: str, sure: Callable[[StoredAssignment | None], None] = lambda _: None
    ) -> bool:
        """Writes who is responsible for an account, a profile, a platform or a workspace; whether nobody was before."""

        def act(connection: Connection) -> bool:
            before = contacts.owned_at(connection, owned.place)
            sure(before)
            contacts.assign(connection, [owned], contacts.API, self.now())
            note_audit(connection, self.now(), who, "put owners", "/".join(filter(None, owned.place)))
            self.dispatch.try_again(connection, self.now())
            return before is None

        fresh = await self.store.run(act)
        self.changed()
        return fresh

    async def remove_owners(
        self, place: tuple[str, str, str], who: str, sure: Callable[[StoredAssignment | None], None] = lambda _: None
    ) -> None:
        def act(connection: Connection) -> None:
            sure(contacts.owned_at(connection, place))
            name = "/".join(filter(None, place))
            if not contacts.unassign(connection, *place):
                raise NotThere(f"no owners are on record for {name}")
            note_audit(connection, self.now(), who, "remove owners", name)

        await self.store.run(act)

    async def trust_address(self, target: Target, who: str) -> None:
        """An address that messages had come back from is written to again."""

        def act(connection: Connection) -> None:
            if not contacts.clear_bad(connection, target):
                raise NotThere(f"{target.key!r} is not among those that messages come back from")
            # No address in what is kept for long.
            note_audit(connection, self.now(), who, "trust address", target.channel)
            self.dispatch.try_again(connection, self.now())

        await self.store.run(act)
        self.changed()

    async def account(self, account_id: int) -> StoredAccount:
        """Raises ``NotThere``."""
        return await self.store.read(_account, account_id)

    async def _ask(self, stored: StoredAccount, question: Callable[[Provider], Awaitable[T]]) -> T:
        provider = self.providers.get(stored.account.workspace)
        if provider is None:
            raise NotNow(f"the workspace {stored.account.workspace!r} is no longer configured")
        try:
            async with asyncio.timeout(CALL_WITHIN):
                return await question(provider)
        except TimeoutError:
            raise Unavailable("the call did not get through in time: the API's allowance may be used up") from None

    async def _on_account(
        self, account_id: int, who: str, action: str, act: Callable[[Case], object], detail: str = ""
    ) -> StoredAccount:
        def inside(connection: Connection) -> StoredAccount:
            stored = _account(connection, account_id)
            act(Case(connection, stored, self.now()))
            self._note(connection, who, action, stored, detail)
            return stored

        return await self.store.run(inside)

    def _on_incident(
        self,
        connection: Connection,
        account_id: int,
        who: str,
        action: str,
        act: Callable[[Case, Incident, str], T],
        detail: str = "",
    ) -> T:
        stored = _account(connection, account_id)
        incident = incidents.open_for(connection, account_id)
        if incident is None:
            raise NotNow("the account is not broken")
        self._note(connection, who, action, stored, detail)
        return act(Case(connection, stored, self.now()), incident, who)

    def _note(self, connection: Connection, who: str, action: str, stored: StoredAccount, detail: str = "") -> None:
        subject = f"{stored.account.workspace}/{stored.account.ref}"
        note_audit(connection, self.now(), who, action, subject, stored.id, detail)

    def _ahead(self, until: datetime) -> datetime:
        now = self.now()
        if until <= now:
            raise NotNow("that time has passed")
        return min(until, now + LONGEST_QUIET)


def _until(at: datetime) -> str:
    return f"until {at:%Y-%m-%d %H:%M} UTC"


def _look_now(case: Case) -> None:
    accounts.schedule_probe(case.connection, [case.account.id], case.now, Lane.CLICK)


def _account(connection: Connection, account_id: int) -> StoredAccount:
    found = accounts.by_id(connection, account_id)
    if found is None:
        raise NotThere(f"there is no account {account_id}")
    return found


def _storm(connection: Connection, storm_id: str) -> Storm:
    found = storms.get(connection, storm_id)
    if found is None:
        raise NotThere(f"there is no storm {storm_id!r}")
    if found.ended_at is not None:
        raise NotNow("this storm is over")
    return found
