"""A real Chromium, for what only a browser decides: policies, layout, focus, and scripts."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


def executable() -> str:
    given = os.environ.get("HEALTHD_CHROMIUM") or next(filter(None, map(shutil.which, COMMANDS)), None)
    if given is None:
        pytest.fail(
            "No Chromium found, and the page's tests need one: `apt-get install chromium`, "
            "or give the path of yours in HEALTHD_CHROMIUM."
        )
    return given


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Window:
    """A browser of its own, and all that its pages complained about."""

    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    async def open(self, url: str) -> Page:
        page = await self.context.new_page()
        await page.goto(url)
        return page


@asynccontextmanager
async def window(browser: Browser, address: str, *, quiet: bool = True, **options: Any) -> AsyncIterator[Window]:
    """``quiet``: at the end nothing must have been complained about."""
    context = await browser.new_context(extra_http_headers={"x-forwarded-for": address}, **options)
    made = Window(context)

    def opened(page: Page) -> None:
        def heard(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"} and "/r/" in page.url:
                made.complaints.append(message.text)

        page.on("console", heard)
        page.on("pageerror", lambda error: made.complaints.append(str(error)))

    context.on("page", opened)
    if options.get("java_script_enabled", True):
        await context.add_init_script(_WATCH)
    try:
        yield made
    finally:
        await context.close()
    if quiet and made.complaints:
        pytest.fail(f"the browser complained: {made.complaints}")
