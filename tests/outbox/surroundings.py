"""An outbox over a real store, with channels that do what they are told: accept, refuse, break, or never answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from healthd.channels.base import Content, Delivery, Message, Notice, Receipt
from healthd.core.cadence import Cadence
from healthd.core.contacts import Contact
from healthd.core.model import NoticeKind, NoticeStatus, Observation, Signal, Source, Target
from healthd.core.routing import Route, Routing
from healthd.dispatch import Case, Dispatch
from healthd.engine import Engine
from healthd.links import Links
from healthd.metrics import Metrics
from healthd.outbox import LEASE, Outbox
from healthd.providers.allowance import Allowance
from healthd.providers.base import Provider
from healthd.providers.smartlyq import SmartlyQ
from healthd.store import accounts, contacts, decisions, incidents, notices, profiles
from healthd.store.accounts import StoredAccount
from healthd.store.database import Store
from healthd.store.decisions import Decision
from healthd.store.incidents import Incident
from healthd.store.notices import Batch, StoredNotice
from tests.fresh_store import fresh_store

PATIENCE = 15.0


@dataclass
class Scripted:
    """A channel whose answers are written down beforehand, one for each attempt; after them it accepts everything."""

    answers: list[Exception | asyncio.Event] = field(default_factory=list)
    got: list[Delivery] = field(default_factory=list)
    taken: list[Delivery] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    told: list[Message] = field(default_factory=list)
    """What was put into words."""
    silent: asyncio.Event | None = None
    """Where it is set to an event, nothing is answered before that."""

    def render(self, notice: Message) -> Content:
        self.told.append(notice)
        if not isinstance(notice, Notice):
            return {"text": f"{notice.kind} {notice.workspace}"}
        minutes = f" for {notice.link_minutes} minutes" if notice.link_minutes else ""
        names = ", ".join(account.name for account in notice.accounts)
        return {"text": f"{notice.kind} {names} {notice.link or '-'}{minutes}"}

    async def send(self, delivery: Delivery) -> Receipt:
        self.got.append(delivery)
        if self.silent is not None:
            await self.silent.wait()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            await answer.wait()
        self.during()
        self.taken.append(delivery)
        return {"number": str(len(self.taken))}

    async def check(self) -> str:
        return "there"

    async def close(self) -> None: ...


@dataclass
class Surroundings:
    store: Store
    engine: Engine
    channels: dict[str, Scripted]
    outbox: Outbox
    ahead: timedelta = timedelta(0)

    @property
    def mail(self) -> Scripted:
        return self.channels["mail"]

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def travel(self, span: timedelta) -> None:
        self.ahead += span

    async def observe(self, ref: str, signal: Signal, **more: object) -> None:
        facts: dict[str, object] = {"platform": "facebook", "name": f"Account {ref}", "asked_at": self.now()} | more
        seen = Observation(ref, signal, Source.HEALTH, self.now(), **facts)  # type: ignore[arg-type]
        await self.store.run(self.engine.apply, "acme", [seen], self.now(), str(more.get("profile") or ""))
        self.travel(timedelta(seconds=1))

    async def breaks(self, ref: str = "1", **more: object) -> None:
        """An account is seen well, then twice with a dead token: an incident."""
        for signal in (Signal.OK, Signal.BAD_TOKEN, Signal.BAD_TOKEN):
            await self.observe(ref, signal, **more)

    async def claimed(self, lease: str) -> list[Batch]:
        """What is due, as a sender takes it that is then lost."""
        now, cadence = self.now(), self.outbox.cadence
        return await self.store.run(notices.claim, now, lease, now + LEASE, 100, (), cadence)

    async def recovers(self, ref: str = "1") -> None:
        await self.observe(ref, Signal.OK)

    async def see(self, signal: Signal, *refs: str, **more: Any) -> None:
        """The same of several accounts, in one transaction."""
        now, profile = self.now(), str(more.pop("profile", ""))
        workspace = str(more.pop("workspace", "acme"))
        facts: dict[str, Any] = {"platform": "facebook", "asked_at": now} | more
        seen = [Observation(ref, signal, Source.HEALTH, now, name=f"Account {ref}", **facts) for ref in refs]
        await self.store.run(self.engine.apply, workspace, seen, now, profile)
        self.travel(timedelta(seconds=1))

    async def break_together(self, *refs: str, **more: Any) -> None:
        """Accounts that were known and well open their incidents in one transaction."""
        for signal in (Signal.OK, Signal.BAD_TOKEN, Signal.BAD_TOKEN):
            await self.see(signal, *refs, **more)

    async def send_all(self, span: timedelta, step: timedelta = timedelta(seconds=10)) -> int:
        """Lets time pass, and sends whatever falls due meanwhile."""
        sent, end = await self.outbox.send_due(), self.now() + span
        while self.now() < end:
            self.travel(min(step, end - self.now()))
            sent += await self.outbox.send_due()
        return sent

    def travel_to(self, at: datetime) -> None:
        self.ahead = at - datetime.now(UTC)

    async def knows(self, *given: Contact) -> None:
        await self.store.run(contacts.put, given, "api", self.now())

    async def case(self, ref: str = "1") -> tuple[StoredAccount, Incident]:
        """An account, and its incident that is open."""
        stored = await self.account(ref)
        incident = await self.store.read(incidents.open_for, stored.id)
        assert incident is not None
        return stored, incident

    async def decide(self, said: Callable[[Case, Incident], object], ref: str = "1") -> None:
        """A person decides something about an account that is broken."""
        stored, incident = await self.case(ref)
        now = self.now()
        await self.store.run(lambda connection: said(Case(connection, stored, now), incident))

    async def decisions(self, ref: str = "1") -> list[Decision]:
        """Oldest first."""
        return await self.store.read(decisions.of_account, (await self.account(ref)).id)

    async def leads_to(self, delivery: Delivery) -> set[str]:
        """The accounts that the link of a message leads to, by name."""
        links = self.outbox.links
        assert links is not None
        assert delivery.link is not None
        link_id = links.check(delivery.link.rpartition("/")[2])
        assert link_id is not None
        return await self.store.read(_accounts_behind, link_id)

    async def account(self, ref: str = "1") -> StoredAccount:
        return (await self.store.read(accounts.load, "acme", [ref]))[ref]

    async def notices(self, ref: str = "1") -> list[StoredNotice]:
        """Oldest first."""
        return (await self.store.read(notices.of_account, (await self.account(ref)).id))[::-1]

    async def fates(self, ref: str = "1") -> list[tuple[NoticeKind, NoticeStatus]]:
        return [(notice.kind, notice.status) for notice in await self.notices(ref)]

    async def until(self, said: Callable[[], bool], what: str) -> None:
        ends = asyncio.get_running_loop().time() + PATIENCE
        while not said():
            assert asyncio.get_running_loop().time() < ends, f"{what} did not come true"
            await asyncio.sleep(0.01)

    def reborn(self) -> Outbox:
        """The outbox of the next process on the same store."""
        old = self.outbox
        self.outbox = Outbox(
            old.store, old.channels, old.providers, old.links, old.dispatch, Metrics("test"), self.now, old.rng,
            old.resolver, old.severities, old.language,
        )  # fmt: skip
        return self.outbox


def _accounts_behind(connection: Connection, link_id: str) -> set[str]:
    link = incidents.link(connection, link_id)
    assert link is not None
    ids = {link.account_id, *(one.account_id for one in incidents.covered(connection, link_id))}
    found = (accounts.by_id(connection, account_id) for account_id in ids)
    return {stored.name for stored in found if stored is not None}


@asynccontextmanager
async def surroundings(
    folder: Path,
    *,
    channels: tuple[str, ...] = ("mail",),
    routes: tuple[Route, ...] = (),
    remind_after: tuple[timedelta, ...] = Cadence().remind_after,
    provider_url: str = "http://127.0.0.1:9/v1",
    direct: bool = False,
    cadence: Cadence | None = None,
    **choices: Any,
) -> AsyncIterator[Surroundings]:
    store = Store(fresh_store(folder / "outbox.db"))
    await store.run(profiles.ensure_own, ["acme"])
    scene: Surroundings

    def now() -> datetime:
        return scene.now()

    rng = random.Random(3)
    at_once = Cadence(remind_after, group_wait=timedelta(0), group_interval=timedelta(0))
    default = choices.pop("default", (Target("mail", "ada@acme.example"),))
    language, severities = choices.pop("language", "en"), choices.pop("severities", {})
    resolver = choices.pop("resolver", None)
    choices.setdefault("routing", Routing(routes, default))
    dispatch = Dispatch(cadence=cadence or at_once, **choices)
    engine = Engine(dispatch=dispatch, rng=rng)
    provider = SmartlyQ(
        workspace="acme",
        api_key="sqk_test_acme",
        allowance=Allowance(1.0, 10_000),
        now=now,
        base_url=provider_url,
        allowed_hosts=frozenset({provider_url.split("/")[2]}),
    )
    providers: dict[str, Provider] = {"acme": provider}
    scripted = {name: Scripted() for name in channels}
    links = None if direct else Links("https://healthd.example.com", ["s" * 32])
    outbox = Outbox(
        store, scripted, providers, links, dispatch, Metrics("test"), now, rng, resolver, severities, language
    )
    scene = Surroundings(store, engine, scripted, outbox)
    async with provider.session():
        try:
            yield scene
        finally:
            await store.close()
