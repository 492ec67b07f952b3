"""Where the demo's messages end up: a mail server and a Slack that keep what they get, and a page that shows it."""

from __future__ import annotations

import asyncio
import email.policy
import itertools
import json
import re
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import uvicorn
from aiosmtpd.handlers import AsyncMessage
from aiosmtpd.smtp import SMTP
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

_LINK = re.compile(r"https?://[^\s<>\"|]+/r/[A-Za-z0-9._-]+")


@dataclass(slots=True)
class Caught:
    """A message as its reader got it. ``edited`` is when Slack changed it, ``thread`` what it answers."""

    number: int
    way: str
    to: str
    subject: str
    text: str
    html: str = ""
    at: float = field(default_factory=time.time)
    identity: str = ""
    thread: str = ""
    edited: float | None = None

    @property
    def link(self) -> str | None:
        found = _LINK.search(self.text)
        return found[0] if found else None


@dataclass
class Inbox:
    """Everything that was caught, oldest first, for people and for whoever waits for a message."""

    messages: list[Caught] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, way: str, to: str, subject: str, text: str, **more: Any) -> Caught:
        caught = Caught(next(self.numbers), way, to, subject, text, **more)
        async with self.news:
            self.messages.append(caught)
            self.news.notify_all()
        return caught

    def find(self, words: str, *, way: str | None = None, since: int = 0) -> list[Caught]:
        """Messages that hold these words, among those after number ``since``. One message may be about several
        accounts, and then its subject names none.
        """
        return [
            caught
            for caught in self.messages
            if caught.number > since
            and way in {None, caught.way}
            and words in " ".join((caught.subject, *caught.text.split()))
        ]

    async def wait(self, words: str, *, way: str, since: int, seconds: float) -> Caught | None:
        """The first such message, or ``None`` if there is none within the time."""
        try:
            async with asyncio.timeout(seconds), self.news:
                await self.news.wait_for(lambda: self.find(words, way=way, since=since))
        except TimeoutError:
            return None
        return self.find(words, way=way, since=since)[0]

    @property
    def newest(self) -> int:
        return self.messages[-1].number if self.messages else 0


class MailCatcher(AsyncMessage):
    """A mail server that delivers to an ``Inbox``."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(EmailMessage)
        self.inbox = inbox

    def prepare_message(self, session: Any, envelope: Any) -> EmailMessage:
        parsed = BytesParser(policy=email.policy.default).parsebytes(envelope.content)
        parsed["X-Caught-To"] = ", ".join(envelope.rcpt_tos)
        return parsed

    async def handle_message(self, message: Any) -> None:
        plain, rich = message.get_body(("plain",)), message.get_body(("html",))
        await self.inbox.add(
            "mail",
            str(message["X-Caught-To"]),
            str(message["Subject"]),
            plain.get_content() if plain else "",
            html=rich.get_content() if rich else "",
            identity=str(message["Message-ID"]),
            thread=str(message["In-Reply-To"] or ""),
        )

    async def serve(self, host: str, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: SMTP(self, loop=loop), host, port)


class SlackCatcher:
    """The few methods of Slack's Web API that healthd calls."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self._stamps = itertools.count(1)

    def routes(self) -> list[Route]:
        return [
            Route("/slack/api/chat.postMessage", self.post, methods=["POST"]),
            Route("/slack/api/chat.update", self.update, methods=["POST"]),
            Route("/slack/api/auth.test", self.auth, methods=["POST"]),
        ]

    async def auth(self, _: Request) -> Response:
        return JSONResponse({"ok": True, "team": "Demo", "user": "healthd"})

    async def post(self, request: Request) -> Response:
        body = await request.json()
        stamp = f"{int(time.time())}.{next(self._stamps):06d}"
        await self.inbox.add(
            "slack",
            str(body.get("channel")),
            str(body.get("text", "")),
            read_blocks(body),
            identity=stamp,
            thread=str(body.get("thread_ts") or ""),
        )
        return JSONResponse({"ok": True, "channel": "C0DEMO", "ts": stamp})

    async def update(self, request: Request) -> Response:
        body = await request.json()
        for caught in self.inbox.messages:
            if caught.way == "slack" and caught.identity == body.get("ts"):
                caught.subject, caught.text, caught.edited = str(body.get("text", "")), read_blocks(body), time.time()
                return JSONResponse({"ok": True, "channel": "C0DEMO", "ts": body["ts"]})
        return JSONResponse({"ok": False, "error": "message_not_found"})


def read_blocks(body: dict[str, Any]) -> str:
    """A Block Kit message as plain lines: every text in it, and where its buttons lead."""
    blocks = body.get("blocks") or []
    blocks = json.loads(blocks) if isinstance(blocks, str) else blocks
    lines: list[str] = []

    def walk(part: Any) -> None:
        if isinstance(part, list):
            for inner in part:
                walk(inner)
        elif isinstance(part, dict):
            if isinstance(part.get("text"), str):
                lines.append(part["text"])
            if isinstance(part.get("url"), str):
                lines.append(part["url"])
            for name in ("text", "fields", "elements", "accessory"):
                if not isinstance(part.get(name), str):
                    walk(part.get(name))

    walk(blocks)
    return "\n".join(lines)


class Catchers:
    """Both catchers behind one web address."""

    def __init__(self, sandbox_url: str, admin_url: str) -> None:
        self.inbox = Inbox()
        self._facts = {"sandbox_url": sandbox_url, "admin_url": admin_url}
        self._templates = Environment(loader=PackageLoader("healthd.demo"), autoescape=True, undefined=StrictUndefined)
        self.app = Starlette(
            routes=[
                Route("/", self.index),
                Route("/messages/{number:int}", self.show),
                Route("/messages", self.as_json),
                *SlackCatcher(self.inbox).routes(),
            ]
        )

    async def index(self, _: Request) -> Response:
        return self._page(messages=self.inbox.messages[::-1], **self._facts)

    async def as_json(self, _: Request) -> Response:
        return JSONResponse([{"at": m.at, "way": m.way, "to": m.to, "subject": m.subject} for m in self.inbox.messages])

    async def show(self, request: Request) -> Response:
        """The mail's own HTML, as a mail client would show it."""
        for caught in self.inbox.messages:
            if caught.number == request.path_params["number"] and caught.html:
                # Links leave the frame, as they leave a mail client.
                return Response(caught.html.replace("<head>", '<head><base target="_top">', 1), media_type="text/html")
        return RedirectResponse("/")

    def _page(self, **facts: Any) -> Response:
        return Response(self._templates.get_template("inbox.html.j2").render(facts), media_type="text/html")


class WebServer(uvicorn.Server):
    """Serves an application in the running loop, and leaves signals to its caller."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False, lifespan="off")
        )

    def install_signal_handlers(self) -> None:
        """None: the demo ends everything itself."""
