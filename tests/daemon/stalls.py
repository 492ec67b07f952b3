"""Runs the daemon as ``healthd run`` does, and measures how long its event loop stands still. Ends on SIGTERM with one
line of JSON: the worst stall, and how long this machine takes for a fixed piece of work, both in seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from healthd import logs
from healthd.app import serve
from healthd.config import Settings, load, split_address

TICK = 0.002


def yardstick() -> float:
    """CPU seconds for a fixed piece of Python; the best of several, so that a busy machine does not stretch it."""
    best = float("inf")
    for _ in range(7):
        began = time.thread_time()
        sum(len(json.dumps({"number": number, "words": ["a", "b"]})) for number in range(2000))
        best = min(best, time.thread_time() - began)
    return best


async def watch(stalls: list[float]) -> None:
    """Between two ticks the loop stood still for at most the time that passed, and for at most the CPU time that the
    process used: the first alone would count what other processes take away, the second what other threads do.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        await asyncio.sleep(TICK)
        now, used = time.perf_counter(), time.process_time()
        stalls.append(min(now - wall, used - cpu))
        wall, cpu = now, used


async def watch_once_ready(settings: Settings, stalls: list[float]) -> None:
    """What happens before anybody is served holds up nobody."""
    reader, writer = None, None
    while reader is None or writer is None:
        try:
            reader, writer = await asyncio.open_connection(*split_address(settings.server.admin_listen))
        except OSError:
            await asyncio.sleep(0.01)
    writer.write(b"GET /livez HTTP/1.0\r\nHost: h\r\n\r\n")
    await reader.read()
    writer.close()
    await watch(stalls)


async def run(config: Path, stalls: list[float]) -> None:
    settings = load(config)
    watcher = asyncio.create_task(watch_once_ready(settings, stalls))
    await serve(settings)
    watcher.cancel()


def main() -> None:
    logs.configure("info", "json")
    stalls: list[float] = []
    unit = yardstick()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(Path(sys.argv[1]), stalls))
    print(json.dumps({"worst": sorted(stalls)[-20:], "unit": unit, "ticks": len(stalls)}))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
