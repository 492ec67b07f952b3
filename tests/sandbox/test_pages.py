"""The pages as a person meets them, in a real Chromium without JavaScript."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from healthd.sandbox.sender import EVENTS
from tests.loopback import answer
from tests.sandbox.listener import Listener, listening
from tests.sandbox.scene import Scene, served

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE, DESKTOP = 360, 1280
Scheme = Literal["light", "dark"]

# The lowest contrast of any text with what lies behind it, and the text; WCAG 2 asks for 4.5.
LOWEST_CONTRAST = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map(part => part / 255).map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [.2126, .7152, .0722][place], 0);
  let lowest = [99, ""];
  for (const one of document.querySelectorAll("main *")) {
    const text = [...one.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
    if (!text || !one.checkVisibility()) continue;
    let behind = one;
    while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const pair = [getComputedStyle(one).color, getComputedStyle(behind).backgroundColor].map(numbers).map(light);
    const contrast = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
    if (contrast < lowest[0]) lowest = [contrast, text];
  }
  return lowest;
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def chromium(browser: Browser) -> AsyncIterator[Browser]:
    yield browser
    for context in browser.contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def scene() -> AsyncIterator[Scene]:
    async with served() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def listener() -> AsyncIterator[Listener]:
    async with listening() as made:
        yield made


async def view(browser: Browser, width: int = DESKTOP, scheme: Scheme = "light") -> Page:
    context = await browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    return await context.new_page()


async def without_scripts(browser: Browser) -> Page:
    return await (await browser.new_context(java_script_enabled=False)).new_page()


async def test_the_pages_can_be_read_in_light_and_dark_on_a_phone_and_a_desk(
    chromium: Browser, listener: Listener
) -> None:
    async with served(accounts=20) as scene:
        scene.sandbox.sender.register("sandbox", listener.url, EVENTS)
        listener.says(answer(200), answer(500))
        await scene.do("/expire", count=3)
        await scene.do("/platforms/gmb/down")
        scene.account("threads").is_active = False
        scene.account("twitter").name = "Anextremelylongnamewithoutanyspaceinitthatsomebodyreallydidgivetoanaccount" * 2
        scene.sandbox.faults.add(kind="status", path="/a-rather-long-part-of-a-path/that-nobody-would-write")
        await scene.until(lambda: len(listener.received) >= 4)
        for width in (PHONE, DESKTOP):
            for scheme in ("light", "dark"):
                page = await view(chromium, width, scheme)
                for url in await _all_pages(scene):
                    await page.goto(url)
                    contrast, text = await page.evaluate(LOWEST_CONTRAST)
                    assert contrast >= 4.5, f"{text!r} has a contrast of {contrast:.2f} at {url} ({scheme})"
                    assert await page.evaluate("document.documentElement.scrollWidth") <= width, f"{url} is too wide"
                await page.context.close()


async def _all_pages(scene: Scene) -> list[str]:
    google = scene.account("youtube")
    scene.world.break_token(google)
    scene.world.break_token(scene.account("gmb"))
    profile = scene.world.add_profile("sandbox", "End customer", None)
    hosted = scene.world.mint("sandbox", "tiktok", profile=profile.id, choices=("tiktok", "threads"))
    reconnect = scene.world.mint("sandbox", "youtube", account=google.id)
    links = [scene.sandbox.api.page(link) for link in (hosted, reconnect)]
    return [f"{scene.url}/", f"{scene.url}/?problem=x", *links, *links]


async def test_every_button_of_the_index_page_says_what_it_does_and_to_whom(chromium: Browser, scene: Scene) -> None:
    page = await view(chromium)
    await page.goto(scene.url)
    accounts = page.get_by_role("region", name="Accounts")
    names = await accounts.get_by_role("button").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert None not in names
    assert len(names) == len(set(names)) == 7 * 16
    fields = page.locator("input:not([type=hidden]), select")
    assert await fields.evaluate_all("all => all.map(one => one.labels.length)") == [1] * 7


async def test_a_person_breaks_and_repairs_an_account_without_any_script(chromium: Browser, scene: Scene) -> None:
    account = scene.account("tiktok")
    page = await without_scripts(chromium)
    await page.goto(scene.url)
    await page.get_by_role("button", name=f"expire {account.name}, tiktok", exact=True).click()
    assert page.url == f"{scene.url}/"
    assert account.broken
    link = scene.world.mint("sandbox", "tiktok", account=account.id)
    await page.goto(scene.sandbox.api.page(link))
    await page.get_by_role("button", name="Approve").click()
    await page.get_by_role("heading", name="Connected").wait_for()
    assert not account.broken
    await page.goto(scene.sandbox.api.page(link))
    await page.get_by_role("heading", name="used already").wait_for()


async def test_faults_platforms_and_the_clock_work_from_the_index_page(chromium: Browser, scene: Scene) -> None:
    page = await without_scripts(chromium)
    await page.goto(scene.url)
    await page.get_by_label("Kind").select_option("status")
    await page.get_by_role("textbox", name="Status").fill("503")
    await page.get_by_label("How often").fill("2")
    await page.get_by_role("button", name="Let it fail").click()
    [fault] = scene.sandbox.faults.active.values()
    assert (fault.kind, fault.path, fault.status, fault.times) == ("status", "/v1", 503, 2)
    await page.get_by_role("button", name="End all faults").click()
    assert scene.sandbox.faults.active == {}
    await page.get_by_role("combobox", name="Platform").select_option("gmb")
    await page.get_by_role("button", name="Take it down").click()
    assert scene.world.down == {"gmb"}
    await page.get_by_role("button", name="let gmb come up").click()
    assert scene.world.down == set()
    before = scene.world.now()
    await page.get_by_role("button", name="Move the clock forward").click()
    assert (scene.world.now() - before).total_seconds() == 900
    await page.get_by_role("textbox", name="Status").fill("teapot")
    await page.get_by_role("button", name="Let it fail").click()
    assert "whole number" in await page.get_by_role("alert").inner_text()
