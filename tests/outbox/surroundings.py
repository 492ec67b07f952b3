"""An outbox over a real store, with channels that do what they are told: accept, refuse, break, or never answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from healthd.channels.base import Content, Delivery, Notice, Receipt, TroubleNotice
from healthd.core.cadence import Cadence
from healthd.core.model import NoticeKind, NoticeStatus, Observation, Signal, Source, Target
from healthd.core.routing import Route, Routing
from healthd.engine import Engine
from healthd.links import Links
from healthd.metrics import Metrics
from healthd.outbox import Outbox
from healthd.providers.allowance import Allowance
from healthd.providers.base import Provider
from healthd.providers.smartlyq import SmartlyQ
from healthd.store import accounts, migrations, notices, profiles
from healthd.store.accounts import StoredAccount
from healthd.store.database import Store
from healthd.store.notices import StoredNotice

PATIENCE = 15.0


@dataclass
class Scripted:
    """A channel whose answers are written down beforehand, one for each attempt; after them it accepts everything."""

    answers: list[Exception | asyncio.Event] = field(default_factory=list)
    got: list[Delivery] = field(default_factory=list)
    taken: list[Delivery] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    silent: asyncio.Event | None = None
    """Where it is set to an event, nothing is answered before that."""

    def render(self, notice: Notice | TroubleNotice) -> Content:
        if isinstance(notice, TroubleNotice):
            return {"text": f"{notice.kind} {notice.workspace}"}
        minutes = f" for {notice.link_minutes} minutes" if notice.link_minutes else ""
        return {"text": f"{notice.kind} {notice.account_name} {notice.link or '-'}{minutes}"}

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

    async def recovers(self, ref: str = "1") -> None:
        await self.observe(ref, Signal.OK)

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
            old.store, old.channels, old.providers, old.links, old.cadence, Metrics("test"), self.now, old.rng
        )
        return self.outbox


@asynccontextmanager
async def surroundings(
    folder: Path,
    *,
    channels: tuple[str, ...] = ("mail",),
    routes: tuple[Route, ...] = (),
    remind_after: tuple[timedelta, ...] = Cadence().remind_after,
    provider_url: str = "http://127.0.0.1:9/v1",
    direct: bool = False,
) -> AsyncIterator[Surroundings]:
    store = Store(f"sqlite:///{folder / 'outbox.db'}")
    await store.run(migrations.upgrade)
    await store.run(profiles.ensure_own, ["acme"])
    scene: Surroundings

    def now() -> datetime:
        return scene.now()

    rng = random.Random(3)
    engine = Engine(routing=Routing(routes, (Target("mail", "ada@acme.example"),)), rng=rng)
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
    outbox = Outbox(store, scripted, providers, links, Cadence(remind_after), Metrics("test"), now, rng)
    scene = Surroundings(store, engine, scripted, outbox)
    async with provider.session():
        try:
            yield scene
        finally:
            await store.close()
