"""Where providers report bounces, behind the real listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from healthd.bounces import LIMITS, Bounce, BounceSettings
from healthd.listener import Listener, bind
from healthd.store.database import StoreUnavailable
from healthd.web import bounces as web
from healthd.web.bounces import ANSWERS, AT_ONCE, bounce_routes, confirm_subscription
from tests.bounces.samples import ADA, BODIES, NOTICE_ID, NOW, TOPIC, postmark, sns
from tests.loopback import Asked, answer, serving
from tests.web.site import NO_TLS

HOST = "127.0.0.1"
TOKEN = "t0ken-" + "x" * 40
DEADLINE = 0.4


def sources() -> dict[str, BounceSettings]:
    made = {name: BounceSettings.model_validate({"provider": name, "token": TOKEN}) for name in BODIES}
    made["topic"] = BounceSettings.model_validate({"provider": "ses", "token": TOKEN, "topic": TOPIC})
    made["signed"] = BounceSettings.model_validate({"provider": "mailgun", "token": TOKEN, "secrets": ["k" * 20]})
    return made


@dataclass
class Scene:
    """A daemon's worth of the public listener, and what it heard."""

    url: str = ""
    port: int = 0
    http: httpx2.AsyncClient = field(
        default_factory=lambda: httpx2.AsyncClient(timeout=20, trust_env=False, verify=NO_TLS)
    )
    recorded: list[tuple[str, Bounce]] = field(default_factory=list)
    outcomes: list[tuple[str, str]] = field(default_factory=list)
    visited: list[str] = field(default_factory=list)
    fails: Exception | None = None
    confirmed: bool = True
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, name: str, outcome: str) -> None:
        self.outcomes.append((name, outcome))
        self.heard.set()

    async def record(self, name: str, told: Sequence[Bounce]) -> int:
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        self.recorded += [(name, bounce) for bounce in told]
        return len(told)

    async def confirm(self, url: str) -> bool:
        self.visited.append(url)
        return self.confirmed

    async def post(self, name: str, body: bytes, token: str = TOKEN, **more: Any) -> httpx2.Response:
        return await self.http.post(f"{self.url}/bounces/{name}/{token}", content=body, **more)

    async def talk(self, *parts: bytes | float) -> bytes:
        """Writes raw bytes, rests where a number stands, and reads until the other side has finished."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            for part in parts:
                if isinstance(part, float):
                    await asyncio.sleep(part)
                    continue
                writer.write(part)
                await writer.drain()
            return await asyncio.wait_for(reader.read(65536), timeout=10)
        finally:
            writer.close()


@asynccontextmanager
async def listening(scene: Scene) -> AsyncIterator[None]:
    bound = bind(HOST, 0)
    scene.port = bound.getsockname()[1]
    scene.url = f"http://{HOST}:{scene.port}"
    routes = bounce_routes(
        sources=sources(),
        record=scene.record,
        now=lambda: NOW,
        heard=scene.hear,
        confirm=scene.confirm,
        body_timeout=timedelta(seconds=DEADLINE),
    )
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    listener = Listener.of(
        app,
        bound,
        header_timeout=timedelta(seconds=5),
        body_timeout=timedelta(seconds=DEADLINE),
        max_connections=200,
        drain_timeout=timedelta(seconds=1),
    )
    serving = asyncio.create_task(listener.run_until_exit())
    await asyncio.wait_for(listener.accepting.wait(), 10)
    try:
        yield
    finally:
        await scene.http.aclose()
        listener.should_exit = True
        await serving


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    made.gate.set()
    async with listening(made):
        yield made


def request(name: str, body: bytes = b"", *lines: str, method: str = "POST", token: str = TOKEN) -> bytes:
    head = "\r\n".join([f"{method} /bounces/{name}/{token} HTTP/1.1", "Host: h", "Connection: close", *lines])
    return head.encode("latin-1") + b"\r\n\r\n" + body


@pytest.mark.parametrize("name", BODIES)
async def test_a_bounce_is_recorded_before_the_provider_hears_200(scene: Scene, name: str) -> None:
    heard = await scene.post(name, BODIES[name]())
    assert (heard.status_code, heard.content) == (200, b"")
    [(told_by, bounce)] = scene.recorded
    assert (told_by, bounce.address, bounce.permanent) == (name, ADA, True)
    assert scene.outcomes == [(name, "recorded")]


async def test_a_mail_says_of_which_message_it_is(scene: Scene) -> None:
    await scene.post("dsn", BODIES["dsn"]())
    assert [bounce.notice_id for _, bounce in scene.recorded] == [NOTICE_ID]


WRONG = {
    "another token": ("postmark", "t0ken-" + "y" * 40),
    "half of the token": ("postmark", TOKEN[:-1]),
    "a longer token": ("postmark", TOKEN + "x"),
    "another case": ("postmark", TOKEN.upper()),
    "an unknown name": ("nobody", TOKEN),
    "an unknown name and the token of none": ("nobody", "-"),
    "another case of the name": ("POSTMARK", TOKEN),
    "bytes that are no text": ("postmark", "%ff%fe"),
    "half a character": ("postmark", "%ed%a0%80"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_token_and_an_unknown_name_look_the_same(scene: Scene, name: str) -> None:
    source, token = WRONG[name]
    heard = await scene.post(source, BODIES["postmark"](), token)
    assert (heard.status_code, heard.content) == (404, b"")
    assert scene.recorded == []
    assert scene.outcomes == [("", "unknown")]


async def test_without_the_token_nothing_of_a_body_is_read(scene: Scene) -> None:
    said = await scene.talk(request("postmark", b"", "Content-Length: 1000", token="wrong"))
    assert said.startswith(b"HTTP/1.1 404 ")


async def test_whoever_guesses_is_told_to_stop_and_keeps_nobody_else_out(scene: Scene) -> None:
    answers = [(await scene.post("postmark", b"", f"guess-{number}")).status_code for number in range(25)]
    assert answers[:20] == [404] * 20
    assert answers[-1] == 429
    assert (await scene.post("postmark", BODIES["postmark"]())).status_code == 200


async def test_only_post_is_allowed(scene: Scene) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        said = await scene.talk(request("postmark", method=method))
        assert said.startswith(b"HTTP/1.1 405 "), method
        assert b"allow: post" in said.lower()
        assert said.endswith(b"\r\n\r\n")


async def test_there_is_nothing_else(scene: Scene) -> None:
    for path in ("/bounces", "/bounces/postmark", "/bounces/postmark/", f"/bounces/postmark/{TOKEN}/x"):
        assert (await scene.http.post(scene.url + path, content=BODIES["postmark"]())).status_code == 404, path
    assert scene.recorded == []


async def test_a_body_that_says_how_long_it_is_is_refused_unread(scene: Scene) -> None:
    for name in LIMITS:
        said = await scene.talk(request(name, b"x" * 100, "Content-Length: 10000000"))
        assert said.startswith(b"HTTP/1.1 413 "), name
        assert b"connection: close" in said.lower()


async def test_a_body_that_does_not_say_it_is_refused_as_soon_as_it_is_too_long(scene: Scene) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    said = await scene.talk(request("resend", b"", "Transfer-Encoding: chunked") + chunk * 2)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert scene.outcomes == [("resend", "too_large")]


async def test_a_report_as_long_as_it_may_be_is_read(scene: Scene) -> None:
    body = BODIES["postmark"]()
    assert (await scene.post("postmark", body + b" " * (LIMITS["postmark"] - len(body)))).status_code == 200
    assert len(scene.recorded) == 1


async def test_a_body_that_drips_is_given_up(scene: Scene) -> None:
    said = await scene.talk(request("postmark", b"{", "Content-Length: 1000"), DEADLINE / 2, b" ", DEADLINE)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert scene.recorded == []


async def test_a_sender_that_leaves_is_no_bounce(scene: Scene) -> None:
    _, writer = await asyncio.open_connection(HOST, scene.port)
    writer.write(request("postmark", b"{", "Content-Length: 1000"))
    await writer.drain()
    writer.close()
    await asyncio.wait_for(scene.heard.wait(), 5)
    assert scene.outcomes == [("postmark", "client_left")]


JUNK = {
    "nothing": b"",
    "a deep list": b"[" * 60_000,
    "bytes": b"\xff\xfe\x00",
    "half a character": b'{"Email": "\\ud800"}',
    "a page": b"<html>",
    "a number": b"1",
    "null": b"null",
    "wrong types": json.dumps(postmark(RecordType=["Bounce"], Type={}, Email=[], BouncedAt={})).encode(),
    "another header": json.dumps(postmark(Email="a@b.example\r\nX-Evil: 1")).encode(),
}


@pytest.mark.parametrize("junk", JUNK)
async def test_after_the_token_no_content_leads_to_anything_but_200(scene: Scene, junk: str) -> None:
    for name in BODIES:
        heard = await scene.post(name, JUNK[junk])
        assert (heard.status_code, heard.content) == (200, b""), name
        assert "x-evil" not in heard.headers
    assert scene.recorded == []


async def test_a_signature_that_does_not_hold_is_refused_for_good(scene: Scene) -> None:
    heard = await scene.post("signed", BODIES["mailgun"]())
    assert heard.status_code == 406, "what Mailgun does not repeat"
    assert scene.recorded == []


@pytest.mark.parametrize("error", [StoreUnavailable("the disk is full"), TimeoutError()])
async def test_a_store_that_fails_asks_the_provider_to_come_again(scene: Scene, error: Exception) -> None:
    scene.fails = error
    heard = await scene.post("postmark", BODIES["postmark"]())
    assert (heard.status_code, heard.headers["retry-after"]) == (503, "5")
    scene.fails = None
    assert (await scene.post("postmark", BODIES["postmark"]())).status_code == 200


async def test_a_store_that_hangs_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "RECORDED_WITHIN", 0.1)
    scene.gate.clear()
    assert (await scene.post("postmark", BODIES["postmark"]())).status_code == 503


async def test_a_flood_is_asked_to_come_again_and_ends(scene: Scene) -> None:
    scene.gate.clear()
    posts = [asyncio.create_task(scene.post("postmark", BODIES["postmark"]())) for _ in range(AT_ONCE * 3)]
    done, waiting = await asyncio.wait(posts, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < AT_ONCE * 2:
        more, waiting = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert {(post.result().status_code, post.result().headers["retry-after"]) for post in done} == {(429, "5")}
    scene.gate.set()
    assert {(await post).status_code for post in waiting} == {200}
    assert (await scene.post("postmark", BODIES["postmark"]())).status_code == 200


def confirmation() -> bytes:
    url = f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=23364"
    return sns("You have chosen to subscribe.", Type="SubscriptionConfirmation", SubscribeURL=url)


async def test_a_topic_that_is_named_is_confirmed_and_one_that_is_not_waits_for_the_operator(scene: Scene) -> None:
    assert (await scene.post("topic", confirmation())).status_code == 200
    assert [url.partition("?")[0] for url in scene.visited] == ["https://sns.eu-west-1.amazonaws.com/"]
    assert (await scene.post("ses", confirmation())).status_code == 200
    assert len(scene.visited) == 1
    assert scene.outcomes == [("topic", "subscribed"), ("ses", "subscription_waits")]


async def test_a_confirmation_that_fails_is_asked_for_again(scene: Scene) -> None:
    scene.confirmed = False
    assert (await scene.post("topic", confirmation())).status_code == 503


async def test_a_confirmation_is_one_visit_that_follows_nothing_and_goes_nowhere_inside() -> None:
    visits: list[tuple[str, str]] = []
    says = [answer(200, b"<ConfirmSubscriptionResponse/>"), answer(403), answer(302, b"", {"location": "/elsewhere"})]

    def respond(asked: Asked) -> bytes:
        visits.append((asked.method, asked.path))
        return says[len(visits) - 1]

    async with serving(respond) as address:
        url = f"http://{address}/?Action=ConfirmSubscription"
        assert not await confirm_subscription(url)
        assert [await confirm_subscription(url, allow_private=True) for _ in says] == [True, False, False]
    assert visits == [("GET", "/?Action=ConfirmSubscription")] * 3


async def test_a_token_is_in_no_line_of_the_log_and_an_address_neither(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in BODIES:
        await scene.post(name, BODIES[name]())
        await scene.post(name, b"junk " + ADA.encode())
    await scene.post("signed", BODIES["mailgun"]())
    printed = "".join(capfd.readouterr())
    assert "bounces.recorded" in printed
    assert TOKEN not in printed
    assert ADA not in printed


def test_every_outcome_that_is_a_success_is_200() -> None:
    assert {status for status, _ in ANSWERS.values() if status < 300} == {200}
