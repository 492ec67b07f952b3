"""``healthd webhook``: what each command does, and what it says where it cannot."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from healthd import hooks_by_hand
from healthd.config import Settings, load
from healthd.hooks_by_hand import Hooks, NotDone, finish_rotation, opened, register, repair, rotate, send_test, status
from healthd.providers.base import Trial
from healthd.self_care import WANTED, Problem
from healthd.store import access
from healthd.store.database import Store
from tests.cli.command import healthd
from tests.daemon.rig import HOST, WEBHOOK_SECRET, Rig, rig
from tests.fresh_store import fresh_store
from tests.loopback import answer, serving

QUIET = 'audit_interval = "1h"'


@asynccontextmanager
async def at_hand(folder: Path, *, running: bool = False) -> AsyncIterator[tuple[Rig, Settings, Hooks]]:
    """A sandbox with one webhook that leads to us, and the means to change it; with the daemon or without."""
    async with rig(folder, options={"accounts": 2}, webhook=QUIET) as scene:
        if running:
            await scene.start()
        settings = load(scene.write_config(), {})
        async with opened(settings, "sandbox", None) as hooks:
            yield scene, settings, hooks


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[tuple[Rig, Settings, Hooks]]:
    async with at_hand(tmp_path) as made:
        yield made


def rows(scene: Rig) -> list[tuple[int, str]]:
    return [(one.id, one.status) for one in scene.sandbox.sender.endpoints.values()]


async def refusal(work: object) -> str:
    with pytest.raises(NotDone) as caught:
        await work  # type: ignore[misc]
    return str(caught.value)


async def test_one_webhook_is_made_with_the_events_that_healthd_wants(alone: tuple[Rig, Settings, Hooks]) -> None:
    scene, _, hooks = alone
    scene.sandbox.sender.endpoints.clear()
    made = await register(hooks)
    [endpoint] = scene.sandbox.sender.endpoints.values()
    assert (endpoint.url, endpoint.events) == (f"{scene.public}/webhooks/sandbox", WANTED)
    assert endpoint.secret == made.secret.get_secret_value()
    assert "already" in await refusal(register(hooks))
    assert len(rows(scene)) == 1


async def test_where_there_is_no_room_it_says_which_webhooks_are_silent(alone: tuple[Rig, Settings, Hooks]) -> None:
    scene, _, hooks = alone
    sender = scene.sandbox.sender
    sender.endpoints.clear()
    made = [sender.register("sandbox", f"https://user:pw@hook{n}.example/in?key=s3cret", WANTED) for n in range(10)]
    made[4].last_triggered_at = scene.now()
    said = await refusal(register(hooks))
    assert said.splitlines()[1].endswith("https://hook0.example/in  never called")
    assert "hook4.example" in said.splitlines()[-1]
    assert "s3cret" not in said
    assert "pw" not in said


async def test_what_could_not_be_delivered_is_counted(alone: tuple[Rig, Settings, Hooks]) -> None:
    scene, _, hooks = alone
    [ours] = scene.sandbox.sender.endpoints.values()
    ours.events = WANTED[:2]
    scene.sandbox.sender.register("sandbox", "https://shop.example/in", WANTED)
    for delivery, state in zip(
        scene.expire(scene.account("facebook"), duplicates=2), ("pending", "dead_letter"), strict=False
    ):
        await scene.until(lambda delivery=delivery: delivery.attempt > 0)  # type: ignore[misc]
        delivery.status = state
    found = await status(hooks)
    assert (found.verdict.problem, found.others, found.dead_letters) == (Problem.WRONG_EVENTS, 1, 1)
    assert found.pending is not None
    assert found.pending >= 1


async def test_a_test_is_done_when_it_is_on_disk(tmp_path: Path) -> None:
    async with at_hand(tmp_path, running=True) as (scene, settings, hooks):
        assert "healthd answered 202" in await send_test(settings, hooks, scene.store, None)
        [endpoint] = scene.sandbox.sender.endpoints.values()
        endpoint.secret = "whsec_of_somebody_else"
        said = await refusal(send_test(settings, hooks, scene.store, None))
        assert "401" in said
        assert "put it into webhook_secrets" in said


async def test_a_test_that_somebody_else_answers_has_not_arrived(
    alone: tuple[Rig, Settings, Hooks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, settings, hooks = alone
    monkeypatch.setattr(hooks_by_hand, "PATIENCE", 0.5)
    store = Store(fresh_store(tmp_path / "another.db"))
    said = await refusal(send_test(settings, hooks, store, None))
    assert "nobody answers" in said
    assert "healthd run" in said
    async with serving(lambda _: answer(200)) as address:
        scene.sandbox.sender.endpoints[1].url = f"http://{address}/webhooks/sandbox"
        said = await refusal(send_test(settings, hooks, store, "1"))
    await store.close()
    assert "not in this healthd's store" in said


HEALTHD = "invalid signature"
WHY = {
    (None, "ConnectError"): "nobody answers",
    (401, HEALTHD): "put it into webhook_secrets",
    (401, "log in"): "let /webhooks/ pass",
    (302, ""): "redirects",
    (404, ""): "does not know /webhooks/acme",
    (413, ""): "too large",
    (503, ""): "cannot write its store",
    (500, "oops"): "the server at that address fails",
}


@pytest.mark.parametrize(("code", "said"), WHY)
def test_each_way_to_fail_is_told_with_what_to_do(code: int | None, said: str) -> None:
    hooks = Hooks("acme", "https://h.example.com/webhooks/acme", None)  # type: ignore[arg-type]
    why = hooks_by_hand.why_not(Trial(False, "evt_1", code, said), hooks, running=False)
    assert WHY[code, said] in why
    assert "healthd run" in why
    assert "healthd run" not in hooks_by_hand.why_not(Trial(False, "evt_1", code, said), hooks, running=True)


async def test_a_new_secret_comes_without_a_gap_and_nothing_is_removed_before_it_works(tmp_path: Path) -> None:
    async with at_hand(tmp_path, running=True) as (scene, settings, hooks):
        sender = scene.sandbox.sender
        assert "nothing to finish" in await refusal(finish_rotation(settings, hooks, scene.store))
        made = await rotate(hooks, again=False)
        assert sender.endpoints[2].secret == made.secret.get_secret_value()
        assert "--finish" in await refusal(rotate(hooks, again=False))
        assert "401" in await refusal(finish_rotation(settings, hooks, scene.store))
        assert [ref for ref, _ in rows(scene)] == [1, 2]
        await rotate(hooks, again=True)
        assert [ref for ref, _ in rows(scene)] == [1, 2], "the first stays whatever is given up"
        assert sender.endpoints[2].secret != made.secret.get_secret_value()
        sender.endpoints[2].secret = WEBHOOK_SECRET  # now it stands in the settings
        sender.endpoints[2].status = "failing"
        fault = scene.sandbox.faults.add(kind="status", status=503, path="/webhooks/1")
        await refusal(finish_interrupted(settings, scene))
        assert rows(scene) == [(1, "active"), (2, "active")]
        del scene.sandbox.faults.active[fault.id]
        await finish_rotation(settings, hooks, scene.store)
        assert rows(scene) == [(2, "active")]


async def finish_interrupted(settings: Settings, scene: Rig) -> None:
    async with opened(settings, "sandbox", None) as hooks:
        await finish_rotation(settings, hooks, scene.store)


async def test_repair_mends_what_a_person_may_decide(alone: tuple[Rig, Settings, Hooks]) -> None:
    scene, _, hooks = alone
    [endpoint] = scene.sandbox.sender.endpoints.values()
    for state in ("failing", "paused", "active"):
        endpoint.status, endpoint.events = state, ("account.connected",)
        await repair(hooks, move=False)
        assert endpoint.status == "active"
        assert set(endpoint.events) == set(WANTED)
    assert await repair(hooks, move=False) == ["✓ nothing is wrong with it"]
    url, secret = endpoint.url, endpoint.secret
    endpoint.url = "http://127.0.0.9/webhooks/sandbox"
    assert "--move" in await refusal(repair(hooks, move=False))
    assert endpoint.url != url
    await repair(hooks, move=True)
    assert (endpoint.url, endpoint.secret) == (url, secret)
    scene.sandbox.sender.endpoints.clear()
    assert "register" in await refusal(repair(hooks, move=True))


async def test_the_secret_is_shown_once_or_put_into_a_file_that_nobody_else_can_read(tmp_path: Path) -> None:
    async with at_hand(tmp_path) as (scene, settings, _):
        sender = scene.sandbox.sender
        sender.endpoints.clear()
        config = ("--config", str(tmp_path / "healthd.toml"))
        shown = await healthd("webhook", "register", *config, folder=tmp_path)
        assert (shown.code, shown.out.count(sender.endpoints[1].secret)) == (0, 1)
        kept = await healthd("webhook", "rotate", *config, "--write-secret", "new", folder=tmp_path)
        file = tmp_path / "new"
        assert kept.code == 0, kept.err
        assert file.read_text().strip() == sender.endpoints[2].secret
        assert sender.endpoints[2].secret not in kept.out + kept.err
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert f'webhook_secrets = [OLD, {{ file = "{file}" }}]' in kept.out
        store = Store(settings.store.url)
        audited = await store.read(access.audit_of, None, 10)
        await store.close()
        assert [one.action for one in audited] == ["webhook.rotate", "webhook.register"]
        told = await healthd("webhook", "status", *config, "--json", folder=tmp_path)
        assert told.code == 1
        [row] = told.json
        assert (row["problem"], row["dead_letters"]) == ("several", 0)


async def test_nothing_is_made_where_its_secret_could_not_be_kept(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("precious")
    with pytest.raises(NotDone, match="exists already"), hooks_by_hand.secret_file(file):
        raise AssertionError
    with pytest.raises(NotDone, match="cannot be written"), hooks_by_hand.secret_file(tmp_path / "no" / "folder"):
        raise AssertionError
    assert file.read_text() == "precious"
    with pytest.raises(NotDone, match="refused"), hooks_by_hand.secret_file(tmp_path / "new"):
        raise NotDone("refused")
    assert not (tmp_path / "new").exists()


async def test_without_an_address_that_can_be_called_there_is_nothing_to_register(tmp_path: Path) -> None:
    async with rig(tmp_path, options={"accounts": 1}) as scene:
        path = scene.write_config()
        text = path.read_text().replace(f"http://{HOST}:{scene.ports['sandbox']}/v1", "https://api.smartlyq.com/v1")
        path.write_text(text)
        settings = load(path, {})
        with pytest.raises(NotDone, match="public https"):
            async with opened(settings, "sandbox", None):
                raise AssertionError
