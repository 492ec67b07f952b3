"""Slack's buttons over HTTP: who may press them, what follows, and what never does."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import orjson
import pytest
import structlog
from sqlalchemy import Connection, text
from starlette.applications import Starlette

from healthd.core.model import Account, Cause, NoticeKind, Resolution, State, Target
from healthd.dispatch import Dispatch
from healthd.listener import Listener, bind
from healthd.store import accounts, decisions, incidents, migrations, notices
from healthd.store.accounts import StoredAccount
from healthd.store.database import Store, sqlite_engine
from healthd.store.incidents import Incident
from healthd.store.notices import Draft
from healthd.web import slack_actions
from healthd.web.slack_actions import slack_routes
from tests.loopback import Asked, answer, serving
from tests.web.site import NO_TLS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET, OTHER_SECRET = "8f742231b10e8888abcd99yyyzzz85a5", "1f742231b10e8888abcd99yyyzzz85a5"
OPS = Target("slack", "#ops")
WEEK, DAY = timedelta(days=7), timedelta(days=1)


@dataclass
class Desk:
    """The route on a listener of ours, over a store with three broken accounts that one message was about."""

    store: Store
    url: str
    http: httpx2.AsyncClient
    replies: list[Asked]
    reply_url: str
    notice_id: str = ""
    now: datetime = NOW
    heard: list[tuple[str, str]] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)

    def payload(self, action: str = "acknowledge", **changes: Any) -> dict[str, Any]:
        return {
            "type": "block_actions",
            "user": {"id": "U1", "username": "ada", "name": "ada.l"},
            "response_url": self.reply_url,
            "actions": [{"action_id": action, "type": "button", "value": self.notice_id}],
            **changes,
        }

    async def press(
        self, payload: object = None, *, channel: str = "slack", secret: str = SECRET, ago: float = 0, **headers: str
    ) -> httpx2.Response:
        body = urlencode({"payload": json.dumps(self.payload() if payload is None else payload)}).encode()
        signed = sign(body, secret, self.now - timedelta(seconds=ago))
        return await self.post(body, {**signed, **headers}, channel)

    async def post(self, body: bytes, headers: Mapping[str, str], channel: str = "slack") -> httpx2.Response:
        return await self.http.post(f"{self.url}/slack/actions/{channel}", content=body, headers=dict(headers))

    async def incidents(self) -> list[Incident]:
        found = [await self.store.read(incidents.get, f"i{number}") for number in range(3)]
        return [incident for incident in found if incident is not None]

    async def decided(self) -> list[tuple[str, str]]:
        made = await self.store.read(
            lambda connection: [d for n in (1, 2, 3) for d in decisions.of_account(connection, n)]
        )
        return [(one.what, one.who) for one in made]

    async def until_replied(self, count: int = 1) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            while len(self.replies) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return [orjson.loads(asked.body) for asked in self.replies]


def sign(body: bytes, secret: str, at: datetime) -> dict[str, str]:
    moment = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), b"v0:" + moment.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {
        "x-slack-request-timestamp": moment,
        "x-slack-signature": f"v0={digest}",
        "content-type": "application/x-www-form-urlencoded",
    }


def fill(connection: Connection) -> str:
    """Three broken accounts, told of in one message of the channel; returns the id of its leader."""
    migrations.upgrade(connection)
    made = []
    for number in range(3):
        account = Account("acme", str(number), "facebook", State.EXPIRED)
        accounts.create(connection, [StoredAccount(0, account, "", f"Acme {number}", None, NOW)])
        stored = accounts.load(connection, "acme", [str(number)])[str(number)]
        incident = Incident(f"i{number}", stored.id, "acme", "facebook", Cause.TOKEN, NOW, NOW, NOW)
        incidents.create(connection, [incident])
        draft = Draft(
            subject=incident.id, kind=NoticeKind.OPENED, target=OPS, created_at=NOW, due_at=NOW,
            incident_id=incident.id, account_id=stored.id,
        )  # fmt: skip
        notices.write(connection, [draft])
        made.append(notices.notice_id(incident.id, draft.target, draft.kind, 0))
    connection.execute(text("UPDATE notices SET group_id = :leader, status = 'sent'"), {"leader": made[0]})
    return made[0]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A database, and the id of the notice whose button it is."""
    path = tmp_path_factory.mktemp("slack") / "filled.db"
    engine = sqlite_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        leader = fill(connection)
    engine.dispose()
    return path, leader


@pytest.fixture
async def store(filled: tuple[Path, str], tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(f"sqlite:///{shutil.copy(filled[0], tmp_path / 'healthd.db')}")
    yield made
    await made.close()


@pytest.fixture
async def desk(store: Store, filled: tuple[Path, str]) -> AsyncIterator[Desk]:
    replies: list[Asked] = []

    def respond(asked: Asked) -> bytes:
        replies.append(asked)
        return answer(200, b"ok")

    bound = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    async with serving(respond) as slack, httpx2.AsyncClient(trust_env=False, verify=NO_TLS, timeout=15) as http:
        made = Desk(store, url, http, replies, f"http://{slack}/actions/T1/2/x", filled[1])
        routes = slack_routes(
            store=store,
            dispatch=Dispatch(),
            secrets={"slack": SECRET, "other": OTHER_SECRET},
            now=lambda: made.now,
            heard=lambda channel, outcome: made.heard.append((channel, outcome)),
            noted=made.noted.append,
            reply_hosts={slack},
        )
        soon = timedelta(seconds=5)
        listener = Listener.of(
            Starlette(routes=routes), bound, header_timeout=soon, body_timeout=soon, max_connections=50,
            drain_timeout=soon,
        )  # fmt: skip
        serving_it = asyncio.create_task(listener.run_until_exit())
        await listener.accepting.wait()
        yield made
        listener.should_exit = True
        await serving_it


# What a press does


@pytest.mark.parametrize("place", [0, 2])
async def test_a_press_says_it_of_every_account_of_the_message(desk: Desk, place: int) -> None:
    """Whichever of its notices the button names."""
    desk.notice_id = notices.notice_id(f"i{place}", OPS, NoticeKind.OPENED, 0)
    pressed = await desk.press()
    assert (pressed.status_code, pressed.content) == (200, b"")
    for incident in await desk.incidents():
        assert (incident.acknowledged_until, incident.acknowledged_by) == (NOW + WEEK, "slack:ada")
    assert await desk.decided() == [("acknowledged", "slack:ada")] * 3
    assert desk.heard == [("slack", "noted")]
    assert desk.noted == ["acknowledge"]


async def test_later_is_a_day(desk: Desk) -> None:
    await desk.press(desk.payload("snooze"))
    found = await desk.incidents()
    assert [one.snoozed_until for one in found] == [NOW + DAY] * 3
    assert [one.acknowledged_until for one in found] == [None] * 3
    assert desk.noted == ["snooze:1d"]


async def test_whoever_pressed_hears_of_it_and_nobody_else(desk: Desk) -> None:
    await desk.press()
    [said] = await desk.until_replied()
    assert (said["response_type"], said["replace_original"]) == ("ephemeral", False)
    moment = int((NOW + WEEK).timestamp())
    assert said["text"] == (
        f"Noted: no reminders until <!date^{moment}^{{date_short_pretty}}, {{time}}|2026-03-08 12:00 UTC>, "
        "or until it is repaired."
    )


async def test_what_is_repaired_is_left_alone(desk: Desk) -> None:
    await desk.store.run(incidents.resolve, "i0", Resolution.REPAIRED, NOW)
    await desk.press()
    assert [one.acknowledged_until for one in await desk.incidents()] == [None, NOW + WEEK, NOW + WEEK]
    for number in (1, 2):
        await desk.store.run(incidents.resolve, f"i{number}", Resolution.REPAIRED, NOW)
    assert (await desk.press()).status_code == 200
    assert desk.heard[-1] == ("slack", "repaired")
    assert "everything works again" in (await desk.until_replied(2))[1]["text"]


IGNORED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "the link to the page": lambda payload: payload | {"actions": [{"action_id": "reconnect"}]},
    "another app's button": lambda payload: payload | {"actions": [{"action_id": "approve", "value": "x"}]},
    "no button": lambda payload: payload | {"actions": []},
    "another interaction": lambda payload: payload | {"type": "view_submission"},
    "something new": lambda payload: payload | {"type": ["block_actions"]},
    "actions of another shape": lambda payload: payload | {"actions": [7, None, "acknowledge"]},
}


@pytest.mark.parametrize("what", IGNORED)
async def test_what_is_not_ours_is_answered_and_nothing_follows(desk: Desk, what: str) -> None:
    assert (await desk.press(IGNORED[what](desk.payload()))).status_code == 200
    assert desk.heard == [("slack", "ignored")]
    assert await desk.decided() == []


async def test_a_notice_of_another_channel_is_not_touched(desk: Desk) -> None:
    assert (await desk.press(channel="other", secret=OTHER_SECRET)).status_code == 200
    assert desk.heard == [("other", "unknown_notice")]
    assert await desk.decided() == []


async def test_a_notice_that_is_no_longer_on_record_is_said_so(desk: Desk) -> None:
    unknown = desk.payload(actions=[{"action_id": "acknowledge", "value": "0" * 24}])
    assert (await desk.press(unknown)).status_code == 200
    assert "no longer on record" in (await desk.until_replied())[0]["text"]
    assert desk.noted == []


UNREADABLE: dict[str, bytes] = {
    "nothing": b"",
    "no payload": b"token=x",
    "no JSON": b"payload=%7B",
    "a list": b"payload=%5B%5D",
    "many fields": b"&".join(b"a%d=1" % number for number in range(50)),
    "not UTF-8": b"payload=%ff%fe",
    "deep": b"payload=" + b"[" * 20_000,
    "no notice": urlencode(
        {"payload": json.dumps({"type": "block_actions", "actions": [{"action_id": "snooze", "value": "../x"}]})}
    ).encode(),
    "a number for a notice": urlencode(
        {"payload": json.dumps({"type": "block_actions", "actions": [{"action_id": "snooze", "value": 7}]})}
    ).encode(),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_signed_body_of_another_shape_is_refused(desk: Desk, what: str) -> None:
    body = UNREADABLE[what]
    assert (await desk.post(body, sign(body, SECRET, NOW))).status_code == 400
    assert desk.heard == [("slack", "unreadable")]


NAMES: dict[str, tuple[Any, str]] = {
    "by the user's name": ({"id": "U1", "username": "ada"}, "slack:ada"),
    "by another field": ({"id": "U1", "name": "Ada L."}, "slack:Ada L."),
    "by the id": ({"id": "U1", "username": None}, "slack:U1"),
    "cleaned": ({"username": "a\u202eda\n\x00" + "x" * 90}, f"slack:a da {'x' * 34}…"),
    "of nobody": (None, "slack:"),
}


@pytest.mark.parametrize("who", NAMES)
async def test_who_pressed_is_on_record(desk: Desk, who: str) -> None:
    user, wanted = NAMES[who]
    await desk.press(desk.payload(user=user))
    assert {one.acknowledged_by for one in await desk.incidents()} == {wanted}


# Who may press


async def test_no_other_secret_signs_for_a_channel(desk: Desk) -> None:
    wrong = [
        await desk.press(secret=OTHER_SECRET),
        await desk.press(channel="unknown"),
        await desk.press(channel="unknown", secret="-"),
        await desk.press(secret="-"),
    ]
    assert {(found.status_code, found.content) for found in wrong} == {(401, b"")}
    assert await desk.decided() == []
    assert {outcome for _, outcome in desk.heard} == {"refused"}


FORGED: dict[str, dict[str, str]] = {
    "no signature": {"x-slack-signature": ""},
    "an empty one": {"x-slack-signature": "v0="},
    "another version": {"x-slack-signature": "v1=" + "0" * 64},
    "zeros": {"x-slack-signature": "v0=" + "0" * 64},
    "no text": {"x-slack-signature": "v0=\xff\xfe"},
    "another moment": {"x-slack-request-timestamp": str(int(NOW.timestamp()) + 1)},
    "no moment": {"x-slack-request-timestamp": ""},
    "words for a moment": {"x-slack-request-timestamp": "now"},
    "an endless moment": {"x-slack-request-timestamp": "9" * 3000},
    "a sign": {"x-slack-request-timestamp": f"+{int(NOW.timestamp())}"},
    "full-width digits": {"x-slack-request-timestamp": "１２３"},
}


@pytest.mark.parametrize("how", FORGED)
async def test_whatever_is_wrong_with_a_signature_gets_the_one_answer(desk: Desk, how: str) -> None:
    body = urlencode({"payload": json.dumps(desk.payload())}).encode()
    headers = {**sign(body, SECRET, NOW), **FORGED[how]}
    request = desk.http.build_request("POST", f"{desk.url}/slack/actions/slack", content=body)
    request.headers = httpx2.Headers(
        [(b"host", b"x"), (b"content-length", str(len(body)).encode())]
        + [
            (name.encode(), value.encode("utf-8" if how == "full-width digits" else "latin-1"))
            for name, value in headers.items()
        ]
    )
    refused = await desk.http.send(request)
    assert (refused.status_code, refused.content) == (401, b"")
    assert await desk.decided() == []


async def test_a_body_that_was_changed_is_refused(desk: Desk) -> None:
    body = urlencode({"payload": json.dumps(desk.payload())}).encode()
    assert (await desk.post(body + b"&x=1", sign(body, SECRET, NOW))).status_code == 401


@pytest.mark.parametrize(("ago", "status"), [(299, 200), (301, 401), (-299, 200), (-301, 401)])
async def test_a_request_is_good_for_five_minutes(desk: Desk, ago: int, status: int) -> None:
    assert (await desk.press(ago=ago)).status_code == status


async def test_a_flood_is_slowed_down_and_slack_is_not(desk: Desk) -> None:
    statuses = [(await desk.press(secret="wrong")).status_code for _ in range(24)]
    assert statuses[:20] == [401] * 20
    assert statuses[-1] == 429
    assert (await desk.press()).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_nothing_but_a_post_is_a_press(desk: Desk, method: str) -> None:
    refused = await desk.http.request(method, f"{desk.url}/slack/actions/slack")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_a_body_is_limited_in_size_and_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    large = b"payload=" + b"x" * 65_536
    assert (await desk.post(large, sign(large, SECRET, NOW))).status_code == 413
    monkeypatch.setattr(slack_actions, "BODY_WITHIN", 0.05)
    host, port = desk.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /slack/actions/slack HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\npayload=")
    assert b"408" in await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    await writer.wait_closed()


async def test_a_store_that_fails_is_said_so_and_nothing_is_half_done(desk: Desk) -> None:
    await desk.store.run(lambda connection: connection.execute(text("ALTER TABLE decisions RENAME TO away")))
    assert (await desk.press()).status_code == 503
    await desk.store.run(lambda connection: connection.execute(text("ALTER TABLE away RENAME TO decisions")))
    assert [one.acknowledged_until for one in await desk.incidents()] == [None] * 3
    assert desk.noted == []


# Where an answer goes


ELSEWHERE = (
    "https://hooks.slack.com.evil.example/x", "https://evil.example/x", "http://hooks.slack.com/x",
    "https://hooks.slack.com@evil.example/", "https://hooks.slack.com:8443/x", "http://127.0.0.1:1/x",
    "http://169.254.169.254/latest", "file:///etc/passwd", "", None, 7, ["https://hooks.slack.com/x"],
)  # fmt: skip


@pytest.mark.parametrize("url", ELSEWHERE)
async def test_nothing_is_sent_anywhere_but_to_slack(store: Store, filled: tuple[Path, str], url: object) -> None:
    sent: list[str] = []

    async def reply(address: str, _: str) -> None:
        sent.append(address)

    routes = slack_routes(
        store=store, dispatch=Dispatch(), secrets={"slack": SECRET}, now=lambda: NOW, reply=reply
    )  # fmt: skip
    transport = httpx2.ASGITransport(app=Starlette(routes=routes))
    async with httpx2.AsyncClient(transport=transport, base_url="http://healthd") as http:
        for address in (url, "https://hooks.slack.com/actions/T1/2/x"):
            action = {"action_id": "snooze", "value": filled[1]}
            payload = {"type": "block_actions", "actions": [action], "response_url": address}
            body = urlencode({"payload": json.dumps(payload)}).encode()
            pressed = await http.post("/slack/actions/slack", content=body, headers=sign(body, SECRET, NOW))
            assert pressed.status_code == 200
    assert sent == ["https://hooks.slack.com/actions/T1/2/x"]


async def test_an_answer_that_does_not_arrive_changes_nothing(desk: Desk) -> None:
    with structlog.testing.capture_logs() as heard:
        await desk.press(desk.payload(response_url=f"{desk.reply_url.partition('/actions')[0]}0/actions"))
        assert (await desk.press()).status_code == 200
        await desk.until_replied()
    assert [one.acknowledged_until for one in await desk.incidents()] == [NOW + WEEK] * 3
    assert desk.reply_url not in repr(heard)
    assert SECRET not in repr(heard)
