"""``/live``: tells open pages that something has changed, by server-sent events.

What has changed is not in it, only about which accounts: a page asks for itself again, as whoever looks at it. So a
stream holds nothing that its reader may not see, and one that is lost loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

MOST_STREAMS = 64
MOST_NAMED = 200
"""Accounts that one event names; of more it says that anything may have changed."""
APART = 1.0
"""Seconds between two events of a stream, however much happens."""
HEARTBEAT = 15.0
LASTS = 900.0
"""Seconds after which a stream ends, so that its reader proves again who they are."""


@dataclass(eq=False)
class _Stream:
    news: asyncio.Event = field(default_factory=asyncio.Event)
    accounts: set[int] = field(default_factory=set)
    everything: bool = False

    def note(self, accounts: Collection[int]) -> None:
        self.accounts.update(accounts)
        self.everything |= not accounts or len(self.accounts) > MOST_NAMED
        self.news.set()

    def take(self) -> bytes:
        said = {} if self.everything else {"accounts": sorted(self.accounts)}
        self.accounts.clear()
        self.everything = False
        self.news.clear()
        return b"event: changed\ndata: " + orjson.dumps(said) + b"\n\n"


@dataclass
class Live:
    """All open streams."""

    most: int = MOST_STREAMS
    apart: float = APART
    heartbeat: float = HEARTBEAT
    lasts: float = LASTS
    _streams: set[_Stream] = field(default_factory=set)
    _closed: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, accounts: Collection[int] = ()) -> None:
        """Something has changed about these accounts; where none is named, about anything."""
        for stream in self._streams:
            stream.note(accounts)

    def close(self) -> None:
        """Ends all streams, and lets no new one begin: the daemon drains."""
        self._closed.set()

    async def answer(self, _: Request) -> Response:
        if self._closed.is_set() or len(self._streams) >= self.most:
            # 204 would end the reader's attempts for good.
            return PlainTextResponse("no live updates now: reload instead\n", 503, {"retry-after": "30"})
        return StreamingResponse(
            self._events(),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _events(self) -> AsyncIterator[bytes]:
        stream = _Stream()
        self._streams.add(stream)
        try:
            yield b"retry: 3000\n: at your service\n\n"
            ends = asyncio.get_running_loop().time() + self.lasts
            while not self._closed.is_set() and asyncio.get_running_loop().time() < ends:
                yield stream.take() if await self._happens(stream.news, self.heartbeat) else b": still here\n\n"
                await self._happens(self._closed, self.apart)
            yield b"event: ended\ndata: {}\n\n"
        finally:
            self._streams.discard(stream)

    async def _happens(self, event: asyncio.Event, within: float) -> bool:
        """Whether it does within so many seconds; a drain ends the wait."""
        waits = {asyncio.ensure_future(one.wait()) for one in (event, self._closed)}
        try:
            await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        return event.is_set()
