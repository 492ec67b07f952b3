"""A load generator that costs little itself: prepared requests over keep-alive connections, nothing parsed but what
tells where an answer ends.
"""

from __future__ import annotations

import asyncio
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass
class Result:
    """Seconds and counts of one run."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, part: float) -> float:
        """Milliseconds."""
        return statistics.quantiles(self.latencies, n=1000)[round(part * 10) - 1] * 1000


async def fire(
    host: str, port: int, requests: Sequence[bytes], connections: int, again_after: float | None = None
) -> Result:
    """Sends every request once, over so many connections, one at a time on each. Where ``again_after`` says so, what
    was answered by a 5xx is sent again so many seconds later.
    """
    result, waiting = Result(), iter(requests)

    async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
        started = perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is not None and int(length[1]):
            await reader.readexactly(int(length[1]))
        result.latencies.append(perf_counter() - started)
        found = _STATUS.match(head)
        status = int(found[1]) if found else 0
        result.statuses[status] += 1
        return status

    async def work() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for request in waiting:
            while (await asked(reader, writer, request)) >= 500 and again_after is not None:  # noqa: ASYNC110
                await asyncio.sleep(again_after)
        writer.close()
        await writer.wait_closed()

    started = perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    result.seconds = perf_counter() - started
    return result


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of one POST."""
    lines = [f"POST {path} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
