"""Words between the daemons of one store: that there is something to do, or to show.

A word may be lost, since what it is about stands in the store: whoever did not hear it finds it at the next look.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress

import structlog

from healthd.store.database import Store, StoreUnavailable

log = structlog.get_logger("healthd.store")

GATHERED_FOR = 0.05
"""Seconds for which words gather before they are said together."""
LISTEN_AGAIN = 2.0
"""Seconds between two attempts to listen."""
MOST = 7_000
"""Bytes of what is said at once: PostgreSQL takes no more than 8,000."""


class Wakeups:
    """``heard`` is told each word of another daemon, and an empty one where some may have been missed."""

    def __init__(self, store: Store, heard: Callable[[str], None]) -> None:
        self._store = store
        self._heard = heard
        self._me = secrets.token_hex(4)
        self._words: dict[str, None] = {}
        self._saying: asyncio.Task[None] | None = None

    @property
    def are_heard(self) -> bool:
        """Whether there can be anybody: whoever has much to say asks before putting it into words."""
        return self._store.shared

    def say(self, word: str) -> None:
        """For all others to hear, soon."""
        if not self.are_heard:
            return
        self._words[word] = None
        if self._saying is None or self._saying.done():
            self._saying = asyncio.create_task(self._say())

    async def _say(self) -> None:
        while self._words:
            await asyncio.sleep(GATHERED_FOR)
            words, self._words = self._words, {}
            for payload in _payloads(self._me, words):
                with suppress(StoreUnavailable):
                    await self._store.say(payload)

    async def listen(self) -> None:
        """For as long as the daemon runs; nothing where nobody else is there to be heard."""
        while self.are_heard:
            try:
                await self._store.listen(lambda: self._heard(""), self._take)
            except StoreUnavailable as error:
                log.warning("store.not_listening", reason=str(error))
            await asyncio.sleep(LISTEN_AGAIN)

    def _take(self, payload: str) -> None:
        sender, *words = payload.split("\n")
        if sender != self._me:
            for word in words:
                self._heard(word)

    async def close(self) -> None:
        if self._saying is not None:
            self._saying.cancel()
            await asyncio.gather(self._saying, return_exceptions=True)


def _payloads(sender: str, words: Collection[str]) -> list[str]:
    found, size = [[sender]], len(sender)
    for word in words:
        size += len(word.encode()) + 1
        if size > MOST:
            found.append([sender])
            size = len(sender) + len(word.encode()) + 1
        found[-1].append(word)
    return ["\n".join(one) for one in found]
