"""A real daemon at level debug, through good days and bad: nothing secret in what it says, shows or answers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import httpx2
from aiosmtpd.smtp import SMTP, AuthResult
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from healthd.demo.catchers import Inbox, SlackCatcher, WebServer
from healthd.sandbox.faults import Kind
from healthd.sandbox.world import PLATFORMS
from tests.cli.command import running
from tests.daemon.rig import HOST, LINK_SECRET, PATIENCE, WEBHOOK_SECRET, Rig, rig
from tests.loopback import free_port

KEY = "sqk_test_sandbox"
PASSWORD = "smtp-CANARY-password"
SLACK = "xoxb-CANARY-slack"
TOPIC = "CANARYtopic"
KINDS = get_args(Kind)
PEOPLE = ("ada@acme.example", "eve.CANARY@acme.example")


class Refusing:
    """A mail server whose answers quote who was written to, and more."""

    def __init__(self) -> None:
        self.refused = 0

    async def handle_RCPT(self, _: Any, __: Any, ___: Any, address: str, ____: Any) -> str:  # noqa: N802
        self.refused += 1
        if self.refused % 2:
            return f"451 4.2.1 <{address}>: mailbox of {address} is full, see https://x.example/?who={address}"
        return f"550 5.1.1 <{address}>: CANARY recipient rejected"


def _accept(*_: Any) -> AuthResult:
    return AuthResult(success=True)


@asynccontextmanager
async def other_channels() -> AsyncIterator[tuple[Refusing, dict[str, str], list[str]]]:
    """A refusing mail server, a Slack and a web hook, the configuration of each, and the paths that were asked for."""
    refusing, asked = Refusing(), list[str]()
    ports = [free_port() for _ in range(2)]
    loop = asyncio.get_running_loop()
    mail = await loop.create_server(
        lambda: SMTP(refusing, loop=loop, authenticator=_accept, auth_require_tls=False), HOST, ports[0]
    )

    async def hook(request: Request) -> Response:
        asked.append(request.url.path)
        return PlainTextResponse(f"no CANARY {request.url}", 500)

    routes = [*SlackCatcher(Inbox()).routes(), Route("/{path:path}", hook, methods=["POST", "GET", "PUT"])]
    web = WebServer(Starlette(routes=routes), HOST, ports[1])
    serving = asyncio.create_task(web.serve())
    sections = {
        "channels.refusing": f'type = "email"\nhost = "{HOST}"\nport = {ports[0]}\nsecurity = "none"\n'
        f'sender = "healthd@acme.example"\nusername = "healthd"\npassword = "{PASSWORD}"',
        "channels.chat": f'type = "slack"\ntoken = "{SLACK}"\nchannel = "#x"\n'
        f'api_url = "http://{HOST}:{ports[1]}/slack/api/"',
        "channels.phone": f'type = "apprise"\nurl = "json://user:CANARYpw@{HOST}:{ports[1]}/{TOPIC}/?+X-Key=CANARYkey"',
    }
    try:
        yield refusing, sections, asked
    finally:
        mail.close()
        web.should_exit = True
        await serving


async def _answers(http: httpx2.AsyncClient, url: str) -> None:
    async with asyncio.timeout(PATIENCE * 2):
        while True:
            try:
                if (await http.get(url)).status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.05)


class Bodies:
    """Every answer of the daemon to us."""

    def __init__(self, scene: Rig) -> None:
        self.scene = scene
        self.kept: list[str] = []

    async def get(self, url: str, method: str = "GET", **more: Any) -> httpx2.Response:
        answer = await self.scene.http.request(method, url, **more)
        self.kept.append(f"{answer.headers}\n{answer.text}")
        return answer


async def good_days_and_bad(scene: Rig, refusing: Refusing, asked: list[str], bodies: Bodies) -> list[str]:
    """Everything that happens to a daemon; returns the links that it sent."""
    # Webhook, mail, click, repair; the other channels fail meanwhile, each in its way.
    account = scene.account("facebook")
    scene.expire(account)
    link = (await scene.mail(account.name)).link or ""
    page = await scene.person.reconnect(link)
    assert "Connected" in page.text
    await scene.mail("connected again")
    await scene.until(lambda: refusing.refused > 0 and bool(asked), "the refusals")

    # The API fails in every way there is while links are asked for, then altogether, then refuses the key.
    links = [link]
    broken = [scene.account("instagram"), *(scene.account(platform) for platform in PLATFORMS[2 : 2 + len(KINDS)])]
    for account, kind in zip(broken, [*KINDS, "key"], strict=True):
        scene.expire(account)
        links.append((await scene.mail(account.name)).link or "")
        fault = scene.sandbox.faults.add(
            kind=kind if kind in KINDS else "status",
            path="reconnect-url",
            status=500 if kind in KINDS else 401,
            seconds=0.001,
            headers={"location": "https://status.example/?token=CANARYredirect"} if kind == "redirect" else {},
        )
        page = await scene.person.open(links[-1])
        await bodies.get(links[-1], "POST", data=page.fields)
        assert fault.strikes == 1, kind
        scene.sandbox.faults.active.clear()
    outage = scene.sandbox.faults.add(kind="status", status=502)

    async def noticed() -> bool:
        return outage.strikes > 0 and await scene.metric("healthd_api_trouble") > 0

    await scene.until(noticed, "the outage")
    scene.sandbox.faults.active.clear()

    # Whoever finds the listeners, and webhooks with things in them that do not belong there.
    for path in ("/", "/metrics", "/r/nothing", f"{link[-40:]}x", "/webhooks/sandbox", "/webhooks/CANARYnobody"):
        await bodies.get(f"{scene.public}/{path.lstrip('/')}")
    await bodies.get(f"{scene.public}/webhooks/sandbox", "POST", content=b'{"CANARY": 1}')
    endpoint = next(iter(scene.sandbox.sender.endpoints.values()))
    for raw in (b'{"event": "CANARY', json.dumps(_hostile(broken[0].id)).encode()):
        scene.sandbox.sender.send_raw(endpoint, raw)
    await scene.until_drained()
    for path in ("metrics", "livez", "readyz"):
        assert (await bodies.get(f"{scene.admin}/{path}")).status_code == 200
    return links


def _hostile(account: int) -> dict[str, Any]:
    names = f"CANARY {KEY} {PEOPLE[1]} https://x.example/?t=CANARY"
    data = {"account_id": account, "platform": names, "account_name": names, "reason": names}
    return {"id": "evt_odd", "event": "account.token_expired", "created_at": "2026-01-01T00:00:00Z", "data": data}


async def test_nothing_secret_leaves_a_daemon_that_says_all_it_can(tmp_path: Path) -> None:
    output = tmp_path / "output"
    async with (
        other_channels() as (refusing, sections, asked),
        rig(
            tmp_path,
            options={"accounts": 16},
            notices=f'default = ["mail:{PEOPLE[0]}", "refusing:{PEOPLE[1]}", "chat", "phone"]\n'
            'group_wait = "0s"\ngroup_interval = "0s"\ndigest_above = 1000',
            sweep='bulk_interval = "0.5s"\ninventory_interval = "0.5s"\nrequest_timeout = "2s"',
            log='level = "debug"\nformat = "json"',
            **sections,
        ) as scene,
    ):
        async with running("run", "--config", str(scene.write_config()), folder=tmp_path, output=output):
            await _answers(scene.http, f"{scene.admin}/readyz")
            bodies = Bodies(scene)
            links = await good_days_and_bad(scene, refusing, asked, bodies)
        deliveries = [str(delivery.response_body) for delivery in scene.sandbox.sender.deliveries.values()]
    said = output.read_text("utf-8")
    assert "account.expired" in said
    assert "notice.retry" in said
    assert "notice.dead" in said
    assert "api.trouble" in said
    assert "healthd.stopped" in said
    secrets = [
        *(KEY, WEBHOOK_SECRET, LINK_SECRET, PASSWORD, SLACK, TOPIC, "CANARY", *PEOPLE),
        *(base64.b64encode(secret.encode()).decode()[:-3] for secret in (PASSWORD, f"\0healthd\0{PASSWORD}")),
        *scene.sandbox.world.links,
        *(link.rpartition("/")[2] for link in links),
    ]
    assert scene.sandbox.world.links
    # A page knows its own link, and shows the person whom it concerns what the account is called.
    own = {link.rpartition("/")[2] for link in links}
    places = {"log": said, "answers to webhooks": "\n".join(deliveries), "pages": "\n".join(bodies.kept)}
    found = {
        (place, secret)
        for place, text in places.items()
        for secret in secrets
        if secret in text and not (place == "pages" and (secret in own or secret in scene.sandbox.world.links))
    }
    assert found == set()
    assert all(isinstance(json.loads(line), dict) for line in said.splitlines())
