"""Trouble with an API is the operator's: told once, with what to do, and told again when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.demo.catchers import Caught
from tests.daemon.conftest import settled
from tests.daemon.rig import Rig, rig

OPERATOR = "ops@acme.example"


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Rig]:
    """A daemon that sweeps several times a second and knows its operator."""
    sweep = 'bulk_interval = "0.3s"\ninventory_interval = "0.5s"\nrequest_timeout = "0.5s"'
    told = f'default = ["mail:ada@acme.example"]\noperator = ["mail:{OPERATOR}"]\ngroup_wait = "0s"'
    async with rig(tmp_path, sweep=sweep, notices=told) as made:
        await made.start()
        await settled(made)
        resting = asyncio.create_task(never_rest(made))
        yield made
        resting.cancel()


async def never_rest(scene: Rig) -> None:
    """The breaker's pauses take no time; each failure would begin another, longer one."""
    while True:
        scene.have_rested()
        await asyncio.sleep(0.05)


async def told(scene: Rig, words: str, *, since: int = 0) -> Caught:
    mail = await scene.mail(words, since=since)
    assert mail.to == OPERATOR
    return mail


async def sweeps(scene: Rig, times: int = 3) -> None:
    """So many more rounds."""
    await scene.until_swept(times)


def status_of(scene: Rig) -> str:
    return scene.admin + "/status"


AT_ONCE = {
    "a revoked key": ("unauthorized", "/v1", "API key is refused", "Put a valid API key"),
    "a missing scope": ("forbidden", "/accounts/health", "may not do what healthd needs", "the scope named"),
    "an empty balance": ("payment_required", "/v1", "balance is used up", "Top up"),
}
STATUS = {"unauthorized": 401, "forbidden": 403, "payment_required": 402}


@pytest.mark.parametrize("name", AT_ONCE)
async def test_what_does_not_pass_by_itself_is_told_once_and_so_is_its_end(watched: Rig, name: str) -> None:
    kind, path, headline, remedy = AT_ONCE[name]
    watched.sandbox.faults.add(kind="status", status=STATUS[kind], path=path)
    mail = await told(watched, headline)
    assert remedy in mail.text
    await sweeps(watched)
    assert await watched.metric("healthd_api_trouble", kind=kind) == 1
    page = (await watched.http.get(status_of(watched))).text
    assert "TROUBLE" in page
    assert kind in page
    assert len(watched.mails()) == 1
    watched.sandbox.faults.active.clear()
    over = await told(watched, "again", since=mail.number)
    assert over.thread == mail.identity
    assert await watched.metric("healthd_api_trouble", kind=kind) == 0
    assert "TROUBLE" not in (await watched.http.get(status_of(watched))).text
    await sweeps(watched)
    assert len(watched.mails()) == 2


LASTING = {
    "an api that does not answer": ("unavailable", 503, "does not answer"),
    "an exhausted allowance": ("rate_limited", 429, "as too many"),
}


@pytest.mark.parametrize("name", LASTING)
async def test_what_may_pass_by_itself_is_told_only_when_it_lasts(watched: Rig, name: str) -> None:
    kind, status, headline = LASTING[name]
    watched.sandbox.faults.add(kind="status", status=status, path="/v1/social")

    async def noticed() -> bool:
        return await watched.metric("healthd_api_trouble", kind=kind) == 1

    await watched.until(noticed, "the trouble")
    assert watched.mails() == []
    watched.travel(timedelta(minutes=10, seconds=1))
    await told(watched, headline)


async def test_what_passed_by_itself_in_time_is_not_told_at_all(watched: Rig) -> None:
    watched.sandbox.faults.add(kind="status", status=503, path="/v1/social")

    async def trouble(lasts: bool) -> bool:
        return (await watched.metric("healthd_api_trouble", kind="unavailable") == 1) is lasts

    await watched.until(lambda: trouble(True), "the trouble")
    watched.sandbox.faults.active.clear()
    await watched.until(lambda: trouble(False), "its end")
    watched.travel(timedelta(minutes=20))
    await sweeps(watched, 2)
    assert watched.mails() == []


async def test_a_key_that_may_look_but_not_make_links_is_the_operators_trouble(watched: Rig) -> None:
    account = watched.account("facebook")
    watched.expire(account)
    link = (await watched.mail(account.name)).link or ""
    watched.sandbox.faults.add(kind="status", status=403, path="/reconnect-url")
    page = await watched.person.press(await watched.person.open(link))
    assert page.status == 503
    mail = await told(watched, "may not do what healthd needs")
    assert "mint" in mail.text
    await sweeps(watched)
    assert len([subject for subject in watched.mails() if "may not" in subject]) == 1, "sweeps that work end nothing"
    watched.sandbox.faults.active.clear()
    await watched.person.reconnect(link)
    await told(watched, "looks after", since=mail.number)


async def test_the_news_that_a_key_was_revoked_leads_to_a_look_at_once(tmp_path: Path) -> None:
    told_whom = f'operator = ["mail:{OPERATOR}"]'
    async with rig(tmp_path, notices=told_whom) as scene:
        await scene.start()
        await settled(scene)
        scene.sandbox.world.keys["sqk_test_sandbox"].revoked = True
        for endpoint in scene.sandbox.sender.endpoints.values():
            endpoint.events = (*endpoint.events, "key.revoked")
        scene.sandbox.sender.emit("sandbox", "key.revoked", {"key_id": 1, "key_prefix": "sqk_test"})
        await told(scene, "API key is refused")
