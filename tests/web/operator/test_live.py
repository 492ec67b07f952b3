"""The stream that tells open pages of changes: seldom, bounded, and over when the daemon drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from healthd.web.operator.live import MOST_NAMED, Live

REQUEST = Request({"type": "http", "method": "GET", "path": "/live", "headers": []})


async def opened(live: Live) -> AsyncIterator[bytes]:
    """A stream whose greeting has been read."""
    answer = await live.answer(REQUEST)
    assert isinstance(answer, StreamingResponse)
    events: AsyncIterator[bytes] = answer.body_iterator  # type: ignore[assignment]
    assert (await anext(events)).startswith(b"retry:")
    return events


async def following(events: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(10):
        return await anext(events)


async def test_what_happens_at_once_is_told_at_once_and_together() -> None:
    live = Live(apart=0.0)
    events = await opened(live)
    for account in (3, 1, 3):
        live.publish([account])
    assert await following(events) == b'event: changed\ndata: {"accounts":[1,3]}\n\n'


async def test_what_names_no_account_may_be_anything() -> None:
    live = Live(apart=0.0)
    events = await opened(live)
    live.publish([1])
    live.publish()
    assert await following(events) == b"event: changed\ndata: {}\n\n"


async def test_very_much_is_told_as_anything() -> None:
    live = Live(apart=0.0)
    events = await opened(live)
    live.publish(range(MOST_NAMED + 1))
    assert await following(events) == b"event: changed\ndata: {}\n\n"


async def test_events_keep_apart_however_much_happens() -> None:
    live = Live(apart=0.2)
    events = await opened(live)
    live.publish([1])
    await following(events)
    began = asyncio.get_running_loop().time()
    live.publish([2])
    assert b"[2]" in await following(events)
    assert asyncio.get_running_loop().time() - began >= 0.19


async def test_a_quiet_stream_says_that_it_lives() -> None:
    events = await opened(Live(heartbeat=0.01, apart=0.0))
    assert await following(events) == b": still here\n\n"


async def test_a_drain_ends_every_stream_and_lets_none_begin() -> None:
    live = Live()
    events = await opened(live)
    waiting = asyncio.ensure_future(following(events))
    await asyncio.sleep(0)
    live.close()
    said = await waiting
    while not said.startswith(b"event: ended"):
        said = await following(events)
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert (await live.answer(REQUEST)).status_code == 503


async def test_a_stream_ends_after_a_while_so_that_its_reader_is_asked_again() -> None:
    events = await opened(Live(lasts=0.0))
    assert (await following(events)).startswith(b"event: ended")


async def test_there_are_never_more_than_so_many_and_one_that_is_left_makes_room() -> None:
    live = Live(most=1)
    events = await opened(live)
    assert (await live.answer(REQUEST)).status_code == 503
    await events.aclose()  # type: ignore[attr-defined]
    await opened(live)
