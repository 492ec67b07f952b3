"""The operator's pages in a real browser: what a newcomer finds, what an operator does, and for whom they work."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, expect

from healthd.core.model import NoticeStatus
from healthd.store import accounts, notices
from tests.web.browser import DESKTOP
from tests.web.operator.house import TOKENS, House

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL: ViewportSize = {"width": 320, "height": 700}
AXE = Path(__file__).parent / "axe" / "axe.min.js"
CONTRAST_ONLY = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
FIND = """async (options) => {
  const found = await axe.run(document, {resultTypes: ["violations"], iframes: false, ...options});
  return found.violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" | ").slice(0, 400)}`);
}"""


@cache
def _axe() -> str:
    return AXE.read_text("utf-8")


@asynccontextmanager
async def desk(
    house: House, browser: Browser, role: str = "admin", *, quiet: bool = True, **options: Any
) -> AsyncIterator[BrowserContext]:
    """A browser of somebody who has signed in. ``quiet``: at the end nothing of its pages must have complained."""
    context = await browser.new_context(base_url=house.scene.admin, **(DESKTOP | options))
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def opened(page: Page) -> None:
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("console", heard)

    context.on("page", opened)
    try:
        page = await context.new_page()
        await page.goto("/sign-in")
        await page.get_by_label("Access token").fill(TOKENS[role])
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("broken")
        yield context
    finally:
        await context.close()
    assert complaints == [] or not quiet


async def test_a_newcomer_finds_why_who_was_told_and_whether_they_clicked(house: House, browser: Browser) -> None:
    async with desk(house, browser, "viewer") as context:
        page = context.pages[0]
        await page.get_by_role("link", name=house.broken.name).first.click()
        story = page.get_by_role("region", name="What is known")
        await expect(story).to_contain_text("Broken since")
        await expect(story).to_contain_text("the token expired")
        await expect(story).to_contain_text("Ada Lovelace was told by e-mail")
        await expect(story).to_contain_text(re.compile("pressed the button .+, but has not repaired it"))
        await expect(page.locator(".timeline")).to_contain_text("Button pressed on the page of Ada Lovelace")
        await page.get_by_role("row", name="Ada Lovelace").get_by_role("link").first.click()
        mail = page.frame_locator("iframe")
        await expect(mail.locator("body")).to_contain_text(house.broken.name)
        await expect(page.locator(".state .badge")).to_have_text("Sent")


async def test_an_operator_takes_an_account_on_puts_it_off_and_mutes_it(house: House, browser: Browser) -> None:
    account = await house.fresh("snapchat")
    await house.break_(account)
    async with desk(house, browser, "operator") as context:
        page = context.pages[0]
        await page.goto(await house.path(account))
        story = page.get_by_role("region", name="What is known")
        await page.get_by_role("button", name="I’m on it").click()
        await expect(page.get_by_role("status")).to_contain_text("Noted: you are on it.")
        await expect(story).to_contain_text("token:operator is on it")
        await page.get_by_role("button", name="Take it back").click()
        await expect(story).not_to_contain_text("is on it")
        await page.get_by_text("Later…").click()
        await page.get_by_label("No reminders for").select_option("3 days")
        await page.get_by_role("button", name="Snooze").click()
        await expect(story).to_contain_text("No reminders until")
        await page.get_by_label("Tell nobody for").select_option("7 days")
        await page.get_by_role("button", name="Mute", exact=True).click()
        await expect(story).to_contain_text("Muted: nobody is told of it until")
        await page.get_by_role("link", name="What people did").click()
        await expect(page.locator(".timeline li")).to_have_count(4)
    stored = await house.scene.store.read(accounts.by_id, await house.id_of(account))
    assert stored is not None
    assert stored.muted_until is not None


async def test_a_link_to_repair_with_can_be_had_and_works(house: House, browser: Browser) -> None:
    async with desk(house, browser, "operator") as context:
        page = context.pages[0]
        await page.goto(await house.path(house.unread))
        await page.get_by_role("button", name="Get a link").click()
        field = page.get_by_label("The link")
        await expect(field).to_be_visible()
        assert "/r/" not in page.url
        async with context.expect_page() as opened:
            await page.get_by_role("link", name="Open it").click()
        await expect((await opened.value).get_by_role("heading", level=1)).to_contain_text("reconnected")


async def test_a_notice_that_was_given_up_is_tried_again(house: House, browser: Browser) -> None:
    notice_id = await house.dead_notice()
    async with desk(house, browser, "operator") as context:
        page = context.pages[0]
        await page.reload()
        await page.get_by_role("link", name="See why, and try again").click()
        await expect(page.get_by_text("the mailbox is full")).to_be_visible()
        await page.get_by_role("link", name="It broke").click()
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".state")).to_contain_text(
            re.compile(r"Sent\s+(just now|a minute ago)"), timeout=20_000
        )
    found = await house.scene.store.read(notices.get, notice_id)
    assert found is not None
    assert found.status is NoticeStatus.SENT


async def test_what_changes_shows_by_itself_and_leaves_the_reader_alone(house: House, browser: Browser) -> None:
    account = await house.fresh("tumblr")
    async with desk(house, browser, "operator") as context:
        page = context.pages[0]
        await page.goto(await house.path(account))
        await expect(page.locator("#live")).to_contain_text("Live")
        await page.evaluate("window.here = true")
        await page.get_by_text("Later…").click()
        await page.get_by_role("button", name="Mute", exact=True).focus()
        await page.evaluate("scrollTo(0, 60)")
        await house.break_(account)
        await expect(page.get_by_role("region", name="What is known")).to_contain_text("was told by e-mail")
        assert await page.evaluate("window.here") is True
        await expect(page.locator("#later")).to_have_attribute("open", "")
        await expect(page.get_by_role("button", name="Mute", exact=True)).to_be_focused()
        assert await page.evaluate("scrollY") == 60


async def test_what_an_act_has_said_stays_while_the_page_renews_itself(house: House, browser: Browser) -> None:
    account = await house.fresh("bluesky")
    async with desk(house, browser, "operator", quiet=False) as context:
        page = context.pages[0]
        await page.goto(await house.path(account))
        await expect(page.locator("#live")).to_contain_text("Live")
        await page.get_by_role("button", name="Check now").click()
        await expect(page.get_by_role("status")).to_contain_text("It is being checked now")
        await house.break_(account)
        await expect(page.get_by_role("region", name="What is known")).to_contain_text("was told by e-mail")
        await expect(page.get_by_role("status")).to_contain_text("It is being checked now")
        await page.route("**/acknowledge", lambda route: route.fulfill(status=503, body="The database does not answer"))
        await page.get_by_role("button", name="I’m on it").click()
        await expect(page.get_by_role("status")).to_contain_text("That did not work (503).")
        await expect(page.get_by_role("heading", level=1)).to_have_text(account.name)


async def test_with_the_keyboard_alone(house: House, browser: Browser) -> None:
    async with desk(house, browser, "operator") as context:
        page = context.pages[0]
        await page.goto("/")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()
        await page.keyboard.press("/")
        await page.wait_for_url("**/accounts*")
        await expect(page.get_by_label("Search")).to_be_focused()
        await page.keyboard.type(house.unread.name)
        await page.keyboard.press("Enter")
        row = page.get_by_role("link", name=house.unread.name).first
        await expect(page.locator(".rows tbody tr").first).to_contain_text(house.unread.name)
        for _ in range(12):
            await page.keyboard.press("Tab")
            if await row.evaluate("element => element === document.activeElement"):
                break
        await expect(row).to_be_focused()
        outline = await row.evaluate("element => getComputedStyle(element).outlineWidth")
        assert float(outline.removesuffix("px")) >= 2
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/accounts/*")
        await page.get_by_text("Later…").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("No reminders for")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_text("Later…")).to_be_focused()
        await page.keyboard.press("g")
        await page.keyboard.press("o")
        await page.wait_for_url(f"{house.scene.admin}/")


async def test_without_javascript_everything_can_be_read_and_done(house: House, browser: Browser) -> None:
    account = await house.fresh("threads")
    await house.break_(account)
    async with desk(house, browser, "operator", java_script_enabled=False) as context:
        page = context.pages[0]
        await page.goto("/accounts")
        await page.get_by_label("Platform").select_option("Threads")
        await page.get_by_label("State").select_option("Expired")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_role("link", name=account.name).first.click()
        await page.get_by_role("button", name="I’m on it").click()
        await expect(page.get_by_role("status")).to_contain_text("Noted: you are on it.")
        await page.get_by_text("Later…").click()
        await page.get_by_role("button", name="Mute", exact=True).click()
        await expect(page.get_by_role("status")).to_contain_text("Muted")
        await page.get_by_role("link", name="Routes").click()
        await page.get_by_label("An account", exact=True).fill(account.name)
        await page.get_by_role("button", name="Try").click()
        await expect(page.get_by_role("row", name="Ada Lovelace").first).to_contain_text("at once")


async def everywhere(house: House) -> list[str]:
    [notice, *_] = await house.scene.store.read(notices.of_account, await house.id_of(house.broken))
    each = [await house.path(one) for one in (house.broken, house.hostile)]
    return [
        "/", "/accounts", "/incidents?show=all", "/notices", "/contacts", "/routes?account=acme/1001", "/workspaces",
        "/audit", "/access", "/accounts?q=nobody", *each, f"/notices/{notice.id}", "/accounts/999999999",
    ]  # fmt: skip


async def test_everybody_can_read_every_page_on_every_screen(house: House, browser: Browser) -> None:
    async with desk(house, browser, bypass_csp=True, reduced_motion="reduce") as context:
        page = context.pages[0]
        for path in (await everywhere(house))[:-1]:
            await page.emulate_media(color_scheme="light")
            await page.set_viewport_size(DESKTOP["viewport"])
            await page.goto(path)
            await page.evaluate(_axe())
            assert await page.evaluate(FIND, {}) == [], f"{path}, light"
            await page.emulate_media(color_scheme="dark")
            assert await page.evaluate(FIND, CONTRAST_ONLY) == [], f"{path}, dark"
            await page.set_viewport_size(SMALL)
            assert await page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"], path
            assert await page.locator("h1").count() == 1, path


async def test_the_colours_are_chosen_once_and_kept(house: House, browser: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    async with desk(house, browser, color_scheme="light") as context:
        page = context.pages[0]
        light = await page.evaluate(paper)
        await page.get_by_role("button", name="Dark").click()
        dark = await page.evaluate(paper)
        assert dark != light
        await page.goto("/accounts")
        assert await page.evaluate(paper) == dark
        await page.get_by_role("button", name="Light").click()
        assert await page.evaluate(paper) == light


async def test_zz_a_storm_is_released_and_people_are_told(house: House, browser: Browser) -> None:
    since = house.scene.inbox.newest
    async with desk(house, browser, "operator") as context:
        page = context.pages[0]
        alert = page.get_by_role("listitem").filter(has_text="Storm on Reddit")
        await alert.get_by_role("button", name="Release").click()
        await expect(page.get_by_role("status")).to_contain_text("what was held is on its way")
        await expect(alert).to_have_count(0)
    await house.scene.mail("Reddit", since=since)
