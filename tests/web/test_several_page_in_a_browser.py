"""The page about several accounts in a real browser: it moves on by itself, and keeps what somebody said."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.web import happenings
from tests.web.browser import DESKTOP, PHONE, window
from tests.web.reconnect_several import several
from tests.web.site import Site
from tests.web.test_page_in_a_browser import CONTRAST, LONGEST, SCHEMES, approve, heading, until_told

pytestmark = pytest.mark.asyncio(loop_scope="session")


def first(page: Page) -> Any:
    """The row to repair next."""
    return page.locator(".row").first


async def test_on_a_desk_the_page_moves_from_one_to_the_next_by_itself(site: Site, browser: Browser) -> None:
    some = await several(site, ("facebook", "linkedin", "reddit"))
    async with window(browser, site.new_address(), **DESKTOP) as desk:
        page = await desk.open(some.link)
        await heading(page, "3 accounts need to be reconnected")
        await expect(first(page)).to_contain_text("in a new tab")
        for place, platform in enumerate(("Facebook", "LinkedIn", "Reddit"), 1):
            button = page.get_by_role("button", name=f"Reconnect on {platform} ({place} of 3)")
            await expect(button).to_be_visible(timeout=15_000)
            async with desk.context.expect_page() as opened:
                await button.click()
            await expect(first(page)).to_contain_text(f"Waiting for {platform}", timeout=15_000)
            await approve(await opened.value)
            await (await opened.value).close()
        await heading(page, "All 3 accounts are connected again")
        assert await page.locator(".row .badge").all_inner_texts() == ["Connected again"] * 3
        assert await page.get_by_role("button").count() == 0


async def test_on_a_phone_back_leads_to_the_next_one(site: Site, browser: Browser) -> None:
    some = await several(site, (None, None))
    async with window(browser, site.new_address(), **PHONE) as phone:
        page = await phone.open(some.link)
        await page.get_by_role("button", name="(1 of 2)").tap()
        await page.wait_for_url("**/connect/**")
        await approve(page)
        await page.evaluate("history.go(-2)")
        await page.wait_for_url(some.link)
        await heading(page, "1 account still needs to be reconnected")
        await expect(page.get_by_role("button", name="(2 of 2)")).to_be_visible()
        assert len(phone.context.pages) == 1


async def test_without_javascript_the_list_asks_again_by_itself(site: Site, browser: Browser) -> None:
    some = await several(site, (None, None))
    async with window(browser, site.new_address(), java_script_enabled=False) as plain:
        page = await plain.open(some.link)
        await page.get_by_role("button", name="Reconnect", exact=False).nth(1).click()
        await page.wait_for_url("**/connect/**")
        watching = await plain.open(some.link)
        await expect(first(watching)).to_contain_text(some.accounts[1].account.name)
        await expect(first(watching)).to_contain_text("Waiting for")
        await approve(page)
        await heading(watching, "1 account still needs to be reconnected")
        await watching.get_by_text("I’m on it, or remind me later").click()
        await watching.get_by_role("button", name="Remind me in 3 days").click()
        await expect(watching.locator("main")).to_contain_text("Noted. No reminders until")


async def test_what_somebody_says_is_shown_until_it_is_taken_back(site: Site, browser: Browser) -> None:
    some = await several(site, (None, None))
    async with window(browser, site.new_address(), **PHONE) as phone:
        page = await phone.open(some.link)
        await expect(page.get_by_role("button", name="I’m on it")).to_be_hidden()
        await page.get_by_text("I’m on it, or remind me later").tap()
        await page.get_by_role("button", name="I’m on it").tap()
        await expect(page.locator(".noted")).to_contain_text("Somebody is on it")
        await page.reload()
        await page.get_by_role("button", name="Take it back").tap()
        await expect(page.locator(".noted")).to_have_count(0)
        assert len(phone.context.pages) == 1
    assert [one.acknowledged_until for one in await some.incidents()] == [None, None]


async def test_with_the_keyboard_alone(site: Site, browser: Browser) -> None:
    some = await several(site, (None, None))
    async with window(browser, site.new_address(), **DESKTOP) as desk:
        page = await desk.open(some.link)
        for _ in range(3):
            await page.keyboard.press("Tab")
        await expect(page.locator("summary")).to_be_focused()
        outline = await page.locator("summary").evaluate("element => getComputedStyle(element).outlineWidth")
        assert float(outline.removesuffix("px")) >= 2
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="I’m on it")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator(".noted")).to_be_visible()


async def test_a_scanner_that_presses_every_button_it_sees_silences_nobody(site: Site, browser: Browser) -> None:
    some = await several(site, (None, None, None))
    async with window(browser, site.new_address(), user_agent="Mozilla/5.0 HeadlessChrome", **DESKTOP) as scanner:
        await scanner.context.clock.install()
        page = await scanner.open(some.link)
        buttons = await page.get_by_role("button").all()
        assert len(buttons) == 3
        for button in buttons:
            async with scanner.context.expect_page() as opened:
                await button.click()
            await (await opened.value).wait_for_load_state()
    assert [site.minted(broken) for broken in some.accounts] == [1, 1, 1]
    assert [one.acknowledged_until or one.snoozed_until for one in await some.incidents()] == [None] * 3
    async with window(browser, site.new_address(), **PHONE) as phone:
        page = await phone.open(some.link)
        await heading(page, "3 accounts need to be reconnected")


async def test_the_row_of_another_account_chosen_says_which_to_choose(site: Site, browser: Browser) -> None:
    some = await several(site, ("pinterest", "tumblr"))
    async with window(browser, site.new_address(), **DESKTOP) as desk:
        await desk.context.clock.install()
        page = await desk.open(some.link)
        async with desk.context.expect_page() as opened:
            await page.get_by_role("button", name="Reconnect on Pinterest").click()
        await approve(await opened.value, "Choose another account")

        async def told() -> bool:
            await page.clock.run_for(2_000)
            return "Still disconnected" in await first(page).inner_text()

        await site.scene.until(told, "the other account")
        await expect(first(page)).to_contain_text(f"Please choose {some.accounts[0].account.name} this time.")
        await happenings.repair(site, some.accounts[0])
        await until_told(site, page, "1 account still needs")


@pytest.mark.parametrize("look", ["open", "noted", "repaired", "paused"])
async def test_the_page_can_be_read_by_everybody_and_used_with_a_thumb(site: Site, browser: Browser, look: str) -> None:
    some = await several(site, (None, None, None))
    if look == "repaired":
        await happenings.repair(site, some.accounts[2])
    for broken in some.accounts:
        await site.rename(broken, LONGEST, LONGEST.lower())
    async with window(browser, site.new_address(), quiet=False, **PHONE) as phone:
        page = await phone.open(some.link)
        if look == "paused":
            site.scene.sandbox.faults.add(path="reconnect-url", kind="status", status=409)
            await page.get_by_role("button", name="(1 of 3)").tap()
            await expect(page.locator(".card")).to_have_attribute("data-page", "paused")
        else:
            await page.locator("summary").tap()
        if look == "noted":
            await page.get_by_role("button", name="I’m on it").tap()
            await expect(page.locator(".noted")).to_be_visible()
        for width in (320, 375, 1280):
            await page.set_viewport_size({"width": width, "height": 844})
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{width} px"
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            weak = [(ratio, words) for ratio, words in await page.evaluate(CONTRAST) if ratio < 4.5]
            assert weak == [], scheme
        assert await page.locator("h1").count() == 1
        assert await page.evaluate("window.violations") == []
        for target in await page.locator("button:visible, summary, a").all():
            box = await target.bounding_box()
            assert box is not None
            assert box["height"] >= 44
            assert box["width"] >= 44
