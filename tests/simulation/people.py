"""People who repair accounts: soon, late, twice, never, or the wrong one; and the robots that read their mail first."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import httpx2

from healthd.demo.person import Page, Person, read
from tests.simulation.channels import Message
from tests.simulation.record import Record

HOUR = 3600.0


@dataclass
class Crowd:
    """``browser`` opens one that reaches both the daemon and the provider: everybody has their own. ``quick`` people
    act at once: used when things are to end.
    """

    browser: Callable[[], httpx2.AsyncClient]
    rng: random.Random
    record: Record
    clock: Callable[[], float]
    daemon_up: Callable[[], bool]
    quick: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def reads(self, message: Message) -> None:
        """A message has arrived; what follows takes its time."""
        if message.link is None:
            return
        if self.rng.random() < 0.5:
            self._go(self._robot(message.link))
        if self.rng.random() < 0.85 or self.quick:
            accounts = re.match(r"\d+", message.subject)
            self._go(self._person(message.link, min(int(accounts[0]), 5) if accounts else 1))

    def _go(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _robot(self, link: str) -> None:
        await asyncio.sleep(self.rng.uniform(1, 40))
        http = self.browser()
        try:
            page = await Person(http).open(link)
            if page.has_form and self.rng.random() < 0.06:
                await http.post(link, data=page.fields)
                self.record.note("people", "robot pressed")
        except httpx2.HTTPError:
            return

    async def _person(self, link: str, accounts: int) -> None:
        if not self.quick:
            late = self.rng.random() < 0.1
            await asyncio.sleep(self.rng.uniform(3, 8) * 24 * HOUR if late else self.rng.expovariate(1 / (8 * HOUR)))
        person = Person(self.browser())
        for number in range(accounts if self.rng.random() < 0.9 else accounts + 1):
            try:
                if number == 0 and not self.quick and self.rng.random() < 0.06:
                    await self._take_on(person, link)
                await self._repair(person, link)
            except httpx2.HTTPError:
                self.record.note("people", "found nobody there")

    async def _take_on(self, person: Person, link: str) -> None:
        """I'm on it, says somebody, and takes some days."""
        page = await person.open(link)
        if page.has_form:
            said = self.rng.choice(("acknowledge", "snooze:1d", "snooze:3d"))
            self._expect_a_page(read(await person.http.post(link, data={**page.fields, "do": said})))
            self.record.note("people", "took it on", said)
            await asyncio.sleep(self.rng.uniform(0.5, 5) * 24 * HOUR)

    async def _repair(self, person: Person, link: str) -> None:
        page = await person.open(link)
        self._expect_a_page(page)
        if not page.has_form:
            self.record.note("people", "page without a button", str(page.status))
            return
        started = self.clock()
        consent = await self._press(person.http, page)
        self._expect_a_page(consent)
        if self.daemon_up() and self.clock() - started > 12:
            self.record.violated("S11", f"a person waited {self.clock() - started:.0f} s for the link", "people")
        if "decision" not in consent.text and not consent.has_form:
            self.record.note("people", "no link to be had", str(consent.status))
            return
        await asyncio.sleep(self.rng.uniform(5, 200))
        decision = self.rng.choices(("approve", "other", "deny", "leave"), (90, 4, 3, 3))[0]
        decision = "approve" if self.quick else decision
        self.record.note("people", "decided", decision)
        if decision != "leave" and consent.has_form and consent.url.startswith("http://127.0.0.1:8090"):
            await person.press(consent, decision=decision)

    async def _press(self, http: httpx2.AsyncClient, page: Page) -> Page:
        answer = await http.post(page.url, data=page.fields)
        if answer.status_code == 303:
            target = urljoin(page.url, answer.headers["location"])
            if not target.startswith("http://127.0.0.1:8090/"):
                self.record.violated("L11", "a person was sent to another host", "people")
            return read(await http.get(target))
        return read(answer)

    def _expect_a_page(self, page: Page) -> None:
        if page.status >= 500 and page.status != 503:
            self.record.violated("P9", f"a person saw HTTP {page.status}", "people")

    def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
