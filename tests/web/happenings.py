"""What may happen to a broken account before somebody opens its link, and the way to each page there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from playwright.async_api import Page

from healthd.core.model import Resolution
from healthd.store import accounts, incidents
from tests.web.site import Broken, Site


async def expire(site: Site, broken: Broken) -> None:
    await site.change_link(broken, expires_at=site.scene.now() - timedelta(seconds=1))


async def revoke(site: Site, broken: Broken) -> None:
    await site.change_link(broken, revoked_at=site.scene.now())


async def repair(site: Site, broken: Broken) -> None:
    site.scene.repair(broken.account)
    await site.until_resolved(broken)


async def break_again(site: Site, broken: Broken) -> None:
    await repair(site, broken)
    since = site.scene.inbox.newest
    site.scene.travel(timedelta(seconds=1))
    site.scene.expire(broken.account)
    await site.scene.mail("needs to be reconnected", since=since)


async def remove(site: Site, broken: Broken, *, with_its_links: bool = False) -> None:
    def remove(connection: Any) -> None:
        [incident] = incidents.of_account(connection, stored.id)
        now = site.scene.now()
        incidents.resolve(connection, incident.id, Resolution.REMOVED, now)
        if with_its_links:
            incidents.revoke_links(connection, incident.id, now)

    stored = (await site.scene.store.read(accounts.load, "sandbox", [str(broken.account.id)]))[str(broken.account.id)]
    await site.scene.store.run(remove)


async def revoke_and_repair(site: Site, broken: Broken) -> None:
    await repair(site, broken)
    await revoke(site, broken)


async def doubt(site: Site, broken: Broken) -> None:
    await site.doubt(broken)


async def nothing(_: Site, __: Broken) -> None:
    pass


SHOWN: dict[str, Callable[[Site, Broken], Awaitable[None]]] = {
    "broken": nothing,
    "unconfirmed": doubt,
    "repaired": repair,
    "again": break_again,
    "removed": remove,
    "over": expire,
}
PRESSED_AGO = {"waiting": 0.01, "still_broken": 3}
"""Pages for those who pressed so many minutes ago."""
ANSWERED = {
    "busy": (429, {"retry-after": "1"}),
    "unavailable": (500, {}),
    "operator": (403, {}),
    "missing": (404, {}),
    "paused": (409, {}),
    "by_hand": (422, {}),
}
"""Pages after a press to which the provider answers so."""


async def lead_to(name: str, site: Site, page: Page, *, account: str, username: str | None) -> None:
    """Opens a page in a phone's browser, about an account of this name."""
    broken = await site.broken(workspace="spare" if name == "busy" else "sandbox")
    if name in SHOWN:
        await SHOWN[name](site, broken)
    elif name in PRESSED_AGO:
        await site.record_presses(broken, 1, minutes_ago=PRESSED_AGO[name], outcome="minted")
        await page.context.add_cookies([{"name": "pressed", "value": "1", "url": broken.link}])
    elif name == "often":
        await site.record_presses(broken, 5, minutes_ago=0.1)
    elif name in ANSWERED:
        status, headers = ANSWERED[name]
        site.scene.sandbox.faults.add(kind="status", path="reconnect-url", status=status, headers=headers, times=1)
    await site.rename(broken, account, username)
    await page.goto(broken.link if name != "invalid" else f"{broken.link}x")
    if name == "stale":
        await page.evaluate("document.querySelector('input').remove()")
    if name in {"often", "stale"} | set(ANSWERED):
        async with page.expect_navigation():
            await page.get_by_role("button").tap()
    shown = await page.locator(".card").get_attribute("data-page")
    assert shown == name
