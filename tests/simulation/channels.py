"""Channels that take messages, refuse them, fail for hours, or take them and never say so."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from healthd.channels.base import Content, Dead, Delivery, Notice, Receipt, Retry, StormNotice, TroubleNotice, fill
from healthd.channels.wording import tell
from healthd.core.model import NoticeKind
from tests.simulation.record import Record


@dataclass(frozen=True, slots=True)
class Message:
    """What a person has in hand."""

    at: datetime
    notice_id: str
    kind: NoticeKind
    to: str
    text: str
    link: str | None
    subject: str


@dataclass
class Handed:
    """One notice at the channel: how often it came, and whether the sender knows that we took it."""

    digest: str
    times: int = 0
    known: bool = False
    deaths: int = 0
    """How often the process had died by then."""


@dataclass
class SimulatedChannel:
    """Meets ``Channel``. ``taken`` is told of every message that arrives, repeats among them."""

    name: str
    rng: random.Random
    record: Record
    now: Callable[[], datetime]
    alive: Callable[[], bool]
    taken: Callable[[Message], None]
    deaths: Callable[[], int]
    flaky: float = 0.0
    down: bool = False
    gone: set[str] = field(default_factory=set)
    """Addresses that do not exist any more."""
    handed: dict[str, Handed] = field(default_factory=dict)

    def render(self, notice: Notice | TroubleNotice | StormNotice) -> Content:
        words = tell(notice)
        named = ", ".join(row.title for row in words.rows)
        return {"subject": words.subject, "text": f"{words.headline}\n{words.happened}\n{named}\n{notice.link or ''}"}

    async def send(self, delivery: Delivery) -> Receipt:
        await asyncio.sleep(self.rng.uniform(0.01, 1.5))
        if self.down:
            await self._fail(delivery)
        if delivery.target.address in self.gone:
            raise Dead("there is no such person")
        if self.rng.random() < self.flaky:
            await self._sometimes(delivery)
        self._take(delivery, known=True)
        return {"id": delivery.notice_id}

    async def _fail(self, delivery: Delivery) -> None:
        self.record.note(delivery.notice_id, "channel down", self.name)
        raise Retry("down", after=self.rng.choice((None, 30.0, 600.0)))

    async def _sometimes(self, delivery: Delivery) -> None:
        """Half of the failures are none: the message has arrived, and the sender does not hear of it."""
        if self.rng.random() < 0.5:
            self._take(delivery, known=False)
        raise Retry("no answer", unknown=True)

    def _take(self, delivery: Delivery, *, known: bool) -> None:
        if not self.alive():
            return
        text = fill(delivery.content["text"], delivery.link)
        digest = hashlib.sha256("\0".join((delivery.content["subject"], text)).encode()).hexdigest()
        handed = self.handed.setdefault(delivery.notice_id, Handed(digest))
        if handed.digest != digest:
            self.record.violated("P4", "a repeat differs from what was sent first", delivery.notice_id)
        handed.times += 1
        if handed.known:
            self.record.note(delivery.notice_id, "sent again", self.name)
            if handed.deaths == self.deaths():
                self.record.violated("P4", "what was handed over was sent again without a crash", delivery.notice_id)
        handed.known, handed.deaths = known, self.deaths()
        self.taken(
            Message(
                self.now(), delivery.notice_id, delivery.kind, delivery.target.key, text, delivery.link,
                delivery.content["subject"],
            )
        )  # fmt: skip

    async def check(self) -> str:
        return "simulated"

    async def close(self) -> None:
        """Nothing to close."""
