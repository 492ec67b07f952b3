"""How far a repair has come is counted once, whoever looks and however often."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.web.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def come_to(site: Site, step: str) -> float:
    return await site.scene.metric("healthd_repair_steps_total", step=step)


async def test_a_page_counts_as_opened_once_and_a_link_as_given_once(site: Site) -> None:
    broken = await site.broken()
    opened, minted = await come_to(site, "opened"), await come_to(site, "minted")
    async with site.visitor() as robot:
        await robot.head(broken.link)
    assert await come_to(site, "opened") == opened
    for _ in range(2):
        async with site.visitor() as http:
            await http.get(broken.link)
            assert await come_to(site, "opened") == opened + 1
            assert (await site.press(http, broken)).status_code == 303
    assert site.minted(broken) == 2
    assert await come_to(site, "minted") == minted + 1


async def test_a_page_that_cannot_be_noted_is_shown_all_the_same(site: Site) -> None:
    broken = await site.broken()
    path = site.scene.folder / "healthd.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        page = await site.see(broken)
        other.rollback()
    assert page.status == 200
    assert page.has_form
