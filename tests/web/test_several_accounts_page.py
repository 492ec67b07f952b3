"""One page for the several accounts of one message: each row keeps what the page about one account keeps."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import structlog
from sqlalchemy import text

from healthd.demo.person import Person, read
from healthd.store import accounts, decisions, incidents
from healthd.web import reconnect_cases
from healthd.web.reconnect import PER_MINUTE
from tests.web import happenings
from tests.web.reconnect_several import Several, reading, several
from tests.web.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

THREE = ("facebook", "linkedin", "youtube")
ANY: tuple[str | None, ...] = (None, None, None)


async def states(some: Several, http: Any) -> list[str]:
    """What an open page learns, in the order of the accounts."""
    said = (await http.get(f"{some.link}/state")).json()
    found = {one["incident"]: one["state"] for one in said["incidents"]}
    return [found[one] for one in some.ids]


# Looking


async def test_the_page_lists_them_all_and_offers_the_longest_broken_first(site: Site) -> None:
    some = await several(site, THREE)
    await site.rename(some.accounts[0], "Acme <i>Shop</i>", "acme")
    async with site.visitor() as http:
        answer = await http.get(some.link)
        page = reading(answer)
        state = (await http.get(f"{some.link}/state")).json()
    assert answer.status_code == 200
    assert "3 accounts need to be reconnected" in page.words
    assert [row.incident for row in page.rows] == some.ids
    assert page.rows[0].button == "Reconnect on Facebook (1 of 3)"
    assert [row.button for row in page.rows[1:]] == ["Reconnect", "Reconnect"]
    assert page.rows[0].words.startswith("Acme <i>Shop</i> Facebook · @acme · disconnected 3 hours ago")
    assert some.accounts[1].account.name in page.rows[1].words
    assert "LinkedIn" in page.rows[1].words
    assert state == {"state": "several", "incidents": [{"incident": one, "state": "broken"} for one in some.ids]}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_looking_mints_nothing_and_notes_nothing(site: Site, method: str) -> None:
    some = await several(site, ANY[:2])
    async with site.visitor() as http:
        for query in ("", f"?incident={some.ids[1]}&press=1&do=acknowledge"):
            await http.request(method, f"{some.link}{query}")
    assert [site.minted(broken) for broken in some.accounts] == [0, 0]
    assert await some.presses() == []
    assert [one.acknowledged_until for one in await some.incidents()] == [None, None]


async def test_up_to_fifty_are_listed_the_broken_ones_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    some = await several(site, (*THREE, "reddit"))
    monkeypatch.setattr(reconnect_cases, "SHOWN", 2)
    async with site.visitor() as http:
        page = await some.see(http)
        assert [row.incident for row in page.rows] == some.ids[:2]
        assert "and 2 more" in page.words
        assert "4 accounts need to be reconnected" in page.words
        for broken in some.accounts[:2]:
            await happenings.repair(site, broken)
        page = await some.see(http)
        assert [row.incident for row in page.rows] == some.ids[2:]
        assert page.rows[0].button == "Reconnect on YouTube (3 of 4)"


# One after the other


async def test_a_person_repairs_them_one_after_the_other_without_a_script(site: Site) -> None:
    some = await several(site, ANY)
    async with site.visitor() as http:
        person = Person(http)
        for place, broken in enumerate(some.accounts):
            before = await some.see(http)
            assert before.rows[0].incident == some.of(broken)
            assert f"({place + 1} of 3)" in before.rows[0].button
            # The page's hidden fields, as any browser sends them with its main button.
            assert "Connected" in (await person.reconnect(some.link)).text
            await site.until_resolved(broken)
            after = await some.see(http)
            if place < 2:
                assert f"{place + 1} of 3 connected again" in after.words
        assert "All 3 accounts are connected again" in after.words
        assert set(after.states.values()) == {"repaired"}
        assert not after.choices
    assert await some.presses() == [("minted", place, some.accounts[0].id) for place in range(3)]


async def test_a_press_is_of_that_row_alone(site: Site) -> None:
    some = await several(site, THREE)
    async with site.visitor() as http:
        answer = await some.press(http, some.accounts[1])
        assert answer.status_code == 303
        assert "/connect/linkedin?" in answer.headers["location"]
        assert await states(some, http) == ["broken", "waiting", "broken"]
        page = await some.see(http)
        assert (page.rows[0].incident, page.rows[0].button) == (some.ids[1], "Open LinkedIn again")
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", f"Path=/r/{some.token}", some.ids[1]))
    assert [site.minted(broken) for broken in some.accounts] == [0, 1, 0]
    assert await some.presses() == [("minted", 1, some.accounts[0].id)]
    # The account is looked at soon: its probe is in the lane of those for whom a person waits.
    [incident] = await site.scene.incidents(some.accounts[1].account)
    stored = await site.scene.store.read(accounts.by_id, incident.account_id)
    assert stored is not None
    assert stored.clicked_at is not None


async def test_another_account_chosen_is_told_in_its_row(site: Site) -> None:
    some = await several(site, ("pinterest", "tumblr"))
    async with site.visitor() as http:
        person = Person(http)
        consent = read(await http.get((await some.press(http, some.accounts[1])).headers["location"]))
        await person.press(consent, decision="other")

        async def told() -> bool:
            return await states(some, http) == ["broken", "still_broken"]

        await site.scene.until(told, "the other account")
        row = (await some.see(http)).rows[0]
    assert (row.incident, row.button) == (some.ids[1], "Try again on Tumblr")
    assert f"another account than {some.accounts[1].account.name}" in row.words


async def test_a_robots_press_leaves_the_rows_as_they_were_for_the_person(site: Site) -> None:
    some = await several(site, ANY)
    async with site.visitor() as robot:
        for broken in some.accounts:
            assert (await some.press(robot, broken)).status_code == 303
    async with site.visitor() as http:
        assert await states(some, http) == ["broken"] * 3
        assert (await some.press(http, some.accounts[2])).status_code == 303


async def test_a_robot_that_presses_everything_at_once_is_cheap(site: Site) -> None:
    some = await several(site, [None] * (2 * PER_MINUTE + 3))
    async with site.visitor() as http:
        rows = (await some.see(http)).rows
        answers = await asyncio.gather(*(http.post(some.link, data=row.fields) for row in rows * 3))
        answers += [await http.post(some.link, data=row.fields) for row in rows]
    minted = sum(site.minted(broken) for broken in some.accounts)
    assert {answer.status_code for answer in answers} == {303, 429}
    assert len(await some.presses()) == minted <= 2 * PER_MINUTE
    [refused, *_] = [answer for answer in answers if answer.status_code == 429]
    assert refused.headers["retry-after"] == "60"


async def test_a_double_click_is_one_press(site: Site) -> None:
    some = await several(site, ANY[:2])
    site.scene.sandbox.faults.add(kind="delay", path="reconnect-url", seconds=0.2, times=1)
    async with site.visitor() as http:
        fields = (await some.see(http)).rows[1].fields
        answers = await asyncio.gather(*(http.post(some.link, data=fields) for _ in range(3)))
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert [site.minted(broken) for broken in some.accounts] == [0, 1]


# What holds for one holds for each


async def test_the_proof_of_one_row_presses_no_other_row_and_no_other_link(site: Site) -> None:
    some, others = await several(site, ANY[:2]), await several(site, ANY[:2])
    async with site.visitor() as http:
        first, second = (await some.see(http)).rows
        foreign = (await others.see(http)).rows[0]
        for fields in (
            {"incident": second.incident, "press": first.fields["press"]},
            {"incident": foreign.incident, "press": foreign.fields["press"]},
            {"incident": first.incident, "press": foreign.fields["press"]},
            {"incident": "no such incident", "press": first.fields["press"]},
            {"incident": first.incident, "press": first.fields["press"][:-1]},
            {"incident": first.incident},
        ):
            answer = await http.post(some.link, data=fields)
            assert answer.status_code == 403
            assert "Please press the button once more" in answer.text
        assert (await http.post(some.link, data=read(answer).fields)).status_code == 303
    assert [site.minted(broken) for broken in (*some.accounts[1:], *others.accounts)] == [0, 0, 0]


async def test_what_was_repaired_and_broke_again_belongs_to_a_newer_message(site: Site) -> None:
    some = await several(site, ANY[:2])
    async with site.visitor() as http:
        old = (await some.see(http)).rows[1].fields
        await happenings.break_again(site, some.accounts[1])
        page = await some.see(http)
        assert await states(some, http) == ["broken", "again"]
        assert "newest message about this account" in page.rows[1].words
        assert not page.rows[1].fields
        assert "of 2 connected again" not in page.words
        assert (await http.post(some.link, data=old)).status_code == 200
        assert site.minted(some.accounts[1]) == 0
        await happenings.repair(site, some.accounts[0])
        done = await http.get(some.link)
    assert done.status_code == 410
    assert reading(done).page == "several_again"


async def test_a_reader_who_is_let_go_reads_the_end_even_if_an_account_was_removed_as_well(site: Site) -> None:
    some = await several(site, ANY)
    await happenings.remove(site, some.accounts[0], with_its_links=True)
    await happenings.revoke(site, some.accounts[0])
    async with site.visitor() as http:
        assert await states(some, http) == ["over", "over", "over"]


async def test_an_account_that_was_removed_takes_the_link_of_the_others_not_along(site: Site) -> None:
    some = await several(site, ANY)
    await happenings.remove(site, some.accounts[0], with_its_links=True)
    async with site.visitor() as http:
        assert await states(some, http) == ["removed", "broken", "broken"]
        page = await some.see(http)
        assert "2 accounts need to be reconnected" in page.words
        assert page.rows[0].button.endswith("(1 of 2)")
        assert (await some.press(http, some.accounts[1])).status_code == 303
    assert site.minted(some.accounts[0]) == 0


@pytest.mark.parametrize("end", ["expire", "revoke"])
async def test_a_link_that_is_over_is_over_for_all_of_them(site: Site, end: str) -> None:
    some = await several(site, ANY[:2])
    async with site.visitor() as http:
        page = await some.see(http)
        await getattr(happenings, end)(site, some.accounts[0])
        answers = [
            await http.get(some.link),
            await http.post(some.link, data=page.rows[1].fields),
            await http.post(some.link, data=page.choices["acknowledge"]),
        ]
    assert [answer.status_code for answer in answers] == [410] * 3
    assert all("This link no longer works" in answer.text for answer in answers)
    assert [site.minted(broken) for broken in some.accounts] == [0, 0]
    assert [one.acknowledged_until for one in await some.incidents()] == [None, None]


@pytest.mark.parametrize(("status", "name"), [(409, "paused"), (422, "by_hand"), (500, "unavailable")])
async def test_one_that_cannot_be_repaired_here_does_not_stand_in_the_way(site: Site, status: int, name: str) -> None:
    some = await several(site, ANY[:2])
    site.scene.sandbox.faults.add(path="reconnect-url", kind="status", status=status)
    async with site.visitor() as http:
        answer = await some.press(http, some.accounts[0])
        assert reading(answer).page == name
        assert f'<a href="/r/{some.token}">Back to all 2 accounts</a>' in answer.text
        site.scene.sandbox.faults.active.clear()
        assert (await some.press(http, some.accounts[1])).status_code == 303
    assert [(outcome, place) for outcome, place, _ in await some.presses()][-1] == ("minted", 1)


async def test_a_link_of_one_keeps_the_form_that_scripts_of_older_pages_know(site: Site) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        assert (await http.get(f"{broken.link}/state")).json() == {"state": "broken"}
        page = read(await http.get(broken.link))
        assert (await http.post(broken.link, data={"press": page.fields["press"]})).status_code == 303


# I am on it


WHEN = {"acknowledge": 7, "snooze:1d": 1, "snooze:3d": 3}
"""Days."""


@pytest.mark.parametrize("said", WHEN)
@pytest.mark.parametrize("number", [1, 3])
async def test_what_somebody_says_holds_for_all_that_is_open_until_it_is_taken_back(
    site: Site, said: str, number: int
) -> None:
    some = await several(site, ANY[:number])
    async with site.visitor() as http:
        answer = await some.say(http, said)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/r/{some.token}")
        page = await some.see(http)
        for incident in await some.incidents():
            until = incident.acknowledged_until if said == "acknowledge" else incident.snoozed_until
            assert until is not None
            assert abs((until - site.scene.now()).total_seconds() - WHEN[said] * 86400) < 60
            assert f"until {until:%A}, {until.day} {until:%B}, {until:%H:%M} UTC" in page.words
        assert ("Somebody is on it" in page.words) == (said == "acknowledge")
        assert set(page.choices) == {"resume"}
        assert (await some.say(http, "resume")).status_code == 303
        assert set((await some.see(http)).choices) == set(WHEN)
    for incident in await some.incidents():
        assert (incident.acknowledged_until, incident.acknowledged_by, incident.snoozed_until) == (None, None, None)
        made = await site.scene.store.read(decisions.of_account, incident.account_id)
        noted = "acknowledged" if said == "acknowledge" else "snoozed"
        assert [(one.what, one.who) for one in made if one.who] == [
            (noted, "reader of the link"),
            ("resumed", "reader of the link"),
        ]


async def test_whoever_is_on_record_for_the_address_is_who_said_it(site: Site) -> None:
    some = await several(site, ANY[:2])
    statement = text("UPDATE notices SET contact = 'ada' WHERE incident_id = :incident")
    await site.scene.store.run(lambda connection: connection.execute(statement, {"incident": some.ids[0]}))
    async with site.visitor() as http:
        await some.say(http, "acknowledge")
    assert [one.acknowledged_by for one in await some.incidents()] == ["ada", "ada"]


async def test_nothing_is_noted_of_what_is_repaired_and_the_buttons_go_with_the_last_of_them(site: Site) -> None:
    some = await several(site, ANY[:2])
    await happenings.repair(site, some.accounts[0])
    async with site.visitor() as http:
        page = await some.see(http)
        await http.post(some.link, data=page.choices["acknowledge"])
        repaired, broken = await some.incidents()
        assert repaired.acknowledged_until is None
        assert broken.acknowledged_until is not None
        assert not any(one.who for one in await site.scene.store.read(decisions.of_account, repaired.account_id))
        await happenings.repair(site, some.accounts[1])
        assert not (await some.see(http)).choices
        assert (await http.post(some.link, data=page.choices["snooze:1d"])).status_code == 200
    assert [one.snoozed_until for one in await some.incidents()] == [None, None]


async def test_what_is_noted_of_some_of_them_is_still_offered(site: Site) -> None:
    some = await several(site, ANY[:2])
    now = site.scene.now()
    await site.scene.store.run(incidents.snooze, some.ids[0], now.replace(year=now.year + 1))
    async with site.visitor() as http:
        assert "acknowledge" in (await some.see(http)).choices


@pytest.mark.parametrize("where", ["cross-site", "same-site"])
async def test_another_sites_page_says_nothing_for_somebody(site: Site, where: str) -> None:
    some = await several(site, ANY[:1])
    async with site.visitor() as http:
        fields = (await some.see(http)).choices["acknowledge"]
        refused = [
            await http.post(some.link, data=fields, headers={"sec-fetch-site": where}),
            await http.post(some.link, data={"do": "acknowledge"}),
            await http.post(some.link, data=fields | {"press": "1.x"}),
        ]
        unknown = await http.post(some.link, data=fields | {"do": "snooze:9d"})
    assert [answer.status_code for answer in refused] == [403] * 3
    # Whoever pressed on a page that had been open for too long finds the same buttons again.
    assert set(reading(refused[-1]).choices) == set(WHEN)
    assert unknown.status_code == 400
    [incident] = await some.incidents()
    assert incident.acknowledged_until is incident.snoozed_until is None
    assert site.minted(some.accounts[0]) == 0


async def test_who_changes_their_mind_without_end_is_asked_to_stop(site: Site) -> None:
    some = await several(site, ANY[:1])
    async with site.visitor() as http:
        fields = (await some.see(http)).choices["snooze:1d"]
        statuses = [(await http.post(some.link, data=fields)).status_code for _ in range(12)]
    assert statuses == [303] * 10 + [429] * 2


async def test_neither_the_token_nor_an_address_is_in_the_log(site: Site) -> None:
    some = await several(site, ANY[:2])
    with structlog.testing.capture_logs() as heard:
        async with site.visitor() as http:
            await some.press(http, some.accounts[1])
            await some.say(http, "acknowledge")
    assert {"link.minted", "link.noted"} <= {entry["event"] for entry in heard}
    assert some.token not in repr(heard)
    assert not re.search(r"\w@\w", repr(heard))
