"""Somebody with a browser, as far as a demo needs one: opens pages, reads what they say, presses buttons."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx2


class _Reader(HTMLParser):
    """Collects a page's text and what its first form would send: the one that it is about."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.fields: dict[str, str] = {}
        self.has_form = False
        self._complete = False
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attrs}
        self.has_form |= tag == "form"
        self._silent += tag in {"script", "style", "title"}
        if (
            tag == "input"
            and not self._complete
            and facts.get("name")
            and ("checked" in facts or facts.get("type") == "hidden")
        ):
            self.fields[facts["name"]] = facts.get("value", "on")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in {"script", "style", "title"}
        self._complete |= tag == "form"

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.words.append(data.strip())


@dataclass
class Page:
    """A page as it was read."""

    url: str
    status: int
    text: str
    fields: dict[str, str] = field(default_factory=dict)
    has_form: bool = False


def read(answer: httpx2.Response) -> Page:
    reader = _Reader()
    reader.feed(answer.text)
    return Page(str(answer.url), answer.status_code, " ".join(reader.words), reader.fields, reader.has_form)


@dataclass
class Person:
    """``http`` must not follow redirects by itself: a browser's steps are taken one by one."""

    http: httpx2.AsyncClient

    async def open(self, url: str) -> Page:
        return read(await self.http.get(url))

    async def press(self, page: Page, **choice: str) -> Page:
        """Presses the page's button and goes where it leads."""
        answer = await self.http.post(page.url, data=page.fields | choice)
        if answer.is_redirect:
            return await self.open(urljoin(page.url, answer.headers["location"]))
        return read(answer)

    async def reconnect(self, link: str, decision: str = "approve") -> Page:
        """From the link in a message to the end of the provider's page."""
        consent = await self.press(await self.open(link))
        return await self.press(consent, decision=decision)

    async def state(self, link: str) -> str:
        """What the open page learns when it asks by itself."""
        answer = await self.http.get(f"{link}/state")
        return str(answer.json().get("state", "")) if answer.status_code == 200 else f"HTTP {answer.status_code}"

    async def watch(self, link: str, wanted: str, seconds: float) -> bool:
        """Keeps the page open until it says so."""
        ends = asyncio.get_running_loop().time() + seconds
        while (said := await self.state(link)) != wanted and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        return said == wanted
