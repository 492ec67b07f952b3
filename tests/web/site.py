"""A running daemon with many accounts, and people and robots who open its pages, each with a browser of their own."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import select, text, update

from healthd.demo.person import Page, Person, read
from healthd.links import Links
from healthd.sandbox.world import CREDENTIALS_ONLY, PLATFORMS, Account
from healthd.store import incidents
from healthd.store.schema import links, mints
from tests.daemon.conftest import settled
from tests.daemon.rig import HOST, LINK_SECRET, Rig, rig

SWEEP = 'bulk_interval = "1h"\ninventory_interval = "1h"\nrequest_timeout = "0.5s"'
ACCOUNTS = 192
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Everything here is plain http on loopback; loading the world's authorities for each visitor would take its time."""
LINKABLE = set(PLATFORMS) - CREDENTIALS_ONLY - {"instagram", "gmb"}
"""One of each login: those behind the same one would share a mail."""


@dataclass(frozen=True)
class Broken:
    """An account that somebody has to repair, and the link from the mail about it."""

    account: Account
    link: str

    @property
    def token(self) -> str:
        return self.link.rpartition("/")[2]

    @property
    def id(self) -> str:
        return self.token.partition(".")[0]


@dataclass
class Site:
    """Each test takes accounts that no other test has touched, so that one daemon serves them all."""

    scene: Rig
    _addresses: Iterator[str] = field(
        default_factory=lambda: (f"203.0.{a}.{b}" for a in range(256) for b in range(256))
    )
    _taken: set[int] = field(default_factory=set)
    _waiting: list[Broken] = field(default_factory=list)

    @property
    def links(self) -> Links:
        return Links(self.scene.public, [LINK_SECRET])

    async def broken(self, platform: str | None = None, workspace: str = "sandbox") -> Broken:
        """An account that nobody has looked after yet. They break by the dozen, which takes less time for each."""
        while True:
            for place, broken in enumerate(self._waiting):
                if broken.account.workspace == workspace and platform in {None, broken.account.platform}:
                    return self._waiting.pop(place)
            self._waiting += await self._break(workspace)

    def forget(self) -> None:
        """The next broken account is one whose mail has still to be written."""
        self._waiting.clear()

    async def _break(self, workspace: str) -> list[Broken]:
        since = self.scene.inbox.newest
        mine = [
            account
            for account in self.scene.sandbox.world.accounts.values()
            if account.workspace == workspace and account.id not in self._taken and account.platform in LINKABLE
        ][: len(LINKABLE)]
        assert mine, "all accounts are taken: give the site more of them"
        for account in mine:
            self._taken.add(account.id)
            self.scene.expire(account)
        mails = [await self.scene.mail(f"{account.name}”", since=since) for account in mine]
        return [Broken(account, mail.link or "") for account, mail in zip(mine, mails, strict=True)]

    def new_address(self) -> str:
        return next(self._addresses)

    @asynccontextmanager
    async def visitor(self, address: str | None = None, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
        """A browser that was never here before, at an address of its own."""
        headers = {"x-forwarded-for": address or self.new_address()} | headers
        async with httpx2.AsyncClient(timeout=15, trust_env=False, headers=headers, verify=NO_TLS) as http:
            yield http

    async def see(self, broken: Broken) -> Page:
        """The page as somebody sees it who opens it for the first time."""
        async with self.visitor() as http:
            return await Person(http).open(broken.link)

    async def press(self, http: httpx2.AsyncClient, broken: Broken, **headers: str) -> httpx2.Response:
        """The button, without following where it leads."""
        page = read(await http.get(broken.link))
        return await http.post(broken.link, data=page.fields, headers=headers)

    def minted(self, broken: Broken) -> int:
        """How many of the provider's links were made for the account."""
        return sum(link.account == broken.account.id for link in self.scene.sandbox.world.links.values())

    async def presses(self, broken: Broken) -> list[tuple[str, str]]:
        """What is on record: ``(outcome, client)`` of each press, oldest first."""
        query = select(mints.c.outcome, mints.c.client).where(mints.c.link_id == broken.id).order_by(mints.c.id)
        rows = await self.scene.store.read(lambda connection: connection.execute(query).all())
        return [(row.outcome, row.client) for row in rows]

    async def rename(self, broken: Broken, name: str, username: str | None) -> None:
        await self._sql("UPDATE accounts SET name = :name, username = :username", broken, name=name, username=username)

    async def doubt(self, broken: Broken) -> None:
        """Nobody has confirmed that the account is broken."""
        await self._sql("UPDATE incidents SET confirmed_at = NULL", broken, key="account_id")

    async def _sql(self, change: str, broken: Broken, *, key: str = "id", **values: object) -> None:
        [incident, *_] = await self.scene.incidents(broken.account)
        statement = text(f"{change} WHERE {key} = :account")
        facts = values | {"account": incident.account_id}
        await self.scene.store.run(lambda connection: connection.execute(statement, facts))

    async def change_link(self, broken: Broken, **values: Any) -> None:
        statement = update(links).where(links.c.id == broken.id).values(**values)
        await self.scene.store.run(lambda connection: connection.execute(statement))

    async def record_presses(
        self, broken: Broken, count: int, *, minutes_ago: float, outcome: str = "unavailable"
    ) -> None:
        """As if the button had been pressed so often, so long ago."""
        at = self.scene.now() - timedelta(minutes=minutes_ago)

        def record(connection: Any) -> None:
            link = incidents.link(connection, broken.id)
            assert link is not None
            for _ in range(count):
                incidents.record_mint(connection, link, outcome, "robot", at)

        await self.scene.store.run(record)

    async def until_resolved(self, broken: Broken) -> None:
        async def resolved() -> bool:
            return all(incident.resolved_at for incident in await self.scene.incidents(broken.account))

        await self.scene.until(resolved, "the repair")


@asynccontextmanager
async def site(folder: Path, each: int = ACCOUNTS, **settings: str) -> AsyncIterator[Site]:
    """``each``: how many accounts each of the two workspaces has."""
    async with rig(folder, options={"workspaces": ("sandbox", "spare"), "accounts": each}, **settings) as scene:
        ports = scene.ports
        server = (
            f'listen = "{HOST}:{ports["public"]}"\nadmin_listen = "{HOST}:{ports["admin"]}"\ndrain_timeout = "5s"\n'
            'trusted_proxies = ["127.0.0.1"]'
        )
        notices = 'default = ["mail:ada@acme.example"]\ngroup_wait = "0s"\ngroup_interval = "0s"\ndigest_above = 1000'
        scene.settings = {"server": server, "sweep": SWEEP, "notices": notices} | scene.settings
        for account in scene.sandbox.world.accounts.values():
            account.name = f"Acme {account.platform} {account.id}"
        await scene.start()
        await settled(scene)
        yield Site(scene)
