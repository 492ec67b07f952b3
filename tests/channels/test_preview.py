"""The gallery of all messages, in a real browser: on a phone and on a desk, in light and in dark."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from healthd.channels.examples import examples
from healthd.channels.sentences import LANGUAGES
from healthd.channels.wording import Wording
from healthd.preview import build
from tests.channels.web_peer import Slack
from tests.web.browser import DESKTOP, PHONE

SLUGS = [example.slug for example in examples("en")]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("gallery") / "not" / "there" / "yet", Wording())


@asynccontextmanager
async def opened(browser: Browser, page: Path, **options: Any) -> AsyncIterator[Page]:
    """A page that has nothing to complain of, and asks nobody for anything."""
    complaints: list[str] = []
    async with await browser.new_context(**options) as context:
        tab = await context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on(
            "request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url)
        )
        await tab.goto(page.as_uri())
        yield tab
    assert complaints == []


def test_every_message_is_a_file_in_every_language_and_form(gallery: Path) -> None:
    assert gallery.name == "index.html"
    slack = Slack()
    for language in LANGUAGES:
        for slug in SLUGS:
            html, text, blocks, plain = (
                (gallery.parent / language / f"{slug}.{form}").read_text("utf-8")
                for form in ("mail.html", "mail.txt", "slack.json", "plain.txt")
            )
            assert f'lang="{language}"' in html
            assert slack._wrong(json.loads(blocks)) is None
            assert text.strip()
            assert plain.strip()
            assert "healthd.invalid" not in html + text + blocks + plain


def test_only_the_languages_that_were_asked_for_are_written(tmp_path: Path) -> None:
    index = build(tmp_path, Wording(), ["ja"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "ja", "ja.html"]
    assert '<html lang="ja"' in index.read_text("utf-8")


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_the_gallery_shows_every_message_asks_nobody_for_anything_and_fits_the_screen(
    browser: Browser, gallery: Path, device: dict[str, Any]
) -> None:
    async with opened(browser, gallery, **device) as page:
        assert await page.locator("article").count() == len(SLUGS)
        assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        mail = page.frame_locator("#opened iframe")
        await mail.get_by_role("link", name="Reconnect this account").wait_for()
        height = await page.locator("#opened iframe").evaluate("frame => frame.clientHeight")
        inner = await mail.locator("html").evaluate("page => page.scrollHeight")
        assert height >= inner, "a mail is shown whole"


@pytest.mark.asyncio(loop_scope="session")
async def test_another_language_is_one_choice_away_and_the_colours_stay(browser: Browser, gallery: Path) -> None:
    async with opened(browser, gallery, **DESKTOP) as page:
        await page.get_by_label("Colours").select_option("dark")
        await page.get_by_label("Language").select_option(label="Deutsch")
        await page.wait_for_url("**/de.html?scheme=dark")
        await page.frame_locator("#opened iframe").get_by_role("link", name="Konto neu verbinden").wait_for()
        assert await page.evaluate("document.documentElement.dataset.scheme") == "dark"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("language", ["de", "en", "ja"], ids=["the longest words", "English", "another script"])
async def test_no_mail_is_wider_than_the_narrowest_phone_and_every_text_stands_out(
    browser: Browser, gallery: Path, language: str
) -> None:
    narrow: dict[str, Any] = {"viewport": {"width": 320, "height": 640}}
    async with opened(browser, gallery.parent / language / "opened.mail.html", **narrow) as page:
        # Those of the platforms differ in a sentence of advice only.
        for slug in (slug for slug in SLUGS if not slug.startswith("platform-")):
            await page.goto((gallery.parent / language / f"{slug}.mail.html").as_uri())
            assert await page.evaluate("document.documentElement.scrollWidth") == 320, slug
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme)
                assert await page.evaluate(FAINT) == [], (slug, scheme)


@pytest.mark.asyncio(loop_scope="session")
async def test_what_is_faint_would_be_seen(browser: Browser, gallery: Path) -> None:
    async with opened(browser, gallery.parent / "en" / "opened.mail.html") as page:
        await page.add_style_tag(content="h1 { color: #999 !important }")
        assert await page.evaluate(FAINT) == ["“Acme Coffee” on Facebook needs to be re"]


FAINT = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([red, green, blue]) => [red, green, blue].map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility()
    && [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  return texts.filter((element) => {
    const pair = [light(numbers(getComputedStyle(element).color)), light(behind(element))].sort();
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05) < 4.5;
  }).map((element) => element.textContent.trim().slice(0, 40));
}"""
"""Texts whose contrast to what stands behind them is less than WCAG AA asks for."""
