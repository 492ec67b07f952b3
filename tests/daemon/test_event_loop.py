"""Nothing in the daemon may hold up its event loop: who waits behind it is a webhook, a person, a probe."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import orjson

from tests.daemon.rig import HOST, Rig, rig
from tests.daemon.test_receiver import deliver, event

ACCOUNTS = 20_000
WEBHOOKS = 1_000
BROKEN = 60
SELDOM, EVER = 20, 60
"""How many times the yardstick (some four milliseconds of plain Python) the loop may stand still: a few times in all,
and at the very most.
"""


async def test_the_event_loop_never_stands_still_however_much_there_is_to_do(tmp_path: Path) -> None:
    sweep = 'bulk_interval = "2s"\ninventory_interval = "3s"'
    async with rig(tmp_path, options={"accounts": ACCOUNTS}, sweep=sweep, storm="least = 1000") as scene:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.daemon.stalls", str(scene.write_config()), cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=dict(os.environ),
        )  # fmt: skip
        try:
            await scene.until(lambda: _listens(scene), "the listener")
            await scene.until(lambda: _seen(scene), "the first sweep over everything")
            scraping = asyncio.create_task(_scrape(scene))
            for account in list(scene.sandbox.world.accounts.values())[:BROKEN]:
                scene.expire(account)
            answers = await asyncio.gather(*(deliver(scene, event("comment.received")) for _ in range(WEBHOOKS)))
            assert {status for status, _ in answers} == {202}
            await scene.until(lambda: _told(scene), "a message about each")
            swept = len(scene.asked("/health", bulk=True))
            await scene.until(lambda: len(scene.asked("/health", bulk=True)) > swept, "one more sweep")
            scraping.cancel()
            process.send_signal(signal.SIGTERM)
            output, _ = await asyncio.wait_for(process.communicate(), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    measured = orjson.loads(output)
    assert measured["ticks"] > 500
    assert measured["worst"][-5] < SELDOM * measured["unit"], measured
    assert measured["worst"][-1] < EVER * measured["unit"], measured


async def _listens(scene: Rig) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, scene.ports["admin"])
    except OSError:
        return False
    writer.close()
    return True


async def _seen(scene: Rig) -> bool:
    return await scene.metric("healthd_accounts", state="healthy") == ACCOUNTS


async def _told(scene: Rig) -> bool:
    return await scene.metric("healthd_notices_total", kind="opened", outcome="sent") == BROKEN


async def _scrape(scene: Rig) -> None:
    while True:
        await scene.http.get(f"{scene.admin}/metrics")
        await asyncio.sleep(0.02)
