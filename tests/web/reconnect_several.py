"""Several broken accounts whose message was one, and the page that its link leads to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import httpx2
from sqlalchemy import update

from healthd.store import incidents, schema
from healthd.store.incidents import Incident
from tests.web.site import Broken, Site


@dataclass
class Row:
    """What the page shows of one account, and what the row's button would send."""

    incident: str
    state: str
    words: str
    fields: dict[str, str]
    button: str = ""


@dataclass
class Reading:
    """The page as somebody reads it, row by row."""

    page: str
    words: str
    rows: list[Row]
    choices: dict[str, dict[str, str]]
    """What each of the other buttons would send."""

    @property
    def states(self) -> dict[str, str]:
        return {row.incident: row.state for row in self.rows}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page, self.words, self.rows = "", [""], list[Row]()
        self.choices: dict[str, dict[str, str]] = {}
        self._fields: dict[str, str] = {}
        self._in_row = self._in_button = self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attrs}
        self.page = facts.get("data-page", self.page)
        self._silent |= tag in {"script", "style", "title"}
        if "data-row" in facts:
            self._in_row = True
            self.rows.append(Row(facts["data-incident"], facts["data-row"], "", {}))
        if tag == "form":
            self._fields = {}
        if tag == "input":
            self._fields[facts["name"]] = facts["value"]
        if tag == "button" and "value" in facts:
            self.choices[facts["value"]] = {**self._fields, facts["name"]: facts["value"]}
        elif tag == "button" and self._in_row:
            self._in_button, self.rows[-1].fields = True, dict(self._fields)

    def handle_endtag(self, tag: str) -> None:
        self._silent &= tag not in {"script", "style", "title"}
        self._in_row &= tag != "li"
        self._in_button &= tag != "button"

    def handle_data(self, data: str) -> None:
        if self._silent or not data.strip():
            return
        words = " ".join(data.split())
        self.words.append(words)
        if self._in_row:
            self.rows[-1].words = f"{self.rows[-1].words} {words}".strip()
        if self._in_button:
            self.rows[-1].button = words


def reading(answer: httpx2.Response) -> Reading:
    reader = _Reader()
    reader.feed(answer.text)
    return Reading(reader.page, " ".join(reader.words).strip(), reader.rows, reader.choices)


@dataclass
class Several:
    """The first of them is the one whose link stood in the message."""

    site: Site
    accounts: list[Broken]
    ids: list[str]

    @property
    def link(self) -> str:
        return self.accounts[0].link

    @property
    def token(self) -> str:
        return self.accounts[0].token

    def of(self, broken: Broken) -> str:
        """The id of its incident."""
        return self.ids[self.accounts.index(broken)]

    async def see(self, http: httpx2.AsyncClient) -> Reading:
        return reading(await http.get(self.link))

    async def press(self, http: httpx2.AsyncClient, broken: Broken) -> httpx2.Response:
        """The button of one row, as a browser sends it, without following where it leads."""
        [row] = [row for row in (await self.see(http)).rows if row.incident == self.of(broken)]
        return await http.post(self.link, data=row.fields)

    async def say(self, http: httpx2.AsyncClient, what: str) -> httpx2.Response:
        """One of the other buttons."""
        return await http.post(self.link, data=(await self.see(http)).choices[what])

    async def presses(self) -> list[tuple[str, int, str]]:
        """What is on record of the link: ``(outcome, account, link)``, the account by its place, oldest first."""
        ids = [incident.account_id for incident in await self.incidents()]
        query = schema.mints.select().where(schema.mints.c.link_id == self.accounts[0].id).order_by(schema.mints.c.id)
        rows = await self.site.scene.store.read(lambda connection: connection.execute(query).all())
        return [(row.outcome, ids.index(row.account_id), row.link_id) for row in rows]

    async def incidents(self) -> list[Incident]:
        """In the order of the accounts."""

        def load(connection: Any) -> list[Incident | None]:
            return [incidents.get(connection, one) for one in self.ids]

        return [incident for incident in await self.site.scene.store.read(load) if incident is not None]


async def several(site: Site, platforms: Sequence[str | None]) -> Several:
    """As if the message about the first of them had been about all."""
    accounts = [await site.broken(platform) for platform in platforms]
    found = [(await site.scene.incidents(broken.account))[0] for broken in accounts]
    order = range(len(found))

    def together(connection: Any) -> None:
        incidents.cover(connection, accounts[0].id, [incident.id for incident in found])
        for place, incident in zip(order, found, strict=True):
            at = site.scene.now() - timedelta(hours=len(found) - place)
            which = schema.incidents.c.id == incident.id
            connection.execute(update(schema.incidents).where(which).values(broken_at=at))

    await site.scene.store.run(together)
    return Several(site, accounts, [incident.id for incident in found])


Happens = Callable[[Site, Broken], Awaitable[None]]
