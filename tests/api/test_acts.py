"""Each act does what it says, is on record with who did it, and sets in motion what follows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from healthd.core.model import Lane, NoticeStatus, Resolution
from healthd.store import access, contacts, incidents, notices, storms
from tests.api.place import BOB, STORM, Place
from tests.loopback import answer
from tests.store.rows import DAY, turn


async def acted(here: Place, path: str, body: Any = None, status: int = 200, method: str = "POST") -> Any:
    response = await here.ask(method, path, "operator", body)
    assert response.status_code == status, response.text
    return response.json() if response.content else None


async def last_act(here: Place) -> tuple[str, str]:
    newest = (await here.store.read(access.audit_of, None, 1))[0]
    return newest.who, newest.action


async def test_check_asks_at_once(here: Place) -> None:
    account = here.ids["healthy"]
    await acted(here, f"/accounts/{account}/check", status=202)
    assert await here.store.read(turn, account) == (here.clock.now(), Lane.CLICK)
    assert here.woken == ["acme"]
    assert await last_act(here) == ("token:operator", "check")


async def test_acknowledge_and_resume(here: Place) -> None:
    path = f"/accounts/{here.ids['expired']}"
    shown = (await acted(here, f"{path}/acknowledge"))["incident"]
    assert (shown["acknowledged_by"], shown["acknowledged_at"]) == ("token:operator", "2026-03-01T13:00:00Z")
    assert await last_act(here) == ("token:operator", "acknowledge")
    assert (await acted(here, f"{path}/resume"))["incident"]["acknowledged_until"] is None


@pytest.mark.parametrize(
    ("body", "until"),
    [
        ({"for": "2h"}, "2026-03-01T15:00:00Z"),
        ({"until": "2026-03-02T09:00:00+01:00"}, "2026-03-02T08:00:00Z"),
        ({"for": "999w"}, "2027-03-01T13:00:00Z"),
        ({"until": "9999-12-31T23:59:59-23:00"}, "2027-03-01T13:00:00Z"),
    ],
)
async def test_snooze_and_mute_last_for_as_long_as_was_said_and_a_year_at_most(
    here: Place, body: dict[str, str], until: str
) -> None:
    path = f"/accounts/{here.ids['expired']}"
    assert (await acted(here, f"{path}/snooze", body))["incident"]["snoozed_until"] == until
    assert (await acted(here, f"{path}/mute", body))["muted_until"] == until
    assert (await acted(here, f"{path}/unmute"))["muted_until"] is None
    assert await last_act(here) == ("token:operator", "unmute")


@pytest.mark.parametrize("body", [{}, {"for": "2h", "until": "2027-01-01T00:00:00Z"}, {"for": "soon"}, {"until": 1}])
async def test_a_span_that_is_none_is_refused_with_what_to_write(here: Place, body: dict[str, Any]) -> None:
    response = await here.post(f"/accounts/{here.ids['expired']}/snooze", body)
    assert response.status_code == 422
    assert all(one["where"] == "body" for one in response.json()["errors"])


async def test_what_needs_an_incident_says_so_where_there_is_none(here: Place) -> None:
    for act in ("acknowledge", "resume", "release"):
        response = await here.post(f"/accounts/{here.ids['healthy']}/{act}")
        assert (response.status_code, response.json()["detail"]) == (409, "the account is not broken")


async def test_release_of_an_account_sends_what_is_held(here: Place) -> None:
    account = here.ids["stormy"]
    assert await acted(here, f"/accounts/{account}/release") == {"notices": 2}
    found = await here.store.read(notices.of_account, account)
    assert {one.status for one in found} == {NoticeStatus.PENDING}
    assert here.woken == ["outbox"]


@pytest.mark.parametrize(
    ("act", "outcome", "status"), [("release", "released", "pending"), ("cancel", "cancelled", "dropped")]
)
async def test_a_storm_is_ended_once(here: Place, act: str, outcome: str, status: str) -> None:
    assert (await acted(here, f"/storms/{STORM.id}/{act}"))["notices"] == 2
    storm = await here.store.read(storms.get, STORM.id)
    assert storm is not None
    assert (storm.ended_at, storm.decided_by) == (here.clock.now(), "token:operator")
    assert outcome in (storm.outcome or "")
    found = await here.store.read(notices.of_account, here.ids["stormy"])
    assert {one.status for one in found} == {status}
    assert (await here.post(f"/storms/{STORM.id}/{act}")).status_code == 409


async def test_a_broken_account_has_a_lasting_link_of_ones_own(here: Place) -> None:
    path = f"/accounts/{here.ids['expired']}/link"
    response = await here.post(path)
    made = response.json()
    assert made["lasting"]
    assert made["url"].startswith("http://127.0.0.1:8080/r/")
    assert response.headers["cache-control"] == "no-store"
    assert (await acted(here, path)) == made
    assert here.asked == []


async def test_a_link_to_an_account_that_works_is_the_providers_own(here: Place) -> None:
    made = await acted(here, f"/accounts/{here.ids['healthy']}/link")
    assert made == {"url": "https://app.smartlyq.com/connect/once", "expires_at": None, "lasting": False}
    assert [one.path for one in here.asked] == ["/v1/social/accounts/1/reconnect-url"]


async def test_posting_is_paused_and_resumed_at_the_provider(here: Place) -> None:
    account = here.ids["healthy"]
    assert (await acted(here, f"/accounts/{account}/pause-posting"))["paused"]
    assert not (await acted(here, f"/accounts/{account}/resume-posting"))["paused"]
    assert [(one.method, one.path) for one in here.asked] == [
        ("POST", "/v1/social/accounts/1/pause"),
        ("POST", "/v1/social/accounts/1/resume"),
    ]


REFUSALS = {
    401: (502, "provider", "unauthorized"),
    403: (502, "provider", "forbidden"),
    404: (502, "provider", "not_found"),
    429: (503, "provider-unavailable", "rate_limited"),
    503: (503, "provider-unavailable", "unavailable"),
}


@pytest.mark.parametrize("said", REFUSALS)
async def test_what_the_provider_refuses_is_told_with_its_remedy(here: Place, said: int) -> None:
    here.said = lambda _: answer(said, {"success": False}, {"retry-after": "7"})
    response = await here.post(f"/accounts/{here.ids['healthy']}/pause-posting")
    status, kind, reason = REFUSALS[said]
    found = response.json()
    assert (response.status_code, found["type"], found["reason"]) == (status, f"urn:healthd:problem:{kind}", reason)
    assert found["remedy"]
    assert ("retry-after" in response.headers) is (status == 503)
    assert not (await here.get(f"/accounts/{here.ids['healthy']}")).json()["paused"]


async def test_a_notice_that_was_given_up_is_tried_again_and_no_other(here: Place) -> None:
    shown = (await here.get("/notices?status=dead")).json()["items"]
    assert [one["reason"] for one in shown] == ["sms: no such number"]
    assert (await acted(here, f"/notices/{shown[0]['id']}/retry"))["status"] == "pending"
    response = await here.post(f"/notices/{shown[0]['id']}/retry")
    assert (response.status_code, response.json()["type"]) == (409, "urn:healthd:problem:not-now")


async def test_a_contact_is_written_read_and_removed(here: Place) -> None:
    given = {
        "name": "Eve", "addresses": {"mail": ["eve@acme.example"], "sms": ["+15551"]}, "zone": "Europe/Berlin",
        "quiet_hours": "22:00-07:00", "working_days": "mon-fri", "language": "de",
    }  # fmt: skip
    made = await acted(here, "/contacts/eve", given, 201, "PUT")
    assert made == (await here.get("/contacts/eve")).json()
    assert given | {"working_days": "mon,tue,wed,thu,fri"} == {name: made[name] for name in given}
    stored = await here.store.read(contacts.get, "eve")
    assert stored is not None
    assert stored.source == "api"
    await acted(here, "/contacts/eve", given | {"name": "Eva"}, 200, "PUT")
    await acted(here, "/contacts/eve", None, 204, "DELETE")
    assert (await here.get("/contacts/eve")).status_code == 404
    assert await last_act(here) == ("token:operator", "remove contact")


async def test_every_mistake_in_a_contact_is_named_with_what_to_write(here: Place) -> None:
    given = {"addresses": {"mial": ["a@b.example"], "mail": ["nonsense"]}, "zone": "Berlin", "language": "klingonisch"}
    found = (await here.ask("PUT", "/contacts/eve", "operator", given)).json()
    assert found["status"] == 422
    told = {one["field"]: one["detail"] for one in found["errors"]}
    assert set(told) == {"addresses.mial", "addresses.mail", "zone", "language"}
    assert "Did you mean 'mail'?" in told["addresses.mial"]
    assert "Europe/Berlin" in told["zone"]


async def test_owners_are_written_for_each_scope_and_removed(here: Place) -> None:
    for place in ("platform/facebook", "profile/p7", "account/17", "account/a/b"):
        path = f"/owners/acme/{place}"
        made = await acted(here, path, {"owners": [["bob"], ["ada"]], "labels": {"brand": "rocket"}}, 201, "PUT")
        assert made == (await here.get(path)).json()
        await acted(here, path, None, 204, "DELETE")
        assert (await here.get(path)).status_code == 404
    assert (await acted(here, "/owners/acme/workspace", {"owners": [["bob"]]}, 200, "PUT"))["owners"] == [["bob"]]
    await acted(here, "/owners/acme/workspace", None, 204, "DELETE")
    unknown = (await here.ask("PUT", "/owners/acme/workspace", "operator", {"owners": [["bbo"]]})).json()
    assert unknown["errors"] == [{"where": "body", "field": "owners[0]", "detail": "there is no contact 'bbo'."}]


async def test_a_change_of_owners_changes_who_would_be_told(here: Place) -> None:
    path = f"/accounts/{here.ids['expired']}/plan"
    before = (await here.get(path)).json()
    assert [level["recipients"][0]["contact"] for level in before["levels"][:2]] == ["ada", "bob"]
    await acted(here, "/owners/acme/platform/facebook", {"owners": [["bob"]]}, 201, "PUT")
    after = (await here.get(path)).json()
    assert after["levels"][0]["recipients"] == [{"channel": "sms", "address": BOB.address, "contact": "bob"}]
    assert after["told"][0]["when"] == "at once"


async def test_an_address_is_trusted_again(here: Place) -> None:
    bad = (await here.get("/addresses/bad")).json()["items"]
    assert [one["address"] for one in bad] == ["gone@acme.example"]
    body = {"channel": "mail", "address": "gone@acme.example"}
    await acted(here, "/addresses/trust", body, 204)
    assert (await here.get("/addresses/bad")).json()["items"] == []
    assert (await here.post("/addresses/trust", body)).status_code == 404


async def test_an_incident_tells_who_was_told_and_a_notice_what_they_read(here: Place) -> None:
    shown = (await here.get(f"/incidents/{here.incident('disconnected')}")).json()
    told = {one["status"]: one for one in shown["notices"]}
    assert {status: one["contact"] for status, one in told.items()} == {"sent": "ada", "dead": "bob"}
    notice = (await here.get(f"/notices/{told['sent']['id']}")).json()
    assert notice["content"]["subject"] == "Reconnect"


async def test_the_timeline_tells_of_an_act(here: Place) -> None:
    path = f"/accounts/{here.ids['expired']}"
    here.clock.at += timedelta(minutes=1)
    await acted(here, f"{path}/snooze", {"for": "2h"})
    newest = (await here.get(f"{path}/timeline")).json()["items"][-1]
    assert (newest["at"], newest["what"]) == ("2026-03-01T13:01:00Z", "snoozed")
    assert "token:operator" in newest["detail"]


async def test_the_overview_and_the_workspaces_count_what_there_is(here: Place) -> None:
    shown = (await here.get("/overview")).json()
    assert (shown["accounts"]["expired"], shown["accounts"]["disconnected"], shown["paused"]) == (2, 1, 1)
    assert [one["ref"] for one in shown["longest_broken"]] == ["2", "3", "4"]
    assert shown["notices"]["held"] == {"storm": 2}
    assert [one["id"] for one in shown["storms"]] == [STORM.id]
    acme = next(one for one in (await here.get("/workspaces")).json()["items"] if one["name"] == "acme")
    assert (acme["incidents_open"], acme["allowance"]["share"], acme["swept_at"]) == (3, 300, "2026-03-01T12:00:00Z")
    assert acme["troubles"][0]["remedy"] == "Put a valid one in."


async def test_an_incident_that_is_over_is_found_as_such(here: Place) -> None:
    await here.store.run(incidents.resolve, here.incident(), Resolution.REPAIRED, here.clock.now() + DAY)
    over = (await here.get("/incidents?open=false")).json()["items"]
    assert [one["id"] for one in over] == [here.incident()]
    lasting = (await here.get("/incidents?open=true&platform=instagram")).json()["items"]
    assert [one["id"] for one in lasting] == [here.incident("disconnected")]
