"""A daemon in whose world much is broken, and operators who look at it: one for all tests, since it takes its time."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import text

from healthd.core.contacts import Contact
from healthd.core.model import NoticeKind, State, Target
from healthd.core.owners import Owned
from healthd.sandbox.world import Account
from healthd.store import accounts, contacts, notices, storms
from tests.daemon.conftest import settled
from tests.daemon.rig import Rig, rig

TOKENS = {role: f"a-token-of-the-{role}-that-is-long-enough" for role in ("viewer", "operator", "admin")}
ADA = Contact("ada", "Ada Lovelace", (Target("mail", "ada@acme.example"),))
BOB = Contact("bob", "Bob Brown", (Target("mail", "bob@acme.example"),))
HOSTILE = "<img src=x onerror=alert(1)>\u202e" + "Ünbrëäkäble🦋" * 800
"""What nobody would call an account who means well: 10 kB without a blank, HTML, and a mark that turns text around."""
STORM_OF = 6
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class House:
    """``broken`` was told to Ada, who pressed the button and repaired nothing; ``unread`` was told and not opened;
    ``given_up`` is what nobody could be told of; ``hostile`` has a terrible name, and works.
    """

    scene: Rig
    broken: Account
    unread: Account
    given_up: Account
    hostile: Account

    async def id_of(self, account: Account) -> int:
        found = await self.scene.store.read(accounts.load, account.workspace, [str(account.id)])
        return found[str(account.id)].id

    async def path(self, account: Account) -> str:
        return f"/accounts/{await self.id_of(account)}"

    async def sql(self, statement: str, **values: Any) -> None:
        await self.scene.store.run(lambda connection: connection.execute(text(statement), values))

    async def fresh(self, platform: str) -> Account:
        """An account that works, and that no other test uses."""
        taken = {self.broken.id, self.unread.id, self.given_up.id, self.hostile.id}
        for account in self.scene.sandbox.world.accounts.values():
            if account.platform != platform or account.id in taken:
                continue
            if await self.scene.state(account) is State.HEALTHY:
                return account
        raise AssertionError(f"no {platform} account is left")

    async def break_(self, account: Account) -> None:
        """It breaks, and its people have been told when this returns."""
        since = self.scene.inbox.newest
        self.scene.expire(account)
        await self.scene.mail(account.name, since=since)

    async def storm(self) -> str | None:
        """The id of the storm that lasts."""
        found = await self.scene.store.read(storms.all_current)
        return found[0].id if found else None

    async def dead_notice(self) -> str:
        """A notice that was given up."""
        about = await self.id_of(self.given_up)
        found = await self.scene.store.read(notices.of_account, about)
        first = next(one for one in found if one.kind is NoticeKind.OPENED)
        await self.sql("UPDATE notices SET status = 'dead', reason = 'the mailbox is full' WHERE id = :id", id=first.id)
        return first.id

    @asynccontextmanager
    async def asks(self, role: str) -> AsyncIterator[httpx2.AsyncClient]:
        """A script with a token of this role."""
        headers = {"authorization": f"Bearer {TOKENS[role]}", "accept": "text/html"}
        base = self.scene.admin
        async with httpx2.AsyncClient(
            base_url=base, headers=headers, trust_env=False, verify=NO_TLS, timeout=20
        ) as http:
            yield http

    @asynccontextmanager
    async def signed_in(self, role: str) -> AsyncIterator[httpx2.AsyncClient]:
        """A browser's session, without the browser."""
        base, headers = self.scene.admin, {"accept": "text/html"}
        async with httpx2.AsyncClient(
            base_url=base, headers=headers, trust_env=False, verify=NO_TLS, timeout=20
        ) as http:
            answer = await http.post("/sign-in", data={"token": TOKENS[role], "next": "/"})
            assert answer.status_code == 303
            yield http


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    tokens = {f"access.tokens.{role}": f'role = "{role}"\ntoken = "{token}"' for role, token in TOKENS.items()}
    async with rig(
        folder,
        options={"workspaces": ("acme",), "accounts": 128},
        storm=f"least = {STORM_OF - 2}\nshare = 0.2",
        sweep='bulk_interval = "1h"\ninventory_interval = "1h"\nrequest_timeout = "2s"',
        **tokens,
    ) as scene:
        await scene.start()
        await settled(scene)
        await scene.store.run(contacts.put, [ADA, BOB], "api", scene.now())
        owned = Owned("acme", "workspace", "", (("ada",), ("bob",)), {"team": "social"})
        await scene.store.run(contacts.assign, [owned], "api", scene.now())
        await scene.store.run(
            contacts.mark_bad, Target("mail", "gone@acme.example"), scene.now(), "550 no such user", "dsn"
        )
        made = House(
            scene, scene.account("facebook"), scene.account("linkedin"), scene.account("pinterest"),
            scene.account("tiktok"),
        )  # fmt: skip
        for account in (made.broken, made.unread, made.given_up):
            await made.break_(account)
        mail = await scene.mail(made.broken.name)
        await scene.person.press(await scene.person.open(mail.link or ""))
        for number in range(STORM_OF):
            scene.expire(scene.account("reddit", number))
        await scene.until(lambda: _storms(made), "the storm")
        await made.sql(
            "UPDATE accounts SET name = :name WHERE id = :id", name=HOSTILE, id=await made.id_of(made.hostile)
        )
        await made.dead_notice()
        yield made


async def _storms(made: House) -> bool:
    return await made.storm() is not None
