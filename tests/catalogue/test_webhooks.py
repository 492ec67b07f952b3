"""Webhooks that are hostile or merely odd, at a running daemon: the rows of the catalogue that no other test holds."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from healthd import intake
from healthd.core.model import NoticeKind, State
from healthd.store import accounts
from healthd.store.inbox import InboxStatus
from tests.daemon.conftest import settled
from tests.daemon.rig import HOST, PATIENCE, Rig, rig
from tests.daemon.test_listener import CLOSE, listening, post, statuses
from tests.daemon.test_receiver import deliver, event, on_disk, request, signed

GOOD = post(b"ab", "Content-Length: 2", CLOSE)
WIRE: dict[str, tuple[bytes, list[int]]] = {
    "W10 a hexadecimal length": (post(b"ab", "Content-Length: 0x2", CLOSE), [400]),
    "W10 a length with a sign": (post(b"ab", "Content-Length: +2", CLOSE), [400]),
    "W10 a length beyond all numbers": (post(b"ab", f"Content-Length: {'9' * 30}", CLOSE), [400]),
    "W11 bare line feeds": (GOOD.replace(b"\r\n", b"\n"), [400]),
    "W11 a NUL in a header's name": (post(b"", "Bad\0Name: x", CLOSE), [400]),
    "W11 a bare carriage return in a header": (post(b"", "X: a\rb", CLOSE), [400]),
    "W9 chunks named twice": (
        post(b"0\r\n\r\n", "Transfer-Encoding: chunked", "Transfer-Encoding: identity", CLOSE),
        [400],
    ),
}


@pytest.mark.parametrize("name", WIRE)
async def test_what_two_readers_could_read_in_two_ways_is_refused(name: str) -> None:
    said, expected = WIRE[name]
    async with listening() as talk:
        assert statuses(await talk(GOOD)) == [200]
        assert statuses(await talk(said)) == expected


async def bodies(scene: Rig) -> list[bytes]:
    def read(connection: Connection) -> list[bytes]:
        return list(connection.execute(text("select body from inbox order by id")).scalars())

    return await scene.store.read(read)


async def test_a_compressed_body_is_bytes_and_is_never_unpacked(scene: Rig) -> None:
    bomb = gzip.compress(b"\0" * 30_000_000)
    assert len(bomb) < intake.BODY_LIMIT
    url = f"{scene.public}/webhooks/sandbox"
    refused = await scene.http.post(url, content=bomb, headers={"content-encoding": "gzip"})
    assert refused.status_code == 401
    assert (await deliver(scene, bomb, **{"content-encoding": "gzip"}))[0] == 202
    await scene.until_drained()
    assert await bodies(scene) == [bomb]
    assert await scene.metric("healthd_inbox_webhooks", status=InboxStatus.PARKED) == 1


async def test_what_a_header_says_of_the_body_makes_no_difference(scene: Rig) -> None:
    kinds = ["", "text/plain", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "\xff"]
    for kind in kinds:
        answer = await scene.http.post(
            f"{scene.public}/webhooks/sandbox",
            content=(body := event("comment.received")),
            headers=[(b"content-type", kind.encode("latin-1")), *((k.encode(), v) for k, v in _raw(scene, body))],
        )
        assert answer.status_code == 202
    await scene.until_drained()
    assert await scene.metric("healthd_webhook_events_total", event="other") == len(kinds)


def _raw(scene: Rig, body: bytes) -> list[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in signed(scene, body).items()]


async def test_the_body_is_believed_and_not_the_headers_that_nobody_signed(scene: Rig) -> None:
    account = scene.account("facebook")
    scene.sandbox.world.break_token(account)
    body = event(account_id=account.id, account_name=account.name)
    lies = {"x-smartlyq-event": "account.connected", "x-smartlyq-event-id": "evt_other"}
    assert (await deliver(scene, body, **lies))[0] == 202
    await scene.mail(account.name)
    assert (await deliver(scene, body))[0] == 200
    assert (await deliver(scene, event(account_id=account.id), **lies))[0] == 202
    assert await scene.metric("healthd_webhook_events_total", event="account.connected") == 0
    assert await on_disk(scene) == 2


async def test_the_first_body_under_an_id_counts_and_every_other_is_a_duplicate(scene: Rig) -> None:
    # Behind another login: what breaks has those behind its own looked at as well.
    account, other = scene.account("facebook"), scene.account("youtube")
    for broken in (account, other):
        scene.sandbox.world.break_token(broken)
    first = json.loads(event(account_id=account.id, account_name=account.name))
    second = json.loads(event(account_id=other.id, account_name=other.name)) | {"id": first["id"]}
    assert (await deliver(scene, json.dumps(first).encode()))[0] == 202
    assert (await deliver(scene, json.dumps(second).encode()))[0] == 200
    await scene.mail(account.name)
    assert await scene.metric("healthd_webhooks_total", outcome="duplicate") == 1
    assert await scene.state(other) is State.HEALTHY
    assert await bodies(scene) == [json.dumps(first).encode()]


async def test_an_old_delivery_that_is_replayed_has_no_effect_and_signed_afresh_it_is_a_duplicate(scene: Rig) -> None:
    body = event("comment.received")
    headers, url = signed(scene, body), f"{scene.public}/webhooks/sandbox"
    assert (await scene.http.post(url, content=body, headers=headers)).status_code == 202
    assert (await scene.http.post(url, content=body, headers=headers)).status_code == 200
    scene.travel(timedelta(days=80))
    assert (await scene.http.post(url, content=body, headers=headers)).status_code == 401
    assert (await deliver(scene, body))[0] == 200
    assert await on_disk(scene) == 1


async def test_a_flood_of_bad_signatures_is_refused_and_a_good_one_amid_it_let_in(scene: Rig) -> None:
    url = f"{scene.public}/webhooks/sandbox"
    bad = {"x-smartlyq-signature": "t=1,v1=00"}
    with capture_logs() as said:
        answers = Counter[int]()
        while not answers[429]:
            assert answers.total() < 1000
            crowd = await asyncio.gather(*(scene.http.post(url, content=b"{}", headers=bad) for _ in range(30)))
            answers.update(answer.status_code for answer in crowd)
        assert answers.keys() == {401, 429}
        assert {answer.content for answer in crowd if answer.status_code == 429} == {b""}
        assert (await deliver(scene, event("comment.received")))[0] == 202
    lines = [line for line in said if line["event"] == "webhook.refused"]
    assert [(line["log_level"], line["workspace"], line["reason"], line["times"]) for line in lines[:1]] == [
        ("warning", "sandbox", "mismatch", 1)
    ]
    assert len(lines) < answers.total() / 10
    assert await scene.metric("healthd_webhooks_total", outcome="refused_too_often") == answers[429]
    assert await scene.metric("healthd_webhooks_total", outcome="refused_mismatch") == answers[401]
    assert await on_disk(scene) == 1


def test_the_log_tells_of_bad_signatures_once_a_minute_and_how_many_there_were() -> None:
    refusals = intake.Refusals()
    with capture_logs() as said:
        for second in range(130):
            refusals.note("acme", "mismatch", "192.0.2.7", float(second))
        refusals.note("other", "missing", "192.0.2.7", 130.0)
    assert [(line["workspace"], line["times"]) for line in said] == [
        ("acme", 1), ("acme", 60), ("acme", 60), ("other", 1),
    ]  # fmt: skip


@asynccontextmanager
async def _store_at_rest(scene: Rig) -> AsyncIterator[None]:
    """No commit is made until this ends."""
    gate, resting = threading.Event(), threading.Event()

    def rest(_: Connection) -> None:
        resting.set()
        gate.wait(PATIENCE)

    held = asyncio.create_task(scene.store.run(rest))
    await scene.until(resting.is_set, "the rest")
    try:
        yield
    finally:
        gate.set()
        await held


async def test_more_than_can_wait_for_a_commit_are_told_to_come_again_and_the_others_are_kept(
    scene: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "QUEUE_LIMIT", 5)
    url, everything = f"{scene.public}/webhooks/sandbox", [event("comment.received") for _ in range(20)]

    async def send(body: bytes) -> httpx2.Response:
        return await scene.http.post(url, content=body, headers=signed(scene, body))

    async with _store_at_rest(scene):
        sent = [asyncio.create_task(send(body)) for body in everything]
        await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
    answers = await asyncio.gather(*sent)
    turned_away = [answer for answer in answers if answer.status_code == 429]
    assert turned_away
    assert all(int(answer.headers["retry-after"]) > 0 for answer in turned_away)
    assert {answer.status_code for answer in answers} <= {202, 429, 503}
    accepted = [body for body, answer in zip(everything, answers, strict=True) if answer.status_code == 202]
    assert set(accepted) <= set(await bodies(scene))

    async def kept() -> bool:
        return await on_disk(scene) == len(answers) - len(turned_away)

    await scene.until(kept, "a row for everyone who was not turned away")


async def test_a_sender_that_left_before_the_answer_is_kept_and_recognised_when_it_comes_again(scene: Rig) -> None:
    body = event("comment.received")
    async with _store_at_rest(scene):
        _, writer = await asyncio.open_connection(HOST, scene.ports["public"])
        lines = [f"{name}: {value}" for name, value in signed(scene, body).items()]
        writer.write(request(body, f"Content-Length: {len(body)}", *lines))
        await writer.drain()
        assert scene.daemon is not None
        commits = scene.daemon.receiver._commits
        await scene.until(lambda: commits._task is not None, "the commit")
        writer.close()
        await writer.wait_closed()

    async def kept() -> bool:
        return await on_disk(scene) == 1

    await scene.until(kept, "the row")
    assert (await deliver(scene, body))[0] == 200


async def test_an_account_that_nobody_knew_is_taken_up_from_its_webhook_whatever_else_is_in_it(scene: Rig) -> None:
    account = scene.sandbox.world.add_account("sandbox", "facebook", "Newcomer")
    scene.sandbox.world.break_token(account)
    body = event(account_id=account.id, account_name="Newcomer", status="a word of next year", new={"deep": [1]})
    lies = {"host": "evil.example", "x-forwarded-host": "evil.example", "x-forwarded-proto": "https"}
    assert (await deliver(scene, body, **lies))[0] == 202
    mail = await scene.mail("Newcomer")
    assert mail.link is not None
    assert mail.link.startswith(f"{scene.public}/r/"), "links are made from public_url and nothing else"
    assert "evil.example" not in mail.text + mail.html


async def test_an_account_of_another_workspace_is_nobodys_trouble(tmp_path: Path) -> None:
    async with rig(tmp_path, options={"accounts": 4, "workspaces": ("one", "two")}) as scene:
        await scene.start()
        await settled(scene)
        account = next(iter(scene.sandbox.world.accounts_of("two", None)))
        body = event(account_id=account.id, account_name=account.name)
        answer = await scene.http.post(f"{scene.public}/webhooks/one", content=body, headers=signed(scene, body))
        assert answer.status_code == 202
        await scene.until_drained()
        await scene.until(lambda: bool(scene.asked(f"/{account.id}/health")), "the look")

        async def gone() -> bool:
            found = await scene.store.read(accounts.load, "one", [str(account.id)])
            return bool(found) and found[str(account.id)].account.state is State.REMOVED

        await scene.until(gone, "the removal")
        scene.travel(timedelta(hours=1))
        assert await scene.state(account) is State.HEALTHY
        assert scene.mails() == []


async def test_connected_alone_repairs_nothing_and_a_hundred_events_are_one_incident(scene: Rig) -> None:
    account = scene.account("linkedin")
    scene.expire(account)
    await scene.mail(account.name)
    for name in ("account.connected", "account.token_expired") * 50:
        assert (await deliver(scene, event(name, account_id=account.id, account_name=account.name)))[0] == 202
    await scene.until_drained()
    await scene.until_state(account, State.EXPIRED)
    assert len(await scene.incidents(account)) == 1
    assert [notice.kind for notice in await scene.notices(account)].count(NoticeKind.OPENED) == 1
    assert len(scene.mails()) == 1


JUMPS = {"an hour forward": timedelta(hours=1), "an hour back, until it is put right": timedelta(hours=-1)}


@pytest.mark.parametrize("name", JUMPS)
async def test_when_our_clock_jumps_nobody_is_mailed_in_error_and_what_is_broken_is_found(
    sweeping: Rig, name: str
) -> None:
    before, after = sweeping.account("facebook"), sweeping.account("tiktok")
    sweeping.expire(before, webhook=False)
    opened = await sweeping.mail(before.name)
    sweeping.ahead = JUMPS[name]
    await sweeping.until_swept(2)
    assert len(sweeping.mails()) == 1
    sweeping.sandbox.world.break_token(after)
    [delivery] = sweeping.expire_event_only(after)
    await sweeping.until(lambda: delivery.response_code is not None, "the delivery")
    assert delivery.response_code == 401, "the sender's clock is not ours any more"
    if sweeping.ahead < timedelta(0):
        await sweeping.until_swept(2)
        sweeping.ahead = timedelta(0)
    await sweeping.mail(after.name)
    sweeping.repair(before, webhook=False)
    fixed = await sweeping.mail("connected again", since=opened.number)
    assert before.name in fixed.subject
    assert len(sweeping.mails()) == 3
