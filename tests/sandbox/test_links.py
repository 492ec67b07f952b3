"""Links that open once and die young, and the page behind them."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from healthd.sandbox.world import CREDENTIALS, CREDENTIALS_ONLY, PLATFORMS, Account
from tests.sandbox.listener import Listener
from tests.sandbox.scene import Scene, served

BY_BROWSER = [platform for platform in PLATFORMS if platform not in CREDENTIALS_ONLY]


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hidden: dict[str, str] = {}
        self.offered: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attrs}
        if tag == "input" and facts.get("type") == "hidden":
            self.hidden[facts["name"]] = facts["value"]
        elif tag in {"button", "input"} and "name" in facts:
            self.offered.add((facts["name"], facts.get("value", "on")))


def fields(page: httpx2.Response) -> _Fields:
    found = _Fields()
    found.feed(page.text)
    return found


async def reconnect_url(scene: Scene, account: Account) -> str:
    return str((await scene.data("GET", f"/social/accounts/{account.id}/reconnect-url"))["reconnect_url"])


async def press(scene: Scene, page: httpx2.Response, **choice: str) -> httpx2.Response:
    return await scene.http.post(str(page.url), data=fields(page).hidden | choice)


@pytest.mark.parametrize("platform", BY_BROWSER)
async def test_approving_repairs_the_same_account(scene: Scene, platform: str) -> None:
    account = scene.account(platform)
    scene.world.break_token(account)
    page = await scene.http.get(await reconnect_url(scene, account))
    assert page.status_code == 200
    assert account.name.replace("&", "&amp;") in page.text
    assert account.broken
    done = await press(scene, page, decision="approve")
    assert done.status_code == 200
    assert "Connected" in done.text
    assert not account.broken
    assert len(scene.world.accounts) == len(PLATFORMS)


async def test_denying_changes_nothing(scene: Scene) -> None:
    account = scene.account("reddit")
    scene.world.break_token(account)
    page = await scene.http.get(await reconnect_url(scene, account))
    done = await press(scene, page, decision="deny")
    assert "Nothing was changed" in done.text
    assert account.broken


async def test_choosing_another_account_adds_that_one_and_leaves_the_broken_one_broken(scene: Scene) -> None:
    account = scene.account("reddit")
    scene.world.break_token(account)
    page = await scene.http.get(await reconnect_url(scene, account))
    assert ("decision", "other") in fields(page).offered
    await press(scene, page, decision="other")
    assert account.broken
    added = scene.world.accounts[max(scene.world.accounts)]
    assert (added.platform, added.broken) == ("reddit", False)
    assert added.id != account.id


async def test_a_link_is_dead_for_whoever_comes_second_and_the_first_may_still_answer(scene: Scene) -> None:
    account = scene.account("twitter")
    scene.world.break_token(account)
    url = await reconnect_url(scene, account)
    first = await scene.http.get(url)
    second = await scene.http.get(url)
    assert second.status_code == 410
    assert fields(second).hidden == {}
    assert (await scene.http.post(url, data={"token": fields(first).hidden["token"]})).status_code == 410
    assert account.broken
    await press(scene, first, decision="approve")
    assert not account.broken
    assert (await press(scene, first, decision="approve")).status_code == 410


async def test_a_look_by_head_does_not_use_a_link_up(scene: Scene) -> None:
    url = await reconnect_url(scene, scene.account("twitter"))
    for _ in range(10):
        seen = await scene.http.head(url)
        assert (seen.status_code, seen.content) == (200, b"")
    assert (await scene.http.get(url)).status_code == 200
    assert (await scene.http.head(url)).status_code == 410


LIVES = {timedelta(minutes=15) - timedelta(seconds=1): 200, timedelta(minutes=15): 410}


@pytest.mark.parametrize("age", LIVES)
async def test_a_link_lives_for_fifteen_minutes(scene: Scene, age: timedelta) -> None:
    url = await reconnect_url(scene, scene.account("twitter"))
    await scene.advance(age)
    assert (await scene.http.get(url)).status_code == LIVES[age]


async def test_a_page_that_was_left_open_too_long_repairs_nothing(scene: Scene) -> None:
    account = scene.account("twitter")
    scene.world.break_token(account)
    page = await scene.http.get(await reconnect_url(scene, account))
    await scene.advance(timedelta(minutes=15))
    assert (await press(scene, page, decision="approve")).status_code == 410
    assert account.broken


async def test_each_question_mints_a_link_of_its_own(scene: Scene) -> None:
    account = scene.account("twitter")
    assert await reconnect_url(scene, account) != await reconnect_url(scene, account)


@pytest.mark.parametrize("path", ["/connect/twitter", "/connect/twitter?token=nothing", "/connect/myspace?token=TOKEN"])
async def test_a_link_that_was_never_given_opens_nothing(scene: Scene, path: str) -> None:
    link = scene.world.mint("sandbox", "twitter")
    assert (await scene.http.get(scene.url + path.replace("TOKEN", link.token))).status_code == 410
    assert link.form is None


@pytest.mark.parametrize("platform", sorted(CREDENTIALS_ONLY))
async def test_what_connects_with_credentials_has_no_link(scene: Scene, platform: str) -> None:
    number = scene.account(platform).id
    assert (await scene.api("GET", f"/social/accounts/{number}/reconnect-url")).status_code == 422
    refused = await scene.api("POST", f"/social/connect/{platform}")
    assert refused.status_code == 422
    assert refused.json()["error"]["details"] == {"fields": list(CREDENTIALS[platform])}


@pytest.mark.parametrize("platform", CREDENTIALS)
async def test_credentials_connect_at_once_and_each_of_them_is_needed(scene: Scene, platform: str) -> None:
    names = CREDENTIALS[platform]
    for missing in names:
        body = {name: "x" for name in names if name != missing}
        answer = await scene.api("POST", f"/social/connect/{platform}", body)
        assert answer.json()["error"]["details"] == {"fields": [missing]}
    done = await scene.data("POST", f"/social/connect/{platform}", dict.fromkeys(names, "x"))
    assert scene.world.accounts[done["account"]["account_id"]].platform == platform
    assert "connect_url" not in done


async def test_bluesky_without_an_app_password_goes_through_the_browser(scene: Scene) -> None:
    assert (await scene.data("POST", "/social/connect/bluesky"))["connect_url"].startswith(scene.url)


async def test_an_unknown_platform_is_refused_with_the_list_of_those_that_can_be(scene: Scene) -> None:
    answer = await scene.api("POST", "/social/connect/myspace")
    assert answer.json()["error"]["code"] == "UNSUPPORTED_PLATFORM"
    assert answer.json()["error"]["details"] == {"supported": list(PLATFORMS)}


async def test_a_connection_is_pending_then_connected_or_in_the_end_expired(scene: Scene) -> None:
    urls = [(await scene.data("POST", "/social/connect/tiktok"))["connect_url"] for _ in range(2)]
    tokens = [parse_qs(urlsplit(url).query)["token"][0] for url in urls]

    async def statuses() -> list[Any]:
        return [(await scene.data("GET", f"/social/connect/{token}"))["status"] for token in tokens]

    assert await statuses() == ["pending", "pending"]
    await press(scene, await scene.http.get(urls[0]), decision="approve")
    await scene.advance(timedelta(minutes=15))
    assert await statuses() == ["connected", "expired"]


RETURNS = {
    "https://app.example/done": "https://app.example/done?connected={}&platform=tiktok",
    "https://app.example/done?a=1#top": "https://app.example/done?a=1&connected={}&platform=tiktok#top",
}


@pytest.mark.parametrize("return_url", RETURNS)
@pytest.mark.parametrize(("decision", "count"), [("approve", 1), ("deny", 0)])
async def test_the_person_is_sent_back_with_what_happened(
    scene: Scene, return_url: str, decision: str, count: int
) -> None:
    begun = await scene.data("POST", "/social/connect/tiktok", {"return_url": return_url})
    done = await press(scene, await scene.http.get(begun["connect_url"]), decision=decision)
    assert done.status_code == 303
    assert done.headers["location"] == RETURNS[return_url].format(count)


async def test_one_login_repairs_its_other_accounts_too_unless_the_box_is_cleared() -> None:
    async with served(accounts=32) as scene:
        google = [account for account in scene.world.accounts.values() if account.platform in {"youtube", "gmb"}]
        for account in google:
            scene.world.break_token(account)
        page = await scene.http.get(await reconnect_url(scene, google[0]))
        assert ("siblings", "on") in fields(page).offered
        await press(scene, page, decision="approve")
        assert [account.broken for account in google] == [False, True, True, True]
        page = await scene.http.get(await reconnect_url(scene, google[1]))
        await press(scene, page, decision="approve", siblings="on")
        assert not any(account.broken for account in google)


async def test_a_customer_chooses_a_platform_on_a_hosted_link_that_lives_as_long_as_was_asked(scene: Scene) -> None:
    profile = scene.world.add_profile("sandbox", "End customer", "client-7")
    answer = await scene.api("POST", f"/profiles/{profile.id}/connect-link", {"platforms": ["tiktok", "threads"]})
    link = answer.json()
    assert link["expires_at"] == "2026-03-02T16:00:00Z"
    await scene.advance(timedelta(hours=23, minutes=59))
    page = await scene.http.get(link["connect_url"])
    assert {("platform", "tiktok"), ("platform", "threads")} <= fields(page).offered
    await press(scene, page, decision="approve", platform="threads")
    added = scene.world.accounts[max(scene.world.accounts)]
    assert (added.platform, added.profile) == ("threads", profile.id)


async def test_a_hosted_link_connects_only_what_it_offers(scene: Scene) -> None:
    profile = scene.world.add_profile("sandbox", "End customer", None)
    answer = await scene.api("POST", f"/profiles/{profile.id}/connect-link", {"platforms": ["tiktok"]})
    page = await scene.http.get(answer.json()["connect_url"])
    await press(scene, page, decision="approve", platform="threads")
    assert scene.world.accounts[max(scene.world.accounts)].platform == "tiktok"


async def test_consent_is_told_by_webhook_with_the_profile_it_belongs_to(scene: Scene, listener: Listener) -> None:
    scene.sandbox.sender.register("sandbox", listener.url, ("account.connected",))
    profile = scene.world.add_profile("sandbox", "End customer", None)
    account = scene.world.add_account("sandbox", "tiktok", profile=profile.id)
    scene.world.break_token(account)
    link = scene.world.mint("sandbox", "tiktok", account=account.id, profile=profile.id)
    await press(scene, await scene.http.get(scene.sandbox.api.page(link)), decision="approve")
    await scene.until(lambda: len(listener.received) == 1)
    data = listener.received[0].event["data"]
    assert (data["account_id"], data["account_username"]) == (account.id, account.username)
    assert (data["profile_id"], data["profile_workspace_id"]) == (profile.id, profile.workspace_id)


async def test_names_cannot_break_out_of_the_page(scene: Scene) -> None:
    account = scene.account("twitter")
    account.name = account.username = "<script>alert(1)</script>"
    scene.world.break_token(account)
    for url in (await reconnect_url(scene, account), scene.url + "/", f"{scene.url}/?problem=<script>"):
        page = await scene.http.get(url)
        assert page.status_code == 200
        assert "<script" not in page.text


async def test_the_pages_are_neither_kept_nor_framed_nor_named_to_others(scene: Scene) -> None:
    page = await scene.http.get(await reconnect_url(scene, scene.account("twitter")))
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-frame-options"] == "DENY"
