"""What a daemon that has done things shows to Prometheus."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from healthd.core.model import PLATFORMS, NoticeStatus, State, platform_label
from healthd.store.schema import accounts, incidents, notices
from tests.daemon.rig import HOST, Rig, rig
from tests.metrics.exposed import samples, series

HOSTILE = ('"} 1\nevil_metric 1', "CANARY\\", "\u202eCANARY", '{CANARY="x"}', "=CANARY()", "CANARY\U0001f525")


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Rig]:
    """A daemon that has seen repairs, removals, pauses, hostile names, failing mail and a failing API."""
    sections = {
        "channels.gone": f'type = "email"\nhost = "{HOST}"\nport = 9\nsecurity = "none"\nsender = "a@acme.example"',
        "notices": 'default = ["mail:ada@acme.example", "gone:eve@acme.example"]\n'
        'group_wait = "0s"\ngroup_interval = "0s"\ndigest_above = 1000',
        "sweep": 'bulk_interval = "0.3s"\ninventory_interval = "0.5s"\nrequest_timeout = "2s"',
    }
    async with rig(tmp_path, options={"accounts": 32, "workspaces": ("one", "two")}, **sections) as scene:
        world = scene.sandbox.world
        for number, name in enumerate(HOSTILE):
            world.add_account("one", ("facebook", f"weird{number}", name)[number % 3], name, name)
        await scene.start()
        repaired, removed, broken, paused = (scene.account(PLATFORMS[number]) for number in range(4))
        paused.is_active = False
        scene.expire(repaired)
        link = (await scene.mail(repaired.name)).link or ""
        await scene.person.reconnect(link)
        await scene.mail("connected again")
        scene.expire(removed)
        await scene.mail(removed.name)
        world.remove_account(removed)
        for account in (broken, *world.accounts_of("one", None)):
            if account is broken or account.name in HOSTILE:
                scene.expire(account)
        await scene.until_state(removed, State.REMOVED)
        await scene.until_state(broken, State.EXPIRED)
        await scene.http.post(f"{scene.public}/webhooks/one", content=b"{}")
        await scene.http.get(f"{scene.public}/r/nothing")
        scene.sandbox.faults.add(kind="garbage", workspace="two")

        async def in_trouble() -> bool:
            return await scene.metric("healthd_api_trouble", workspace="two", kind="bad_answer") == 1

        await scene.until(in_trouble, "the trouble")
        yield scene


async def scrape(scene: Rig) -> str:
    return (await scene.http.get(f"{scene.admin}/metrics")).text


def promtool(text: str) -> tuple[int, str, str]:
    told = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return told.returncode, told.stdout, told.stderr


def _table(connection: Connection) -> tuple[Counter[tuple[str, str, str]], Counter[tuple[str, str]], int, int]:
    """What the gauges stand for, counted row by row."""
    by_state: Counter[tuple[str, str, str]] = Counter()
    paused: Counter[tuple[str, str]] = Counter()
    for row in connection.execute(select(accounts)):
        by_state[row.workspace, platform_label(row.platform), row.state] += 1
        paused[row.workspace, platform_label(row.platform)] += row.paused
    still_open = select(func.count()).select_from(incidents).where(incidents.c.resolved_at.is_(None))
    waiting = (
        select(func.count())
        .select_from(notices)
        .where(notices.c.status.in_((NoticeStatus.PENDING, NoticeStatus.SENDING)))
    )
    return by_state, paused, connection.execute(still_open).scalar_one(), connection.execute(waiting).scalar_one()


async def test_what_a_busy_daemon_shows_is_clean_bounded_and_true(busy: Rig) -> None:
    async def gauges_are_true() -> bool:
        """The daemon goes on meanwhile: both readings must be of one moment."""
        before = await busy.store.read(_table)
        text = await scrape(busy)
        after = await busy.store.read(_table)
        return before == after and _shown(text) == before

    await busy.until(gauges_are_true, "gauges equal to the table")
    text = await scrape(busy)
    assert await asyncio.to_thread(promtool, text) == (0, "", "")
    assert [hostile for hostile in ("CANARY", "evil", "weird", "acme.example", "sqk_") if hostile in text] == []
    assert {one.labels["platform"] for one in samples(text) if "platform" in one.labels} <= {*PLATFORMS, "other"}
    happened = {one.name for one in samples(text) if one.value}
    assert happened >= {
        "healthd_accounts_paused",
        "healthd_api_allowance_used",
        "healthd_api_requests_total",
        "healthd_incidents_open",
        "healthd_incidents_opened_total",
        "healthd_incidents_resolved_total",
        "healthd_link_mints_total",
        "healthd_link_pages_total",
        "healthd_link_refused_total",
        "healthd_notices_total",
        "healthd_outbox_notices",
        "healthd_sweep_last_success_timestamp_seconds",
        "healthd_time_to_detect_seconds_count",
        "healthd_time_to_notify_seconds_count",
        "healthd_time_to_repair_seconds_count",
        "healthd_webhook_ack_seconds_count",
        "healthd_webhook_events_total",
        "process_resident_memory_bytes",
    }


def _shown(text: str) -> tuple[Counter[tuple[str, str, str]], Counter[tuple[str, str]], int, int]:
    by_state: Counter[tuple[str, str, str]] = Counter()
    paused: Counter[tuple[str, str]] = Counter()
    is_open = waiting = 0
    for one in samples(text):
        labels = one.labels
        if one.name == "healthd_accounts":
            by_state[labels["workspace"], labels["platform"], labels["state"]] += int(one.value)
        elif one.name == "healthd_accounts_paused":
            paused[labels["workspace"], labels["platform"]] += int(one.value)
        elif one.name == "healthd_incidents_open":
            is_open += int(one.value)
        elif one.name == "healthd_outbox_notices":
            waiting += int(one.value)
    return by_state, paused, is_open, waiting


async def test_a_thousand_platforms_are_one_series_each_of_other(tmp_path: Path) -> None:
    async with rig(tmp_path, options={"accounts": 16, "rate_limit": 1_000_000}) as scene:
        await scene.start()

        async def known(total: int) -> bool:
            return await scene.metric("healthd_accounts") == total

        await scene.until(lambda: known(16), "the first accounts")
        strange = [scene.sandbox.world.add_account("sandbox", f"weird-{number}") for number in range(1000)]
        strange += [scene.sandbox.world.add_account("sandbox", f'"}} {number}\n\u202e') for number in range(100)]
        for account in strange[::10]:
            scene.sandbox.world.break_token(account)
        assert scene.daemon is not None
        workspace = scene.daemon.workspaces["sandbox"]
        await scene.daemon.sweep.inventory(workspace)
        await scene.daemon.sweep.bulk(workspace)
        await scene.until(lambda: known(1116), "all accounts")
        scene.travel(timedelta(minutes=1))
        await scene.daemon.sweep.bulk(workspace)

        async def opened() -> bool:
            return await scene.metric("healthd_incidents_opened_total", platform="other") == 110

        await scene.until(opened, "the incidents")
        text = await scrape(scene)
    platforms = {one.labels["platform"] for one in samples(text) if "platform" in one.labels}
    assert platforms == {*PLATFORMS, "other"}
    assert _number(text, "healthd_accounts") == len(State) * (len(PLATFORMS) + 1)
    assert len(series(text)) < 1000


def _number(text: str, name: str) -> int:
    return sum(one.name == name for one in samples(text))
