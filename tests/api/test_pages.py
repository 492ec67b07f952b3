"""Lists: what is in them, page after page, while other things go on, and without walking through everything."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event

from healthd.core.model import NoticeKind, NoticeStatus, State
from healthd.store import accounts, views
from healthd.store.views import AccountFilter, IncidentFilter, NoticeFilter, Sort
from tests.api.place import ACCOUNTS, Place, place
from tests.store.rows import NOON, add_account

FILTERS: dict[str, list[str]] = {
    "": list(ACCOUNTS),
    "state=expired&state=disconnected": ["expired", "disconnected", "stormy"],
    "platform=instagram": ["disconnected"],
    "workspace=elsewhere": ["other"],
    "profile=p7": ["other"],
    "paused=true": ["paused"],
    "muted=true": ["muted"],
    "muted=false&state=healthy": ["healthy", "paused"],
    "q=STORM": ["stormy"],
    "q=elsewhere/7": ["other"],
    "q=%25": [],
    "sort=name": sorted(ACCOUNTS),
    "sort=newest&paused=false&state=healthy": ["muted", "healthy"],
}


@pytest.mark.parametrize("query", FILTERS)
async def test_a_list_holds_what_meets_all_conditions_page_by_page(here: Place, query: str) -> None:
    names = {number: name for name, number in here.ids.items()}
    whole = (await here.get(f"/accounts?{query}")).json()["items"]
    assert [names[one["id"]] for one in whole] == FILTERS[query]
    assert [one async for one in _all(here, f"/accounts?{query}&limit=1")] == whole


async def _all(here: Place, path: str) -> Any:
    """What is found by following the ``Link`` header, as a client does that knows nothing of cursors."""
    prefix = "/api/v1"
    while path:
        response = await here.get(path, "admin")
        page = response.json()
        for one in page["items"]:
            yield one
        found = re.fullmatch(rf'<{prefix}(.+)>; rel="next"', response.headers.get("link", ""))
        assert (found is None) is (page["next"] is None)
        path = found[1] if found else ""


@pytest.mark.parametrize(
    "path", ["/incidents?open=true", "/notices?kind=opened", "/storms?lasting=true", "/contacts?", "/owners?",
             "/addresses/bad?", "/audit?"],
)  # fmt: skip
async def test_every_list_can_be_followed_to_its_end(here: Place, path: str) -> None:
    whole = (await here.get(path, "admin")).json()["items"]
    assert whole
    assert [one async for one in _all(here, f"{path}&limit=1")] == whole


async def test_what_comes_in_meanwhile_is_not_shown_twice_and_hides_nothing(here: Place) -> None:
    for query, fresh in (("sort=id", "9"), ("sort=name", "0"), ("sort=newest", "8")):
        before = [one["ref"] for one in (await here.get(f"/accounts?{query}")).json()["items"]]
        first = (await here.get(f"/accounts?{query}&limit=2")).json()
        at = here.clock.now()
        facts = {"name": f"A new one {fresh}", "changed_at": at, "state": State.HEALTHY}
        await here.store.run(_add, fresh, facts)
        seen = [one["ref"] for one in first["items"]]
        while first["next"]:
            first = (await here.get(f"/accounts?{query}&limit=2&cursor={first['next']}")).json()
            seen += [one["ref"] for one in first["items"]]
        assert [ref for ref in seen if ref != fresh] == before
        assert len(seen) == len(set(seen))


def _add(connection: Connection, ref: str, facts: dict[str, Any]) -> None:
    add_account(connection, ref, **facts)


PLANS: dict[str, Any] = {
    "accounts": lambda c: views.accounts_page(c, AccountFilter()),
    "accounts, a later page": lambda c: views.accounts_page(c, AccountFilter(), Sort.ID, views.cursor(5, 5)),
    "accounts by name": lambda c: views.accounts_page(c, AccountFilter(), Sort.NAME, views.cursor("m", 5)),
    "accounts by change": lambda c: views.accounts_page(c, AccountFilter(), Sort.CHANGED, views.cursor(NOON, 5)),
    "the newest accounts": lambda c: views.accounts_page(c, AccountFilter(), Sort.NEWEST, views.cursor(NOON, 5)),
    "broken accounts": lambda c: views.accounts_page(c, AccountFilter(workspaces=["acme"], states=[State.EXPIRED])),
    "a profile's accounts": lambda c: views.accounts_page(c, AccountFilter(workspaces=["acme"], profile="p7")),
    "incidents": lambda c: views.incidents_page(c, IncidentFilter(), views.cursor(NOON, "i")),
    "open incidents": lambda c: views.incidents_page(c, IncidentFilter(workspaces=["acme"], only_open=True)),
    "an account's incidents": lambda c: views.incidents_page(c, IncidentFilter(account_id=1)),
    "notices": lambda c: views.notices_page(c, NoticeFilter(), views.cursor(NOON, "n")),
    "dead notices": lambda c: views.notices_page(c, NoticeFilter(statuses=[NoticeStatus.DEAD])),
    "an incident's notices": lambda c: views.notices_page(c, NoticeFilter(incident_id="i2")),
    "an account's notices": lambda c: views.notices_page(c, NoticeFilter(account_id=1, kinds=[NoticeKind.OPENED])),
    "storms": lambda c: views.storms_page(c, views.cursor(NOON, "s")),
    "contacts": lambda c: views.contacts_page(c, views.cursor("ada")),
    "owners": lambda c: views.owners_page(c, after=views.cursor("acme", "platform", "")),
    "bad addresses": lambda c: views.bad_addresses_page(c, views.cursor("mail", "a")),
}
PAGED = re.compile(r"LIMIT", re.IGNORECASE)
SORTED_WHOLE = "USE TEMP B-TREE FOR ORDER BY"


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """How SQLite goes about each page, over many accounts."""

    async def explained() -> dict[str, list[str]]:
        async with place(tmp_path_factory.mktemp("plans")) as here:
            await here.store.run(_many, 20_000)
            return {name: await here.store.read(_plan, ask) for name, ask in PLANS.items()}

    return asyncio.run(explained())


def _many(connection: Connection, number: int) -> None:
    one = accounts.by_id(connection, 1)
    assert one is not None
    fresh = [
        replace(one, id=1000 + i, name=f"n{i % 997}", account=replace(one.account, ref=f"r{i}")) for i in range(number)
    ]
    accounts.create(connection, fresh)


def _plan(connection: Connection, ask: Any) -> list[str]:
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> None:
        if PAGED.search(statement):
            asked.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    try:
        ask(connection)
    finally:
        event.remove(connection, "before_cursor_execute", note)
    statement, parameters = asked[0]
    driver: Any = connection.connection.driver_connection
    return [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


@pytest.mark.parametrize("name", PLANS)
def test_no_page_walks_through_everything_or_sorts_it(plans: dict[str, list[str]], name: str) -> None:
    """``SCAN … USING INDEX`` goes along an index in its order and stops when the page is full."""
    for step in plans[name]:
        assert any(word in step for word in ("INDEX", "PRIMARY KEY", "RIGHT PART")) or step in FINE, plans[name]
    if name not in FEW:
        assert SORTED_WHOLE not in plans[name]


FINE = {"SCAN accounts", SORTED_WHOLE}
"""Accounts in the order of their ids are a scan that stops at the page's end."""
FEW = {"broken accounts", "a profile's accounts", "an incident's notices", "an account's notices"}
"""What an index has found already is sorted afterwards: there is little of it."""
