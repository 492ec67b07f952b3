"""Pages: everything once, in order, whatever comes in meanwhile, and the last page for what the first one costs."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, event

from healthd.core.model import Cause, NoticeKind, NoticeStatus, Resolution, State
from healthd.store import incidents, views
from healthd.store.accounts import StoredAccount
from healthd.store.views import AccountFilter, BadCursor, IncidentFilter, NoticeFilter, Page, Sort
from tests.store.rows import DAY, MINUTE, NOON, add_account, add_incident, add_notice

ALL = AccountFilter()


def pages(
    ask: Callable[[str | None], Page[StoredAccount]], meanwhile: Callable[[], object] = lambda: None
) -> list[str]:
    """The refs on all pages, one after the other."""
    found, after = [], None
    for _ in range(100):
        page = ask(after)
        found += [one.account.ref for one in page.rows]
        if page.after is None:
            return found
        after = page.after
        meanwhile()
    raise AssertionError("there is no end to it")


def fleet(connection: Connection) -> list[StoredAccount]:
    """Names repeat, and so do times: only the id tells them apart."""
    return [
        add_account(
            connection, str(number), name=f"Bakery {number % 3}", platform=("facebook", "linkedin")[number % 2],
            state=(State.HEALTHY, State.EXPIRED)[number % 5 == 0], changed_at=NOON + (number % 4) * MINUTE,
        )
        for number in range(23)
    ]  # fmt: skip


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("limit", [1, 5, 22, 23, 24])
def test_every_account_is_on_one_page(connection: Connection, sort: Sort, limit: int) -> None:
    there = fleet(connection)
    keys: dict[Sort, Callable[[StoredAccount], object]] = {
        Sort.ID: lambda one: one.id,
        Sort.NAME: lambda one: (one.name, one.id),
        Sort.CHANGED: lambda one: (one.account.changed_at, one.id),
        Sort.NEWEST: lambda one: (one.account.changed_at, one.id),
    }
    expected = [one.account.ref for one in sorted(there, key=keys[sort], reverse=sort is Sort.NEWEST)]  # type: ignore[arg-type]
    assert pages(lambda after: views.accounts_page(connection, ALL, sort, after, limit)) == expected


def test_what_comes_in_while_somebody_looks_shifts_nothing(connection: Connection) -> None:
    there = [one.account.ref for one in fleet(connection)]
    news = iter(range(100, 200))

    def meanwhile() -> None:
        add_account(connection, str(next(news)), name="Aaa", changed_at=NOON - DAY)

    by_name = pages(lambda after: views.accounts_page(connection, ALL, Sort.NAME, after, 5), meanwhile)
    assert sorted(by_name, key=int) == there


def test_an_account_of_which_nothing_is_known_stands_in_no_order_of_changes(connection: Connection) -> None:
    add_account(connection, "new")
    add_account(connection, "1", changed_at=NOON)
    assert pages(lambda after: views.accounts_page(connection, ALL, Sort.CHANGED, after)) == ["1"]
    assert pages(lambda after: views.accounts_page(connection, ALL, Sort.ID, after)) == ["new", "1"]


FILTERS: dict[str, tuple[AccountFilter, set[str]]] = {
    "a workspace": (AccountFilter(workspaces=["other"]), {"9"}),
    "platforms": (AccountFilter(platforms=["linkedin", "tiktok"]), {"2"}),
    "states": (AccountFilter(states=[State.EXPIRED]), {"1"}),
    "a profile": (AccountFilter(profile="p7"), {"2"}),
    "the workspace's own": (AccountFilter(profile=""), {"1", "3", "9"}),
    "paused": (AccountFilter(paused=True), {"3"}),
    "muted": (AccountFilter(muted_at=NOON), {"1"}),
    "muted no longer": (AccountFilter(muted_at=NOON + DAY), set()),
    "an id": (AccountFilter(words="2"), {"2"}),
    "workspace and id": (AccountFilter(words="other/9"), {"9"}),
    "a part of a name, in any case": (AccountFilter(words="züR"), {"1"}),
    "a part of a name": (AccountFilter(words="CAFE"), {"1"}),
    "a handle": (AccountFilter(words="@corner"), {"3"}),
    "signs that a pattern would mean something by": (AccountFilter(words="100%"), {"2"}),
    "several at once": (AccountFilter(words="acme/1", states=[State.HEALTHY]), set()),
}


@pytest.mark.parametrize(("wanted", "expected"), FILTERS.values(), ids=FILTERS)
def test_accounts_are_found_by(connection: Connection, wanted: AccountFilter, expected: set[str]) -> None:
    add_account(connection, "1", name="Cafe Zürich", state=State.EXPIRED, muted_until=NOON + MINUTE)
    add_account(connection, "2", name="100% Wool", platform="linkedin", profile="p7", state=State.HEALTHY)
    add_account(connection, "3", name="1000 Tea", username="@corner_shop", paused=True)
    add_account(connection, "9", workspace="other", name="Other")
    assert set(pages(lambda after: views.accounts_page(connection, wanted, after=after, limit=1))) == expected


def test_incidents_come_newest_first_with_their_accounts(connection: Connection) -> None:
    for number in range(7):
        stored = add_account(connection, str(number))
        cause = (Cause.TOKEN, Cause.CONNECTION)[number % 2]
        last = add_incident(connection, stored, opened_at=NOON + (number // 2) * MINUTE, cause=cause)
    incidents.resolve(connection, last.id, Resolution.REPAIRED, NOON + DAY)

    def ask(**wanted: object) -> list[str]:
        found, after = [], None
        while True:
            page = views.incidents_page(connection, IncidentFilter(**wanted), after, 2)  # type: ignore[arg-type]
            found += [row.account.account.ref for row in page.rows]
            after = page.after
            if after is None:
                return found

    assert ask() == ["6", "5", "4", "3", "2", "1", "0"]
    assert ask(only_open=True) == ["5", "4", "3", "2", "1", "0"]
    assert ask(causes=[Cause.CONNECTION]) == ["5", "3", "1"]
    assert ask(platforms=["linkedin"]) == []


def test_incidents_of_which_nobody_hears_can_be_asked_for(connection: Connection) -> None:
    told, untold = add_account(connection, "1"), add_account(connection, "2")
    add_incident(connection, untold)
    add_notice(connection, told, "s", incident_id=add_incident(connection, told).id)
    page = views.incidents_page(connection, IncidentFilter(untold=True))
    assert [row.account.account.ref for row in page.rows] == ["2"]


def test_notices_come_newest_first_and_those_for_machines_only_on_request(connection: Connection) -> None:
    stored = add_account(connection, "1")
    for number in range(5):
        add_notice(connection, stored, f"s{number}", created_at=NOON + (number // 2) * MINUTE)
    add_notice(connection, stored, "for an app", kind=NoticeKind.EVENT)
    found, after = [], None
    while True:
        page = views.notices_page(connection, NoticeFilter(), after, 2)
        found += [(row.notice.created_at, row.notice.id) for row in page.rows]
        assert {row.account.id for row in page.rows if row.account} == {stored.id}
        after = page.after
        if after is None:
            break
    assert found == sorted(found, reverse=True)
    assert len(found) == 5
    events = views.notices_page(connection, NoticeFilter(kinds=[NoticeKind.EVENT])).rows
    assert [row.notice.subject for row in events] == ["for an app"]
    assert views.notices_page(connection, NoticeFilter(statuses=[NoticeStatus.DEAD])).rows == []


BAD = ["", "x", "!!!", "W10", "bnVsbA", "WzEsMiwzXQ", "WyJhIiwiYiJd", "W3RydWUsMV0", "WzFlOTk5LDFd", "é", "Ww" * 5000]


@pytest.mark.parametrize("cursor", [*BAD, views.cursor(1 << 70, 1), views.cursor("name", 1 << 70), views.cursor(1)])
@pytest.mark.parametrize("sort", Sort)
def test_a_cursor_that_no_page_gave_is_refused(connection: Connection, cursor: str, sort: Sort) -> None:
    with pytest.raises(BadCursor, match="begin again"):
        views.accounts_page(connection, ALL, sort, cursor)


def test_days_are_counted_by_platform(connection: Connection) -> None:
    for number, days in enumerate((0, 0, 1, 3)):
        stored = add_account(connection, str(number), platform="facebook" if number else "tiktok")
        add_incident(connection, stored, opened_at=NOON + timedelta(days=days, hours=11))
    found = views.broken_by_day(connection, NOON, ["acme"])
    first = NOON.date()
    assert found == {
        "tiktok": {first: 1},
        "facebook": {first: 1, first + timedelta(days=1): 1, first + timedelta(days=3): 1},
    }
    assert views.broken_by_day(connection, NOON, []) == {}


PAGES: dict[str, Callable[[Connection], object]] = {
    f"accounts by {sort}": lambda c, sort=sort: views.accounts_page(
        c, ALL, sort, views.cursor("a" if sort is Sort.NAME else 7, 7)
    )
    for sort in Sort
    if sort is not Sort.ID
} | {
    "broken accounts": lambda c: views.longest_broken(c, ["acme"]),
    "incidents": lambda c: views.incidents_page(c, IncidentFilter(), views.cursor(NOON, "i")),
    "open incidents": lambda c: views.incidents_page(c, IncidentFilter(workspaces=["acme"], only_open=True)),
    "notices": lambda c: views.notices_page(c, NoticeFilter(), views.cursor(NOON, "n")),
    "days": lambda c: views.broken_by_day(c, NOON, ["acme"]),
}


@pytest.mark.parametrize("connection", ["sqlite"], indirect=True)  # it plans the same for tables without rows
@pytest.mark.parametrize("ask", PAGES.values(), ids=PAGES)
def test_a_page_is_found_by_an_index_in_its_order(connection: Connection, ask: Callable[[Connection], object]) -> None:
    stored = add_account(connection, "1", changed_at=NOON, state=State.EXPIRED)
    add_notice(connection, stored, "s", incident_id=add_incident(connection, stored).id)
    asked: list[tuple[str, object]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: object, _context: object, _many: bool) -> None:
        asked.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    ask(connection)
    event.remove(connection, "before_cursor_execute", note)
    assert asked
    for statement, parameters in asked:
        plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]  # type: ignore[arg-type]
        walks = [step for step in plan if re.match(r"SCAN (accounts|incidents|notices)(?! USING)", step)]
        assert not walks, (plan, statement)
