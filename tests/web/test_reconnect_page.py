"""The reconnect page over HTTP: what a link from a message does for people, and what it does not for all others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from sqlalchemy import text
from structlog.typing import EventDict

from healthd.core.model import State
from healthd.demo.person import Person, read
from healthd.web import reconnect
from healthd.web.reconnect_words import SAYINGS
from tests.web import happenings
from tests.web.site import Broken, Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex, nofollow, noarchive",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
}
POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src data:",
    "base-uri 'none'", "frame-ancestors 'none'",
}  # fmt: skip


def plain(page: str) -> str:
    """A page's words, on one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))


def title(name: str) -> str:
    """The part of a page's title that no name is filled into."""
    return max(re.split(r"\{\w+\}", SAYINGS[name].title), key=len)


# Looking


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
async def test_nothing_but_a_press_asks_the_provider_for_a_link(site: Site, method: str) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        for url in (broken.link, f"{broken.link}/state", f"{broken.link}?press=1&next=/"):
            answer = await http.request(method, url)
            assert answer.status_code == (200 if method in {"GET", "HEAD"} else 405)
    assert site.minted(broken) == 0
    assert await site.presses(broken) == []


async def test_the_page_says_what_is_broken_and_offers_the_button(site: Site) -> None:
    broken = await site.broken("facebook")
    page = await site.see(broken)
    assert f"{broken.account.name} on Facebook needs to be reconnected" in page.text
    assert page.has_form


async def test_an_account_that_could_not_be_checked_is_called_unconfirmed(site: Site) -> None:
    broken = await site.broken()
    await site.doubt(broken)
    page = await site.see(broken)
    assert "may need to be reconnected" in page.text
    assert page.has_form


async def test_names_stay_names_whatever_is_in_them(site: Site) -> None:
    broken = await site.broken()
    name = "<script>alert(1)</script>{platform}{0}%s&copy;\u05d0"
    await site.rename(broken, name, name)
    async with site.visitor() as http:
        page = (await http.get(broken.link)).text
    assert "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;{platform}{0}%s&amp;copy;\u05d0</bdi>" in page
    assert page.count("<script") == 1


HANDLES = {"acme": "@acme", "@acme": "@acme", "Acme Shop": "Acme Shop", "": "Acme", None: "Acme"}


@pytest.mark.parametrize("username", HANDLES)
async def test_the_page_names_the_account_to_choose(site: Site, username: str | None) -> None:
    broken = await site.broken()
    await site.rename(broken, "Acme", username)
    assert f"Choose {HANDLES[username]} , and leave all permissions ticked" in (await site.see(broken)).text


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value or "" for name, value in attrs if name in {"href", "src", "action", "srcset", "poster"}}


async def test_nothing_on_the_page_comes_from_anywhere_else(site: Site) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        page = (await http.get(broken.link)).text
        reader = _Addresses()
        reader.feed(page)
        assert f"/r/{broken.token}" in reader.found
        for address in reader.found - {"data:,", f"/r/{broken.token}"}:
            asset = await http.get(site.scene.public + address)
            assert address.startswith("/r/static/")
            assert asset.status_code == 200
            assert not re.search(r"https?://|url\(|@import", asset.text)


async def test_robots_are_asked_to_stay_away(site: Site) -> None:
    answer = await site.scene.http.get(f"{site.scene.public}/robots.txt")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "User-agent: *\nDisallow: /\n"


# Tokens that are not ours


DAMAGED: dict[str, Callable[[str], str]] = {
    "first character": lambda token: ("1" if token[0] == "0" else "0") + token[1:],
    "one bit of the id": lambda token: token[:5] + chr(ord(token[5]) ^ 1) + token[6:],
    "one bit of the signature": lambda token: token[:30] + ("A" if token[30] != "A" else "B") + token[31:],
    "bits behind the signature": lambda token: token[:-1] + chr(ord(token[-1]) + 1),
    "truncated": lambda token: token[:-1],
    "half": lambda token: token[:30],
    "id alone": lambda token: token[:16],
    "signature alone": lambda token: token[17:],
    "padded": lambda token: token + "=",
    "padded, encoded": lambda token: token + "%3D",
    "twice": lambda token: token + token,
    "another alphabet": lambda token: token[:-2] + "+/",
    "upper case": lambda token: token.upper(),
    "encoded twice": lambda token: token.replace(".", "%252E"),
    "a NUL behind": lambda token: token + "%00",
    "a line behind": lambda token: token + "%0A",
    "not UTF-8": lambda token: token + "%FF",
    "full-width digits": lambda token: quote("０") + token[1:],
    "a path": lambda token: f"..%2F{token}",
    "a deeper path": lambda token: f"{token}/more/of/it",
    "a slash behind": lambda token: f"{token}/",
    "a very long one": lambda token: token * 300,
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_a_damaged_token_gets_the_one_constant_answer(site: Site, damage: str) -> None:
    token = site.links.token("0123456789abcdef")
    while not token[5].isdecimal() or token[-1] in "80":
        token = site.links.token(f"{abs(hash(token)):016x}")
    async with site.visitor() as http:
        unknown = await http.get(f"{site.scene.public}/r/{token}")
        answer = await http.get(f"{site.scene.public}/r/{DAMAGED[damage](token)}")
        assert (answer.status_code, answer.content) == (404, unknown.content)
        assert unknown.status_code == 404
        pressed = await http.post(f"{site.scene.public}/r/{DAMAGED[damage](token)}", data={"press": "1"})
        assert pressed.status_code in {404, 405}


async def test_a_token_survives_a_mail_program_that_encodes_its_dot(site: Site) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        assert (await http.get(broken.link.replace(broken.token, broken.token.replace(".", "%2E")))).status_code == 200


async def test_an_address_beyond_all_measure_is_refused_unread(site: Site) -> None:
    async with site.visitor() as http:
        assert (await http.get(f"{site.scene.public}/r/{'a' * 60_000}")).status_code == 431


async def test_an_address_that_guesses_is_slowed_down_and_nobody_else(site: Site) -> None:
    broken = await site.broken()
    address = "2001:db8:7::1"
    async with site.visitor(address) as guesser:
        tries = [await guesser.get(f"{site.scene.public}/r/{number}") for number in range(24)]
        assert {answer.status_code for answer in tries[:20]} == {404}
        assert tries[-1].status_code == 429
        assert tries[-1].headers["retry-after"] == "60"
        assert (await guesser.get(broken.link)).status_code == 200
    async with site.visitor("2001:db8:7::2") as neighbour:
        assert (await neighbour.get(f"{site.scene.public}/r/guess")).status_code == 429
    async with site.visitor() as other:
        assert (await other.get(f"{site.scene.public}/r/guess")).status_code == 404
    assert await site.scene.metric("healthd_link_refused_total", reason="invalid") >= 20


# Links that have had their time


DONE: dict[str, tuple[Callable[[Site, Broken], Awaitable[None]], str, int]] = {
    "expired": (happenings.expire, "over", 410),
    "revoked": (happenings.revoke, "over", 410),
    "repaired": (happenings.repair, "repaired", 200),
    "broken again": (happenings.break_again, "again", 410),
    "removed": (happenings.remove, "removed", 410),
    "repaired, but not for this reader": (happenings.revoke_and_repair, "over", 410),
}


@pytest.mark.parametrize("case", DONE)
async def test_a_link_that_is_done_says_so_and_asks_for_nothing(site: Site, case: str) -> None:
    happens, name, status = DONE[case]
    broken = await site.broken()
    async with site.visitor() as http:
        open_page = read(await http.get(broken.link))
        await happens(site, broken)
        shown = await http.get(broken.link)
        pressed = await http.post(broken.link, data=open_page.fields)
        state = (await http.get(f"{broken.link}/state")).json()
    for answer in (shown, pressed):
        assert answer.status_code == status
        assert title(name) in plain(answer.text)
        assert not read(answer).has_form
    assert state == {"state": name}
    assert site.minted(broken) == 0


# The button


async def test_the_button_leads_to_a_fresh_link_and_is_on_record(site: Site) -> None:
    broken = await site.broken()
    async with site.visitor("198.51.100.23", **{"user-agent": "Phone/1.0 (real) " + "x" * 500}) as http:
        answers = [await site.press(http, broken) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {303}
    first, second = (answer.headers["location"] for answer in answers)
    assert first != second
    assert first.startswith(f"http://127.0.0.1:{site.scene.ports['sandbox']}/connect/")
    assert await site.presses(broken) == [("minted", f"198.51.100.0/24 Phone/1.0 (real) {'x' * 142}…")] * 2


async def test_a_double_click_is_one_press(site: Site) -> None:
    broken = await site.broken()
    site.scene.sandbox.faults.add(kind="delay", path="reconnect-url", seconds=0.2, times=1)
    async with site.visitor() as http:
        page = read(await http.get(broken.link))
        answers = await asyncio.gather(*(http.post(broken.link, data=page.fields) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert site.minted(broken) == 1


async def test_a_robots_press_leaves_the_page_as_it_was_for_the_person(site: Site) -> None:
    broken = await site.broken("tumblr")
    async with site.visitor(**{"user-agent": "LinkScanner/1.0"}) as robot:
        assert (await Person(robot).press(await Person(robot).open(broken.link))).status == 200
        assert title("waiting") in (await Person(robot).open(broken.link)).text
    async with site.visitor() as http:
        person = Person(http)
        assert title("broken") in (await person.open(broken.link)).text
        assert "Connected" in (await person.reconnect(broken.link)).text
        await site.until_resolved(broken)
        assert title("repaired") in (await person.open(broken.link)).text


async def test_who_pressed_is_told_that_we_wait_and_then_that_it_may_be_the_wrong_account(site: Site) -> None:
    broken = await site.broken("pinterest")
    async with site.visitor() as http:
        person = Person(http)
        consent = await person.press(await person.open(broken.link))
        assert title("waiting") in (await person.open(broken.link)).text
        await person.press(consent, decision="other")
        assert await person.watch(broken.link, "still_broken", 10)
        page = await person.open(broken.link)
    assert f"another account than {broken.account.name}" in page.text
    assert page.has_form


async def test_only_the_token_in_the_address_counts(site: Site) -> None:
    mine, other = await site.broken("linkedin"), await site.broken("reddit")
    async with site.visitor() as http:
        page = read(await http.get(mine.link))
        forged = page.fields | {
            "token": other.token, "link": other.id, "account_id": str(other.account.id),
            "next": "https://evil.example/", "return_url": "https://evil.example/",
        }  # fmt: skip
        answer = await http.post(f"{mine.link}?next=https://evil.example/&return_url=//evil.example", data=forged)
    assert answer.status_code == 303
    assert "/connect/linkedin?" in answer.headers["location"]
    assert "evil" not in answer.headers["location"]
    assert (site.minted(mine), site.minted(other)) == (1, 0)


async def test_an_address_to_go_to_afterwards_is_ignored(site: Site) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        asked = await http.get(f"{broken.link}?next=https://evil.example/&return_url=javascript:alert(1)")
    assert asked.status_code == 200
    assert "evil" not in asked.text
    assert "javascript:" not in asked.text


FORMS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "none": lambda _: {},
    "empty": lambda _: {"press": ""},
    "garbage": lambda _: {"press": "\x00ä.\ud83d\ude00".encode("utf-16", "surrogatepass").decode("latin-1")},
    "without a signature": lambda fields: {"press": fields["press"].partition(".")[0]},
    "another hour": lambda fields: {"press": re.sub(r"^\d+", "400000", fields["press"])},
    "an hour to come": lambda fields: {"press": re.sub(r"^\d+", "999999", fields["press"])},
    "an endless hour": lambda fields: {"press": re.sub(r"^\d+", "9" * 3000, fields["press"])},
    "many fields": lambda fields: {str(number): "x" for number in range(50)} | fields,
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_press_that_is_not_from_our_page_only_leads_to_our_page(site: Site, form: str) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        page = read(await http.get(broken.link))
        answer = await http.post(broken.link, data=FORMS[form](page.fields))
        assert answer.status_code in {400, 403}
        assert site.minted(broken) == 0
        # The page that refuses offers the button itself.
        assert (await http.post(broken.link, data=read(answer).fields)).status_code == 303


async def test_the_form_of_one_link_does_not_press_another(site: Site) -> None:
    mine, other = await site.broken(), await site.broken()
    async with site.visitor() as http:
        page = read(await http.get(other.link))
        for fields in (page.fields, {"press": page.fields["press"]}):
            assert (await http.post(mine.link, data=fields)).status_code == 403
    assert site.minted(mine) == site.minted(other) == 0


FROM_WHERE = {"same-origin": 303, "none": 303, None: 303, "same-site": 403, "cross-site": 403, "else": 403}


@pytest.mark.parametrize("where", FROM_WHERE)
async def test_another_sites_page_cannot_press_and_old_browsers_can(site: Site, where: str | None) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        answer = await site.press(http, broken, **({"sec-fetch-site": where} if where else {}))
    assert answer.status_code == FROM_WHERE[where]
    assert site.minted(broken) == (answer.status_code == 303)


async def test_a_body_that_is_too_large_or_too_slow_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        large = await http.post(broken.link, data={"press": "x" * 5000})
        assert large.status_code == 413
        monkeypatch.setattr(reconnect, "BODY_WITHIN", 0.05)
        port = site.scene.ports["public"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST /r/{broken.token} HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\npress".encode())
        assert b"408" in await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        await writer.wait_closed()
    assert site.minted(broken) == 0


async def test_a_link_can_be_pressed_five_times_a_minute_and_thirty_times_an_hour(site: Site) -> None:
    busy, greedy, other = await site.broken(), await site.broken(), await site.broken()
    await site.record_presses(greedy, 30, minutes_ago=50)
    await site.record_presses(greedy, 30, minutes_ago=70)
    await site.record_presses(other, 30, minutes_ago=61)
    async with site.visitor() as http:
        assert [(await site.press(http, busy)).status_code for _ in range(6)] == [303] * 5 + [429]
        refused = [await site.press(http, link) for link in (busy, greedy)]
        assert (await site.press(http, other)).status_code == 303
    assert [answer.headers["retry-after"] for answer in refused] == ["60", "3600"]
    assert "wait a minute" in refused[0].text
    assert "wait an hour" in refused[1].text
    assert (site.minted(busy), site.minted(greedy)) == (5, 0)


# A provider in trouble


FAILURES: dict[str, tuple[dict[str, Any], str, str, int]] = {
    "500": ({"kind": "status", "status": 500}, "unavailable", "unavailable", 503),
    "502 without JSON": ({"kind": "status", "status": 502}, "unavailable", "unavailable", 503),
    "503": ({"kind": "status", "status": 503}, "unavailable", "unavailable", 503),
    "dropped": ({"kind": "drop"}, "unavailable", "unavailable", 503),
    "slow": ({"kind": "delay", "seconds": 0.8}, "unavailable", "unavailable", 503),
    "a redirect": ({"kind": "redirect"}, "unavailable", "unavailable", 503),
    "garbage": ({"kind": "garbage"}, "bad_answer", "unavailable", 503),
    "HTML": ({"kind": "html"}, "bad_answer", "unavailable", 503),
    "truncated": ({"kind": "truncated"}, "unavailable", "unavailable", 503),
    "another shape": ({"kind": "wrong_shape"}, "forbidden_link", "operator", 503),
    "401": ({"kind": "status", "status": 401}, "unauthorized", "operator", 503),
    "402": ({"kind": "status", "status": 402}, "payment_required", "operator", 503),
    "403": ({"kind": "status", "status": 403}, "forbidden", "operator", 503),
    "404": ({"kind": "status", "status": 404}, "not_found", "missing", 404),
    "409": ({"kind": "status", "status": 409}, "conflict", "paused", 409),
    "422": ({"kind": "status", "status": 422}, "unprocessable", "by_hand", 422),
}
BLAME = re.compile(
    r"you (may )?have chosen|left out|your (mistake|fault|account was)|invalid|traceback|exception", re.IGNORECASE
)


@pytest.mark.parametrize("failure", FAILURES)
async def test_while_the_provider_fails_the_page_explains_and_blames_nobody(site: Site, failure: str) -> None:
    fault, outcome, name, status = FAILURES[failure]
    broken = await site.broken()
    site.scene.sandbox.faults.add(path="reconnect-url", **fault)
    async with site.visitor() as http:
        answer = await site.press(http, broken)
        words = plain(answer.text)
        assert answer.status_code == status
        assert title(name) in words
        assert not BLAME.search(words)
        assert "location" not in answer.headers
        assert [made for made, _ in await site.presses(broken)] == [outcome]
        site.scene.sandbox.faults.active.clear()
        again = read(answer) if SAYINGS[name].button else read(await http.get(broken.link))
        assert (await http.post(broken.link, data=again.fields)).status_code == 303
    assert await site.scene.state(broken.account) is State.EXPIRED


async def test_when_the_provider_asks_for_patience_the_page_says_for_how_long(site: Site) -> None:
    broken = await site.broken(workspace="spare")
    fault = {"kind": "status", "status": 429, "headers": {"retry-after": "125"}}
    site.scene.sandbox.faults.add(path="reconnect-url", **fault)
    async with site.visitor() as http:
        answer = await site.press(http, broken)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "125")
    assert "wait 2 minutes" in answer.text
    assert 'data-wait="125"' in answer.text


async def test_a_person_waits_no_longer_than_the_page_allows(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "MINT_WITHIN", 0.05)
    broken = await site.broken()
    site.scene.sandbox.faults.add(path="reconnect-url", kind="delay", seconds=0.4)
    async with site.visitor() as http:
        assert (await site.press(http, broken)).status_code == 503


HOSTILE: dict[str, object] = {
    "a longer host": "https://app.smartlyq.com.evil.example/",
    "a backslash": "https://evil.example\\@app.smartlyq.com/",
    "a user": "https://app.smartlyq.com@evil.example/",
    "a user before the right host": "https://evil.example@app.smartlyq.com/",
    "another port": "https://app.smartlyq.com:8443/",
    "plain http": "http://app.smartlyq.com/",
    "another port of this machine": "http://127.0.0.1:1/",
    "a script": "javascript:alert(document.domain)",
    "data": "data:text/html,<script>alert(1)</script>",
    "no scheme": "//evil.example/",
    "one slash": "https:/evil.example/",
    "no slash": "https:app.smartlyq.com/",
    "a tab": "https://app.smartlyq.com\t.evil.example/",
    "a new header": "https://app.smartlyq.com/\r\nset-cookie: a=b",
    "a space before": " https://app.smartlyq.com/",
    "a homograph": "https://\u0430pp.smartlyq.com/",
    "an encoded host": "https://app.smartlyq.com%2eevil.example/",
    "a trailing dot": "https://app.smartlyq.com./",
    "nothing": "",
    "null": None,
    "a number": 42,
    "a list": ["https://app.smartlyq.com/"],
    "a megabyte": "https://app.smartlyq.com/" + "a" * 1_000_000,
}


@pytest.mark.parametrize("link", HOSTILE)
async def test_a_link_that_leads_elsewhere_is_never_handed_on(
    site: Site, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = await site.broken()
    monkeypatch.setattr(site.scene.sandbox.api, "page", lambda *_: HOSTILE[link])
    async with site.visitor() as http:
        answer = await site.press(http, broken)
    assert answer.status_code == 503
    assert title("operator") in plain(answer.text)
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert "evil" not in answer.text
    assert [outcome for outcome, _ in await site.presses(broken)] == ["forbidden_link"]


# Our own trouble


async def test_while_the_store_fails_the_page_says_that_the_link_stays_valid(site: Site) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        page = read(await http.get(broken.link))
        await site.scene.store.run(lambda connection: connection.execute(text("ALTER TABLE links RENAME TO away")))
        try:
            answers = [
                await http.get(broken.link),
                await http.head(broken.link),
                await http.post(broken.link, data=page.fields),
                await http.get(f"{broken.link}/state"),
            ]
        finally:
            await site.scene.store.run(lambda connection: connection.execute(text("ALTER TABLE away RENAME TO links")))
        assert [answer.status_code for answer in answers] == [503] * 4
        assert all(answer.headers["retry-after"] == "10" for answer in answers)
        assert all(is_guarded(answer.headers) for answer in answers)
        assert "This link stays valid" in answers[0].text
        assert "links" not in answers[0].text.replace("/r/static", "")
        assert (await http.get(broken.link)).status_code == 200
    assert site.minted(broken) == 0


async def test_a_mistake_of_ours_is_a_page_too(site: Site) -> None:
    broken = await site.broken()
    [incident] = await site.scene.incidents(broken.account)

    async def set_cause(cause: str) -> None:
        statement = text("UPDATE incidents SET cause = :cause WHERE id = :id")
        facts = {"cause": cause, "id": incident.id}
        await site.scene.store.run(lambda connection: connection.execute(statement, facts))

    await set_cause("never heard of")
    with structlog.testing.capture_logs() as heard:
        async with site.visitor() as http:
            answer = await http.get(broken.link)
    await set_cause(incident.cause)
    assert [entry["event"] for entry in heard] == ["link.failed"]
    assert answer.status_code == 500
    assert title("unavailable") in answer.text
    assert "never heard of" not in answer.text
    assert is_guarded(answer.headers)


# What goes with every answer


def is_guarded(headers: Any) -> bool:
    """Whether an answer carries what keeps its token in and everybody else out."""
    found = {name: headers.get(name) for name in HEADERS}
    assert found == HEADERS
    directives = {part.strip() for part in headers["content-security-policy"].split(";")}
    assert directives >= POLICY
    [form_action] = directives - POLICY
    assert form_action.startswith("form-action 'self' https:")
    return True


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/r/{token}", 200),
        ("HEAD", "/r/{token}", 200),
        ("OPTIONS", "/r/{token}", 405),
        ("POST", "/r/{token}", 403),
        ("GET", "/r/{token}/state", 200),
        ("POST", "/r/{token}/state", 405),
        ("GET", "/r/{token}/more", 404),
        ("GET", "/r/nonsense", 404),
        ("POST", "/r/nonsense", 404),
        ("GET", "/r/nonsense/state", 404),
        ("GET", "/r", 404),
        ("GET", "/r/", 404),
        ("GET", "/r/static/page.html", 404),
        ("GET", "/r/static/..%2freconnect.py", 404),
        ("POST", "/r/static/page.css", 405),
        ("GET", "/robots.txt", 200),
    ],
)
async def test_every_answer_is_guarded(site: Site, method: str, path: str, status: int) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        answer = await http.request(method, site.scene.public + path.format(token=broken.token))
    assert answer.status_code == status
    assert is_guarded(answer.headers)
    assert (answer.headers.get("allow") is not None) == (status == 405)


async def test_refusals_and_redirects_are_guarded_as_well(site: Site) -> None:
    broken = await site.broken()
    async with site.visitor() as http:
        large = await http.post(broken.link, content=b"x" * 5000)
        pressed = await site.press(http, broken)
    assert (large.status_code, pressed.status_code) == (413, 303)
    assert is_guarded(large.headers)
    assert is_guarded(pressed.headers)
    cookie = pressed.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", "Max-Age=900", f"Path=/r/{broken.token}"))


async def test_style_and_script_may_be_kept_since_their_address_changes_with_them(site: Site) -> None:
    async with site.visitor() as http:
        page = (await http.get((await site.broken()).link)).text
        found = re.findall(r'"(/r/static/[^"]+\?v=[0-9a-f]{12})"', page)
        assert len(found) == 2
        for address in found:
            answer = await http.get(site.scene.public + address)
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_token_is_in_no_log_and_no_metric(site: Site) -> None:
    broken, done = await site.broken(), await site.broken()
    heard: list[EventDict]
    with structlog.testing.capture_logs() as heard:
        async with site.visitor() as http:
            location = (await site.press(http, broken)).headers["location"]
            site.scene.sandbox.faults.add(path="reconnect-url", kind="status", status=500)
            await site.press(http, broken)
            await http.get(f"{broken.link}x")
            await happenings.repair(site, done)
            await http.get(done.link)
        exposed = (await site.scene.http.get(f"{site.scene.admin}/metrics")).text
    assert {"link.minted", "link.not_minted"} <= {entry["event"] for entry in heard}
    for secret in (broken.token, done.token, broken.token.partition(".")[2], location.partition("?")[2]):
        assert secret not in repr(heard)
        assert secret not in exposed


async def test_pages_and_presses_are_counted(site: Site) -> None:
    broken = await site.broken()

    async def counted() -> tuple[float, float]:
        return (
            await site.scene.metric("healthd_link_pages_total", state="broken"),
            await site.scene.metric("healthd_link_mints_total", outcome="minted"),
        )

    pages, pressed = await counted()
    async with site.visitor() as http:
        await site.press(http, broken)
    assert await counted() == (pages + 1, pressed + 1)
