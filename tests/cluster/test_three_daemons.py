"""Several daemons share one PostgreSQL: what one of them leaves undone, another one does, and nobody does it twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from tests.cluster.place import LEASE, Place, balanced, place
from tests.crash.lives import Life
from tests.crash.test_soak import Stream

ACCOUNTS = 60
BLOWS = 8
FAIR = 1 / 3


class Blows:
    """What befalls the daemons and their database, by the dice."""

    def __init__(self, on: Place, dice: random.Random) -> None:
        self.on = on
        self.dice = dice
        self.counts: Counter[str] = Counter()

    async def kill(self, lives: list[Life | None], stack: AsyncExitStack) -> None:
        number = self.dice.randrange(len(lives))
        victim = lives[number]
        assert victim is not None
        victim.process.kill()
        await victim.ended()
        await asyncio.sleep(self.dice.uniform(0.0, LEASE / 2))
        lives[number] = await stack.enter_async_context(self.on.daemon(number))

    async def stop(self, lives: list[Life | None], _: AsyncExitStack) -> None:
        """Longer than a lease, and then it goes on as if nothing had been."""
        victim = self.dice.choice(lives)
        assert victim is not None
        assert victim.process.pid is not None
        os.kill(victim.process.pid, signal.SIGSTOP)
        await asyncio.sleep(LEASE * 1.5)
        os.kill(victim.process.pid, signal.SIGCONT)

    async def crash(self, lives: list[Life | None], _: AsyncExitStack) -> None:
        await self.on.restart_database()

    async def fall(self, lives: list[Life | None], stack: AsyncExitStack, running: asyncio.Task[None]) -> None:
        kinds = [self.kill, self.kill, self.stop, self.crash]
        for number in range(BLOWS):
            await asyncio.sleep(self.dice.uniform(0.2, 1.0))
            if running.done():
                return
            blow = kinds[number % len(kinds)]
            self.counts[blow.__name__] += 1
            await blow(lives, stack)


async def test_the_work_is_spread_over_them(tmp_path: Path) -> None:
    async with place(tmp_path, accounts=ACCOUNTS, storm=f"least = {ACCOUNTS}") as on, AsyncExitStack() as stack:
        on.name_accounts()
        await asyncio.gather(*(stack.enter_async_context(on.daemon(number, leases="")) for number in range(3)))
        await on.until_swept()
        async with balanced(on, random.Random(7)):
            await Stream(on).run()
        await on.until_quiet()
        assert sum(on.handed_over) == 2 * ACCOUNTS
        assert min(on.handed_over) > ACCOUNTS * 2 * FAIR / 2, "none does less than half of its share"
        assert on.check_letters() == 0


async def test_what_a_dead_one_was_at_others_do_once_its_lease_has_ended(tmp_path: Path) -> None:
    """One dies in the sweep that it does for all, and another one with a message in its hands. Neither comes back."""
    async with place(tmp_path, accounts=6, storm="least = 6") as on, AsyncExitStack() as stack:
        on.name_accounts()
        async with on.daemon(0, kill="profiles.mark_bulk#1:before", ready=False) as sweeping:
            await sweeping.killed()
        await stack.enter_async_context(on.daemon(1))
        await on.until_swept()
        sending = await stack.enter_async_context(on.daemon(2, kill="Email.send#1:before"))
        on.scene.ports["public"] = on.scenes[2].ports["public"]
        stream = Stream(on)
        running = asyncio.create_task(stream.run())
        await sending.killed()
        on.scene.ports["public"] = on.scenes[1].ports["public"]
        await running
        await on.until_quiet()
        assert [bool(number) for number in on.handed_over] == [False, True, False]
        on.check_letters()
        stream.check_ends()


async def test_when_the_database_fails_over_they_go_on_with_its_standby(tmp_path: Path) -> None:
    storm = f"least = {ACCOUNTS}"
    async with place(tmp_path, accounts=24, standby=True, storm=storm) as on, AsyncExitStack() as stack:
        on.name_accounts()
        lives = [await stack.enter_async_context(on.daemon(number)) for number in range(2)]
        await on.until_swept()
        async with balanced(on, random.Random(7), daemons=2):
            stream = Stream(on)
            running = asyncio.create_task(stream.run())
            await on.scene.mail("Shop 0000")
            await on.fail_over()
            await running
        await on.until_quiet()
        on.check_letters()
        stream.check_ends()
        assert not any(life.over for life in lives)


async def test_nothing_is_lost_and_nothing_doubled_whatever_befalls_them(tmp_path: Path) -> None:
    dice = random.Random(7)
    async with place(tmp_path, accounts=ACCOUNTS, storm=f"least = {ACCOUNTS}") as on, AsyncExitStack() as stack:
        on.name_accounts()
        lives: list[Life | None] = [await stack.enter_async_context(on.daemon(number)) for number in range(3)]
        await on.until_swept()
        async with balanced(on, dice):
            stream, blows = Stream(on), Blows(on, dice)
            running = asyncio.create_task(stream.run())
            await blows.fall(lives, stack, running)
            await running
        await on.until_quiet()
        repeats = on.check_letters()
        sys.stdout.write(f"{dict(blows.counts)} {repeats} repeats, {sum(on.excused().values())} excused\n")
        stream.check_ends()
