"""``healthd sandbox`` as a process of its own."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from typer.testing import CliRunner

from healthd.cli import app
from healthd.sandbox.app import Sandbox, SandboxOptions
from tests.sandbox.listener import PATIENCE, Listener


@asynccontextmanager
async def running(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """The process, and what it said by the time it had named its last webhook or key."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "healthd", "sandbox", "--port", "0", *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        said: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while not said or not said[-1].startswith("webhook   http://127.0.0.1") or "second" not in said[-1]:
                line = (await process.stdout.readline()).decode()
                assert line, said
                said.append(line.rstrip())
        yield process, said
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), PATIENCE)


async def test_it_prints_what_one_needs_serves_and_ends_when_interrupted(listener: Listener) -> None:
    hook = listener.url.removesuffix("hook") + "{workspace}"
    options = ["--accounts", "3", "--workspace", "first", "--workspace", "second", "--webhook", hook]
    async with running(*options, "--rate-limit", "77") as (process, said):
        address = said[0].split()[1]
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9][0-9]*", address)
        assert said[1].split() == ["API", f"{address}/v1"]
        assert [line.split()[1] for line in said if line.startswith("key")] == ["sqk_test_first", "sqk_test_second"]
        secrets = [line.split()[-1] for line in said if line.startswith("webhook")]
        async with httpx2.AsyncClient(trust_env=False, headers={"authorization": "Bearer sqk_test_second"}) as http:
            listed = await http.get(f"{address}/v1/social/accounts")
            number = listed.json()["data"][0]["id"]
            link = await http.get(f"{address}/v1/social/accounts/{number}/reconnect-url")
            await http.post(f"{address}/_sandbox/accounts/{number}/expire")
        assert len(listed.json()["data"]) == 3
        assert listed.headers["x-ratelimit-limit"] == "77"
        assert link.json()["data"]["reconnect_url"].startswith(f"{address}/connect/facebook?token=")
        async with asyncio.timeout(PATIENCE):
            while not listener.received:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert listener.received[0].is_signed_with(secrets[1])
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), PATIENCE) in {0, 130}


@pytest.mark.parametrize("option", [["--accounts", "-1"], ["--rate-limit", "0"], ["--time-scale", "0"]])
def test_an_option_that_makes_no_sense_is_refused(option: list[str]) -> None:
    refused = CliRunner().invoke(app, ["sandbox", *option])
    assert refused.exit_code == 2
    assert option[0] in refused.output


def test_accounts_are_spread_evenly_over_profiles() -> None:
    made = Sandbox(SandboxOptions(accounts=33, profiles=4))
    homes = Counter(account.profile for account in made.world.accounts.values())
    assert homes == {201: 9, 202: 8, 203: 8, 204: 8}
    assert not list(made.world.accounts_of("sandbox", None))
