"""The dashboards are what their source says, and each of their panels shows something of a daemon that lives."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon.conftest import settled
from tests.daemon.rig import Rig, rig
from tests.deploy.grafana import BOARDS, FOLDER, Asked, board, panels, queries
from tests.deploy.prometheus_server import Server, prometheus
from tests.deploy.promtool import load

ROUNDS = 2
EVERYTHING = [asked for path in BOARDS for asked in queries(path)]


def test_the_files_are_what_the_source_says() -> None:
    told = subprocess.run(
        [sys.executable, FOLDER / "dashboards.py", "--check"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_pointed_at_any_prometheus_workspace_and_platform(path: Path) -> None:
    found = board(path)
    assert [one["name"] for one in found["templating"]["list"]] == ["datasource", "workspace", "platform"]
    assert {str(panel["datasource"]["uid"]) for panel in panels(path)} == {"${datasource}"}
    assert "account" not in re.findall(r"\{\{(\w+)\}\}", str(found))


def test_dashboards_and_panels_do_not_meet() -> None:
    uids = [board(path)["uid"] for path in BOARDS]
    assert len(set(uids)) == len(uids)
    for path in BOARDS:
        ids = [panel["id"] for panel in board(path)["panels"]]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_says_what_to_do_and_has_a_place_of_its_own(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(path):
        assert len(panel["description"].split()) >= 3, panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells


def test_grafana_finds_them_at_its_first_start() -> None:
    [source] = load(FOLDER / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert source["type"] == "prometheus"
    [provider] = load(FOLDER / "provisioning" / "dashboards" / "healthd.yml")["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    assert provider["options"]["path"].startswith("/")


async def live_through(scene: Rig, seen: Server) -> None:
    """Accounts break, their people are told, look, press, repair; Prometheus looks in between."""
    for number in range(ROUNDS):
        account = scene.account("facebook", number)
        begun = len(scene.inbox.messages)
        scene.expire(account)
        link = (await scene.mail(account.name, since=begun)).link or ""
        await scene.person.reconnect(link)
        await scene.mail("connected again", since=begun)

        async def noticed(count: int = number + 1) -> bool:
            repaired = 'sum(healthd_incidents_resolved_total{how="repaired"})'
            return await seen.value(repaired) == count and await seen.value("sum(healthd_notices_total)") >= 2 * count

        await scene.until(noticed, "a scrape of the repair")


async def test_every_panel_shows_something_of_a_daemon_that_lives(tmp_path: Path) -> None:
    sweep = 'bulk_interval = "1s"\ninventory_interval = "1s"\nrequest_timeout = "2s"'
    async with rig(tmp_path, sweep=sweep) as scene, prometheus(tmp_path, scene.admin, scene.http) as seen:
        await scene.start()
        await settled(scene)

        async def watching() -> bool:
            return await seen.value('count(healthd_repair_steps_total{platform="facebook"})') > 0

        await scene.until(watching, "the first scrape")
        await live_through(scene, seen)
        shown = {asked: await seen.values(asked) for asked in EVERYTHING}
        rules = await seen.get("rules")
    empty = [asked for asked, values in shown.items() if not values or any(map(math.isnan, values))]
    assert empty == []
    assert _funnel(shown) == {"detected": ROUNDS, "told": ROUNDS, "opened": ROUNDS, "minted": ROUNDS}
    ill = [rule["name"] for group in rules["groups"] for rule in group["rules"] if rule["health"] != "ok"]
    assert ill == []
    assert [rule["name"] for group in rules["groups"] for rule in group["rules"] if rule.get("state") == "firing"] == []


def _funnel(shown: dict[Asked, list[float]]) -> dict[str, float]:
    """What the funnel's bars say, by the step that each asks for."""
    found = {}
    for asked, values in shown.items():
        if asked.panel == "How far incidents came" and "resolved" not in asked.expr:
            step = re.search(r'step="(\w+)"', asked.expr)
            found[step[1] if step else "detected"] = values[0]
    return found
