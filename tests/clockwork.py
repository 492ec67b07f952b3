"""Time that takes no time: a loop whose clock leaps to the next timer, and a wall clock that goes with it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import time_machine

T = TypeVar("T")


class Clockwork(asyncio.SelectorEventLoop):
    """A loop in which waiting takes no time: when nothing is ready, its clock goes straight to the next timer.

    Work for threads is done at once, in order: one thing happens at a time, and the same things in every run.
    """

    def __init__(self, leapt: Callable[[float], None] = lambda _: None) -> None:
        self.now = 0.0
        selector = selectors.DefaultSelector()
        wait = selector.select

        def leap(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None:
                raise RuntimeError("everybody waits for ever")
            if timeout > 0:
                self.now += timeout
                leapt(timeout)
            # Nothing here uses a socket but the loop's own, which wakes it from other threads: there are none.
            return wait(0) if timeout <= 0 else []

        selector.select = leap  # type: ignore[method-assign]
        super().__init__(selector)
        # After some months a float of seconds is no longer as fine as the real clock's resolution.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to whoever awaits it
            done.set_exception(error)
        return done


def played(main: Callable[[], Coroutine[Any, Any, T]], starts: datetime | None = None) -> T:
    """Runs it in its own time; the wall clock begins at ``starts`` and goes along, if that is given."""
    if starts is None:
        with asyncio.Runner(loop_factory=Clockwork) as runner:
            return runner.run(main())
    travel = time_machine.travel(starts.astimezone(UTC), tick=False)
    wall = travel.start()
    try:
        with asyncio.Runner(loop_factory=lambda: Clockwork(wall.shift)) as runner:
            return runner.run(main())
    finally:
        travel.stop()
