"""One stream of webhooks through a daemon that is killed again and again, wherever the dice fall.

``HEALTHD_SOAK_KILLS`` (and ``HEALTHD_SOAK_SEED``) make it longer and different: the number of accounts grows with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx2

from healthd.sandbox.world import Account
from tests.crash.lives import Life, Stage, life, stage
from tests.crash.mortal import ANY
from tests.daemon.test_receiver import signed

KILLS = int(os.environ.get("HEALTHD_SOAK_KILLS", "12"))
SEED = int(os.environ.get("HEALTHD_SOAK_SEED", "3"))
STEPS_PER_LIFE = 20
"""At the most; an account takes about ten of them."""
ACCOUNTS = 100 * max(1, KILLS // 30)
AT_ONCE = 12
REPAIRED = "connected again"


@dataclass
class Stream:
    """The provider and the people: each account breaks, is told of, and is repaired; each event is sent until taken."""

    on: Stage
    acknowledged: set[str] = field(default_factory=set)
    attempts: int = 0
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def run(self) -> None:
        accounts = self.on.scene.sandbox.world.accounts.values()
        await asyncio.gather(*(self.story(account) for account in accounts))

    async def story(self, account: Account) -> None:
        world = self.on.scene.sandbox.world
        async with self.turns:
            world.break_token(account)
            await self.send(account, "account.token_expired")
            await self.on.scene.mail(account.name)
            world.repair(account)
            await self.send(account, "account.connected")
            await self.on.scene.until(lambda: self.knows_of_the_repair(account), f"the repair of {account.name}")

    def knows_of_the_repair(self, account: Account) -> bool:
        return any(REPAIRED in caught.subject for caught in self.on.scene.inbox.find(account.name))

    async def send(self, account: Account, name: str) -> None:
        event_id = f"evt_{account.id}_{name}"
        facts = {"account_id": account.id, "platform": account.platform, "account_name": account.name}
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = json.dumps({"id": event_id, "event": name, "created_at": at, "data": facts}).encode()
        while event_id not in self.acknowledged:
            self.attempts += 1
            try:
                answer = await self.on.scene.http.post(
                    f"{self.on.scene.public}/webhooks/sandbox", content=body, headers=signed(self.on.scene, body)
                )
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.is_success:
                self.acknowledged.add(event_id)

    def check_ends(self) -> None:
        """Every story has been told: both of its events were understood once, and so were people."""
        on, accounts = self.on, list(self.on.scene.sandbox.world.accounts.values())
        assert len(self.acknowledged) == 2 * len(accounts)
        assert on.value("select count(*) from inbox where status = 'done'") == 2 * len(accounts)
        assert on.value("select count(*) from incidents where resolution = 'repaired'") == len(accounts)
        assert on.value("select count(*) from incidents") == len(accounts)
        good_news = on.letters.about(REPAIRED)
        for account in accounts:
            told = [identity in good_news for identity in on.letters.about(account.name)]
            assert sorted(told) == [False, True], "one that it is broken, one that it is repaired"


def over(mortal: Life, running: asyncio.Task[None]) -> bool:
    return mortal.over or running.done()


async def test_under_many_kills_nothing_is_lost_and_nothing_doubled_but_what_nobody_can_know(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    kills = 0
    async with stage(tmp_path, accounts=ACCOUNTS, storm=f"least = {ACCOUNTS}") as on:
        on.name_accounts()
        async with life(on):
            await on.until_swept()
        stream = Stream(on)
        running = asyncio.create_task(stream.run())
        while not running.done() and kills < KILLS:
            where = f"{ANY}#{dice.randint(1, STEPS_PER_LIFE)}:{dice.choice(('before', 'after'))}"
            async with life(on, kill=where, ready=False) as mortal:
                await on.scene.until(partial(over, mortal, running), "a death")
                kills += mortal.over
        async with life(on):
            await running
            await on.until_quiet()
        repeats = on.check_letters()
        counts = {
            "kills": kills,
            "webhooks": len(stream.acknowledged),
            "attempts": stream.attempts,
            "messages": len(on.letters.by_identity),
            "repeats": repeats,
            "excused": sum(on.excused().values()),
        }
        sys.stdout.write(f"{counts}\n")
        assert kills == KILLS, "the stream was over before the kills were"
        stream.check_ends()
