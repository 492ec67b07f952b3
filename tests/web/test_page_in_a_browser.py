"""The reconnect page in a real browser, from the link in the mail to "connected again"."""

from __future__ import annotations

import ssl
from typing import Any, Literal

import pytest
import trustme
from playwright.async_api import Browser, Page, Request, expect

from tests.loopback import answer
from tests.providers.peer import peer_on_loopback
from tests.web.browser import DESKTOP, PHONE, window
from tests.web.happenings import lead_to
from tests.web.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


def heading(page: Page, words: str) -> Any:
    return expect(page.get_by_role("heading", level=1)).to_contain_text(words, timeout=15_000)


async def until_told(site: Site, page: Page, words: str) -> None:
    """Lets the page's own time pass, for a page whose clock is held, until it says so."""

    async def told() -> bool:
        await page.clock.run_for(2_000)
        return words in await page.get_by_role("heading", level=1).inner_text()

    await site.scene.until(told, words)


async def approve(page: Page, decision: str = "Approve") -> None:
    await page.get_by_role("button", name=decision, exact=True).click()
    await page.wait_for_load_state()


# The whole way


async def test_on_a_desk_the_provider_opens_beside_the_page_which_tells_by_itself(site: Site, browser: Browser) -> None:
    broken = await site.broken("linkedin")
    async with window(browser, site.new_address(), **DESKTOP) as desk:
        page = await desk.open(broken.link)
        await expect(page.get_by_text("in a new tab")).to_be_visible()
        async with desk.context.expect_page() as opened:
            await page.get_by_role("button").click()
        provider = await opened.value
        await heading(page, "Waiting for")
        await approve(provider)
        await heading(page, "is connected again")
        await expect(page).to_have_title(f"{broken.account.name} on LinkedIn is connected again")
        assert await page.get_by_role("button").count() == 0
        assert await provider.evaluate("window.opener") is None


async def test_on_a_phone_everything_stays_in_one_tab_and_back_leads_to_the_news(site: Site, browser: Browser) -> None:
    broken = await site.broken("reddit")
    async with window(browser, site.new_address(), **PHONE) as phone:
        page = await phone.open(broken.link)
        await page.get_by_role("button").tap()
        await page.wait_for_url("**/connect/**")
        await approve(page)
        assert len(phone.context.pages) == 1
        await page.evaluate("history.go(-2)")
        await page.wait_for_url(broken.link)
        await heading(page, "is connected again")


async def test_without_javascript_the_page_asks_again_by_itself(site: Site, browser: Browser) -> None:
    broken = await site.broken("tumblr")
    async with window(browser, site.new_address(), java_script_enabled=False) as plain:
        page = await plain.open(broken.link)
        await page.get_by_role("button").click()
        await page.wait_for_url("**/connect/**")
        watching = await plain.open(broken.link)
        await heading(watching, "Waiting for")
        await approve(page)
        await heading(watching, "is connected again")


async def test_the_provider_may_lead_on_to_hosts_that_nobody_listed(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chromium holds every redirect after a form against the page's policy, and platforms redirect as they like."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    broken = await site.broken()
    async with peer_on_loopback(tls) as platform:
        platform.says(answer(200, b"<!doctype html><h1>Log in</h1>", {"content-type": "text/html"}))
        where = {"location": platform.url}
        site.scene.sandbox.faults.add(kind="redirect", path="/v1/onward", headers=where)
        onward = f"http://127.0.0.1:{site.scene.ports['sandbox']}/v1/onward"
        monkeypatch.setattr(site.scene.sandbox.api, "page", lambda *_: onward)
        async with window(browser, site.new_address(), ignore_https_errors=True, **PHONE) as phone:
            page = await phone.open(broken.link)
            await page.get_by_role("button").tap()
            await heading(page, "Log in")
            assert page.url == platform.url


async def test_who_chose_another_account_is_told_so_by_name(site: Site, browser: Browser) -> None:
    broken = await site.broken("pinterest")
    async with window(browser, site.new_address(), **DESKTOP) as desk:
        await desk.context.clock.install()
        page = await desk.open(broken.link)
        async with desk.context.expect_page() as opened:
            await page.get_by_role("button").click()
        await approve(await opened.value, "Choose another account")
        await until_told(site, page, "is still not connected")
        await expect(page.locator("main")).to_contain_text(f"another account than {broken.account.name}")
        async with desk.context.expect_page() as opened:
            await page.get_by_role("button", name="Try again on Pinterest").click()
        await approve(await opened.value)
        await until_told(site, page, "is connected again")


async def test_a_scanner_that_waits_and_clicks_everything_leaves_the_link_as_it_was(
    site: Site, browser: Browser
) -> None:
    broken = await site.broken("discord")
    async with window(browser, site.new_address(), user_agent="Mozilla/5.0 HeadlessChrome", **DESKTOP) as scanner:
        await scanner.context.clock.install()
        page = await scanner.open(broken.link)
        await page.wait_for_load_state("networkidle")
        assert site.minted(broken) == 0
        for button in await page.get_by_role("button").all():
            async with scanner.context.expect_page() as opened:
                await button.click()
            await (await opened.value).wait_for_load_state()
        await until_told(site, page, "Waiting for")
    assert site.minted(broken) == 1
    async with window(browser, site.new_address(), **PHONE) as phone:
        page = await phone.open(broken.link)
        await heading(page, "needs to be reconnected")
        await page.get_by_role("button").tap()
        await page.wait_for_url("**/connect/**")
        await approve(page)
        await page.goto(broken.link)
        await heading(page, "is connected again")


async def test_with_the_keyboard_alone(site: Site, browser: Browser) -> None:
    broken = await site.broken("snapchat")
    async with window(browser, site.new_address(), **DESKTOP) as desk:
        await desk.context.clock.install()
        page = await desk.open(broken.link)
        await page.keyboard.press("Tab")
        button = page.get_by_role("button", name="Reconnect on Snapchat")
        await expect(button).to_be_focused()
        outline = await button.evaluate("element => getComputedStyle(element).outlineWidth")
        assert float(outline.removesuffix("px")) >= 2
        async with desk.context.expect_page() as opened:
            await page.keyboard.press("Enter")
        provider = await opened.value
        await until_told(site, page, "Waiting for")
        # What had the focus is gone, so it goes to the heading, which is read out.
        await expect(page.get_by_role("heading", level=1)).to_be_focused()
        await provider.bring_to_front()
        await provider.get_by_role("button", name="Approve", exact=True).focus()
        await provider.keyboard.press("Enter")
        await until_told(site, page, "is connected again")


# An open page


async def test_an_open_page_survives_being_offline(site: Site, browser: Browser) -> None:
    broken = await site.broken()
    async with window(browser, site.new_address(), quiet=False, **PHONE) as phone:
        page = await phone.open(broken.link)
        await phone.context.set_offline(True)
        async with page.expect_event("requestfailed"):
            pass
        site.scene.repair(broken.account)
        await site.until_resolved(broken)
        await heading(page, "needs to be reconnected")
        await phone.context.set_offline(False)
        await heading(page, "is connected again")


async def test_a_hidden_page_is_silent_and_looks_at_once_when_it_is_seen_again(site: Site, browser: Browser) -> None:
    broken = await site.broken()
    asked: list[str] = []

    async def set_hidden(page: Page, hidden: str) -> None:
        await page.evaluate(
            f"Object.defineProperty(document, 'hidden', {{ get: () => {hidden}, configurable: true }});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )

    async with window(browser, site.new_address(), **DESKTOP) as desk:
        page = await desk.context.new_page()
        await page.clock.install()
        await page.goto(broken.link)
        page.on("request", lambda request: asked.append(request.url))
        await set_hidden(page, "true")
        await page.clock.run_for(10 * 60_000)
        assert asked == []
        site.scene.repair(broken.account)
        await site.until_resolved(broken)
        await page.clock.run_for(10 * 60_000)
        assert asked == []
        await set_hidden(page, "false")
        await heading(page, "is connected again")
        asked.clear()
        await page.clock.run_for(10 * 60_000)
        assert asked == []


async def test_a_page_that_nobody_closes_stops_asking(site: Site, browser: Browser) -> None:
    broken = await site.broken()
    asked: list[str] = []
    async with window(browser, site.new_address(), **DESKTOP) as desk:
        page = await desk.context.new_page()
        await page.clock.install()
        await page.goto(broken.link)
        page.on("request", lambda request: asked.append(request.url))
        async with page.expect_response("**/state"):
            await page.clock.run_for(2_000)
        assert asked == [f"{broken.link}/state"]
        await page.clock.fast_forward("16:00")
        await page.clock.run_for(5_000)
        await page.wait_for_load_state("networkidle")
        asked.clear()
        await page.clock.run_for(60_000)
        assert asked == []


async def test_a_page_that_asks_for_patience_counts_down_and_gives_the_button_back(
    site: Site, browser: Browser
) -> None:
    broken = await site.broken()
    await site.record_presses(broken, 5, minutes_ago=0.1)
    async with window(browser, site.new_address(), quiet=False, **PHONE) as phone:
        page = await phone.context.new_page()
        await page.clock.install()
        await page.goto(broken.link)
        await page.get_by_role("button").tap()
        button = page.get_by_role("button", name="Try again in")
        await expect(button).to_be_disabled()
        await page.clock.run_for(61_000)
        await expect(page.get_by_role("button", name="Try again", exact=True)).to_be_enabled()


async def test_loading_a_refusal_again_does_not_press_again(site: Site, browser: Browser) -> None:
    broken = await site.broken()
    site.scene.sandbox.faults.add(path="reconnect-url", kind="status", status=500)
    methods: list[str] = []

    def note(request: Request) -> None:
        if request.is_navigation_request():
            methods.append(request.method)

    async with window(browser, site.new_address(), quiet=False, **PHONE) as phone:
        page = await phone.open(broken.link)
        page.on("request", note)
        await page.get_by_role("button").tap()
        await heading(page, "cannot be opened just now")
        await page.reload()
        await heading(page, "needs to be reconnected")
    assert methods == ["POST", "GET"]


# How it looks


CONTRAST = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const light = ([r, g, b]) => {
    const part = (value) => ((value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color[3] > 0) return color;
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  for (const element of document.querySelectorAll("main *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LONGEST = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


LOOKS = ("broken", "waiting", "still_broken", "repaired", "over", "often", "unavailable", "by_hand")
"""A page of each kind and colour."""


@pytest.mark.parametrize("name", LOOKS)
async def test_each_page_can_be_read_by_everybody_and_used_with_a_thumb(
    site: Site, browser: Browser, name: str
) -> None:
    async with window(browser, site.new_address(), quiet=False, **PHONE) as phone:
        page = await phone.context.new_page()
        await lead_to(name, site, page, account=LONGEST, username=LONGEST.lower())
        for width in (320, 390, 1280):
            await page.set_viewport_size({"width": width, "height": 844})
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{width} px"
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            weak = [(ratio, words) for ratio, words in await page.evaluate(CONTRAST) if ratio < 4.5]
            assert weak == [], scheme
        assert await page.evaluate("document.documentElement.lang") == "en"
        assert await page.locator("h1").count() == 1
        assert await page.locator("main[aria-live=polite]").count() == 1
        assert await page.evaluate("window.violations") == []
        for button in await page.get_by_role("button").all():
            box = await button.bounding_box()
            assert box is not None
            assert box["height"] >= 44
            assert box["width"] >= 44
