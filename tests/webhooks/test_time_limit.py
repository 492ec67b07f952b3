"""How long a body may take: each reader has its own time, and one timer watches all of them."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope

from healthd.bodies import TimeLimit, Unread
from tests.clockwork import played

SCOPE: Scope = {"headers": []}


def after(seconds: float, body: bytes = b"body") -> Receive:
    """A body that takes so long."""

    async def receive() -> Message:
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": body}

    return receive


def test_each_reader_has_its_own_time_however_many_read() -> None:
    async def main() -> None:
        limit, loop = TimeLimit(10), asyncio.get_running_loop()

        async def read(start: float, seconds: float) -> tuple[float, object]:
            await asyncio.sleep(start)
            try:
                found: object = await limit.read(SCOPE, after(seconds), 100)
            except Unread as unread:
                found = unread.status
            return loop.time(), found

        found = await asyncio.gather(read(0, 11), read(1, 2), read(4, 9), read(5, 11), read(20, 30))
        assert list(found) == [(10.0, 408), (3.0, b"body"), (13.0, b"body"), (15.0, 408), (30.0, 408)]

    played(main)


def test_a_reader_that_is_ended_for_another_reason_hears_of_that() -> None:
    async def main() -> None:
        reading = asyncio.create_task(TimeLimit(10).read(SCOPE, after(5), 100))
        await asyncio.sleep(1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    played(main)


def test_who_was_too_slow_may_go_on_with_something_else() -> None:
    async def main() -> None:
        with pytest.raises(Unread):
            await TimeLimit(1).read(SCOPE, after(5), 100)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(1)

    played(main)


@pytest.mark.parametrize("declared", [b"101", b"9" * 30])
def test_what_is_declared_too_long_is_not_read(declared: bytes) -> None:
    async def main() -> None:
        with pytest.raises(Unread) as refused:
            await TimeLimit(1).read({"headers": [(b"content-length", declared)]}, after(0), 100)
        assert refused.value.status == 413

    played(main)
