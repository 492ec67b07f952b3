"""docs/sandbox.md tells the truth: its examples run, and its tables are complete."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from healthd.sandbox.control import Control
from healthd.sandbox.faults import KINDS
from tests.sandbox.scene import served

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text("utf-8")
BLOCKS = [block for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if "curl" in block]
ADDRESS = "http://127.0.0.1:8090"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: " ".join(block.split()[:6]))
async def test_the_examples_of_the_page_work_as_they_stand(block: str) -> None:
    commands = [line for line in block.splitlines() if line.startswith("curl")]
    assert all(ADDRESS in command for command in commands)
    async with served(accounts=32) as scene:
        for command in commands:
            shown = command.replace(ADDRESS, scene.url).replace(
                "curl ", "curl --silent --show-error --fail-with-body ", 1
            )
            process = await asyncio.create_subprocess_exec(
                "bash", "-c", shown, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            said, _ = await process.communicate()
            assert process.returncode == 0, f"{command}\n{said.decode('utf-8', 'replace')}"


def test_the_page_has_examples() -> None:
    assert len(BLOCKS) >= 7


async def test_every_control_endpoint_stands_in_the_table() -> None:
    async with served(accounts=0) as scene:
        offered = {
            (method, re.sub(r"{\w+(:int)?}", "*", route.path.removeprefix("/_sandbox")))
            for route in Control(scene.sandbox.api).routes()
            for method in (route.methods or set()) - {"HEAD"}
        }
    table = PAGE.partition("## Control endpoints")[2].partition("## Faults")[0]
    named = re.findall(r"`(GET|POST|PATCH|DELETE) (/[^`? ]*)", table)
    told = {(method, re.sub(r"[A-Z]{2,}", "*", path)) for method, path in named}
    for_the_index_page = {("POST", "/faults/clear"), ("POST", "/platforms")}
    assert _acts_as_one(offered) - for_the_index_page == _acts_as_one(told)


def _acts_as_one(endpoints: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """``POST /accounts/ID/expire`` and its like are one endpoint each, or share one."""
    acts = re.compile(r"^(/(?:accounts|profiles|platforms)/\*)/\w+$")
    return {(method, acts.sub(r"\1/*", path)) for method, path in endpoints}


def test_every_kind_of_fault_stands_in_the_table() -> None:
    table = PAGE.partition("## Faults")[2].partition("## Webhooks")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(KINDS)
