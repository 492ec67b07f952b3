"""The process: how it starts, what it says when it cannot, how it drains, and what a kill costs (nothing)."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from healthd.demo.catchers import MailCatcher
from healthd.listener import bind
from tests.daemon.process import daemon_process, refused_or
from tests.daemon.rig import HOST, Rig, rig
from tests.daemon.test_receiver import event, request, signed

OFTEN = 'bulk_interval = "0.5s"\ninventory_interval = "1h"\nrequest_timeout = "3s"'


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Rig]:
    """The surroundings, with no daemon yet."""
    async with rig(tmp_path) as made:
        yield made


def server_section(scene: Rig, drain_timeout: str) -> str:
    listen, admin = (f"{HOST}:{scene.ports[part]}" for part in ("public", "admin"))
    return f'listen = "{listen}"\nadmin_listen = "{admin}"\ndrain_timeout = "{drain_timeout}"'


@contextmanager
def locked(scene: Rig) -> Iterator[None]:
    """Another process holds the database's write lock."""
    other = sqlite3.connect(scene.folder / "healthd.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


async def test_it_says_when_it_is_ready_and_then_it_is(scene: Rig) -> None:
    async with daemon_process(scene) as daemon:
        assert await daemon.ask("/readyz") == 200
        assert await daemon.ask("/livez") == 200
        facts = await daemon.until_logged("healthd.ready")
        assert (facts["public"], facts["admin"]) == (scene.ports["public"], scene.ports["admin"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_good_order(scene: Rig, number: signal.Signals) -> None:
    async with daemon_process(scene) as daemon:
        await daemon.until_seen()
        daemon.send(number)
        assert await daemon.ended() == 0
        assert daemon.events("healthd.stopped")
        assert "Traceback" not in daemon.log


async def test_a_drain_ends_a_request_that_is_under_way_and_takes_no_new_webhook(scene: Rig) -> None:
    scene.settings["server"] = server_section(scene, "40s")
    async with daemon_process(scene) as daemon:
        body = event()
        lines = [f"{name}: {value}" for name, value in signed(scene, body).items()]
        reader, writer = await asyncio.open_connection(HOST, scene.ports["public"])
        writer.write(request(body[:10], f"Content-Length: {len(body)}", *lines))
        await writer.drain()
        # Something that keeps the drain waiting: a webhook's mail on a server that is slow to take it.
        async with slow_mail(scene) as held:
            scene.expire(scene.account("facebook"))
            await asyncio.wait_for(held.arrived.wait(), 15)
            daemon.send(signal.SIGTERM)
            await daemon.until_logged("healthd.draining")
            answer = await scene.http.post(
                f"{scene.public}/webhooks/sandbox", content=event(), headers=signed(scene, event())
            )
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert await daemon.ask("/livez") == 200
            assert await daemon.ask("/readyz") == 503
            writer.write(body[10:])
            assert (await reader.read(100)).startswith(b"HTTP/1.1 202 ")
            writer.close()
            held.go_on.set()
            assert await daemon.ended() == 0
        assert len(scene.mails()) == 1, "the message that was on its way has arrived"
        assert await refused_or(scene.http.get(f"{scene.admin}/livez")) is None
    assert rows(scene, "select count(*) from notices where status = 'sent'") == [(1,)]


async def test_a_drain_is_over_in_time_whatever_hangs(scene: Rig) -> None:
    scene.settings["server"] = server_section(scene, "1s")
    async with daemon_process(scene) as daemon, slow_mail(scene) as held:
        scene.expire(scene.account("facebook"))
        await asyncio.wait_for(held.arrived.wait(), 15)
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert rows(scene, "select status from notices") == [("sending",)], "left to the next process"


async def test_a_second_signal_ends_it_at_once(scene: Rig) -> None:
    async with daemon_process(scene) as daemon, slow_mail(scene) as held:
        scene.expire(scene.account("facebook"))
        await asyncio.wait_for(held.arrived.wait(), 15)
        daemon.send(signal.SIGTERM)
        await daemon.until_logged("healthd.draining")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == -signal.SIGTERM
        assert daemon.events("healthd.cut_short")


@pytest.mark.parametrize("taken", ["public", "admin"])
async def test_an_address_that_is_taken_is_named_and_nothing_else_is_touched(scene: Rig, taken: str) -> None:
    with bind(HOST, scene.ports[taken]):
        async with daemon_process(scene, ready=False) as daemon:
            assert await daemon.ended() == 1
            assert daemon.log == (
                f"✗ healthd cannot start: cannot listen on {HOST}:{scene.ports[taken]}: Address already in use\n"
            )
    assert not (scene.folder / "healthd.db").exists()


async def test_a_mistake_in_the_settings_ends_it_with_2(scene: Rig) -> None:
    scene.settings["sweep"] = 'bulk_interval = "often"'
    async with daemon_process(scene, ready=False) as daemon:
        assert await daemon.ended() == 2
        assert "sweep.bulk_interval" in daemon.log
        assert "Traceback" not in daemon.log


UNUSABLE = {
    "a folder that does not exist": ("missing/healthd.db", "does not exist"),
    "a folder in the file's place": ("taken", "healthd must be able to write"),
    "a file of something else": ("notes.txt", "healthd must be able to write"),
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_a_database_that_cannot_be_used_is_named_with_what_to_do(scene: Rig, name: str) -> None:
    file, advice = UNUSABLE[name]
    (scene.folder / "taken").mkdir()
    (scene.folder / "notes.txt").write_text("not a database, but a shopping list. " * 100)
    scene.settings["store"] = f'url = "sqlite:///{scene.folder / file}"'
    async with daemon_process(scene, ready=False) as daemon:
        assert await daemon.ended() == 1
        assert daemon.log.startswith("✗ healthd cannot start: ")
        assert advice in daemon.log
        assert file.split("/")[0] in daemon.log
        assert "Traceback" not in daemon.log


async def test_while_the_store_is_locked_it_lives_is_not_ready_and_recovers(scene: Rig) -> None:
    scene.settings["sweep"] = OFTEN
    async with daemon_process(scene) as daemon:
        await daemon.until_seen()
        with locked(scene):
            assert await daemon.ask("/readyz") == 503
            assert await daemon.ask("/livez") == 200
            assert await daemon.ask("/metrics") == 200
            body = event()
            answer = await scene.http.post(
                f"{scene.public}/webhooks/sandbox", content=body, headers=signed(scene, body)
            )
            assert answer.status_code == 503
        answer = await scene.http.post(f"{scene.public}/webhooks/sandbox", content=body, headers=signed(scene, body))
        assert answer.status_code in {200, 202}
        assert await daemon.ask("/readyz") == 200
        account = scene.account("facebook")
        scene.expire(account)
        await scene.mail(account.name)


async def test_a_webhook_that_was_acknowledged_survives_a_kill(scene: Rig) -> None:
    async with daemon_process(scene) as daemon:
        await daemon.until_seen()
        account = scene.account("facebook")
        scene.sandbox.world.break_token(account)
        body = event(account_id=account.id, platform="facebook", account_name=account.name)
        stamp = scene.now().strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        body = body.replace(b"2026-01-01T00:00:00Z", stamp)
        answer = await scene.http.post(f"{scene.public}/webhooks/sandbox", content=body, headers=signed(scene, body))
        assert answer.status_code == 202
        daemon.send(signal.SIGKILL)
        await daemon.ended()
    async with daemon_process(scene):
        await scene.mail(account.name)
        again = await scene.http.post(f"{scene.public}/webhooks/sandbox", content=body, headers=signed(scene, body))
        assert again.status_code == 200, "it is known to be a repeat"
        await scene.until_drained()
    assert len(scene.mails()) == 1
    assert rows(scene, "select count(*) from incidents") == [(1,)]


async def test_a_kill_between_the_hand_over_and_its_record_repeats_the_very_same_mail(scene: Rig) -> None:
    account = scene.account("facebook")
    async with daemon_process(scene) as daemon:
        await daemon.until_seen()
        async with slow_mail(scene) as held:
            scene.expire(account)
            await asyncio.wait_for(held.arrived.wait(), 15)
            daemon.send(signal.SIGKILL)
            await daemon.ended()
    first = held.bodies[0]
    async with slow_mail(scene) as again, daemon_process(scene):
        again.go_on.set()
        opened = "select status from notices where kind = 'opened'"
        await scene.until(lambda: rows(scene, opened) == [("sent",)], "the record")
    assert again.bodies == [first]
    assert b"Message-ID: <" in first


def rows(scene: Rig, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{scene.folder / 'healthd.db'}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


class SlowMail:
    """Takes a whole message, and says so only when it is told to."""

    def __init__(self, scene: Rig) -> None:
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()
        self.bodies: list[bytes] = []
        self._deliver = MailCatcher(scene.inbox)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.bodies.append(envelope.content)
        self.arrived.set()
        await self.go_on.wait()
        await self._deliver.handle_DATA(server, session, envelope)
        return "250 OK"


@asynccontextmanager
async def slow_mail(scene: Rig) -> AsyncIterator[SlowMail]:
    """In the place of the rig's mail server."""
    held = SlowMail(scene)
    loop = asyncio.get_running_loop()
    async with scene.without_mail():
        server = await loop.create_server(lambda: SMTP(held, loop=loop), HOST, scene.ports["mail"])
        try:
            yield held
        finally:
            held.go_on.set()
            server.close()


async def test_the_database_is_its_owners_alone(scene: Rig) -> None:
    async with daemon_process(scene):
        assert (scene.folder / "healthd.db").stat().st_mode & 0o077 == 0
