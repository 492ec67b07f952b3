"""What all of the operator's pages share: how one is shown, how a form is heard, and what is said afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from healthd.bodies import Unread, form_fields, read_body
from healthd.channels.platforms import platform_colour, platform_name
from healthd.core.duration import in_words
from healthd.core.masking import Mask
from healthd.core.model import Lane, NoticeKind, NoticeStatus, State
from healthd.core.roles import Role
from healthd.desk import Desk, NotNow, NotThere
from healthd.engine import Engine
from healthd.metrics import AllowanceReading
from healthd.providers.base import ProviderError
from healthd.store.database import Store
from healthd.store.views import BadCursor
from healthd.web.access import Access, Visitor
from healthd.web.guarding import HEADERS
from healthd.web.operator import words
from healthd.web.operator.live import Live

log = structlog.get_logger("healthd.web")

FORM_LIMIT = 16 * 1024
FORM_WITHIN = 10.0
PAGE = 50
"""Rows of a page."""

SAID: Mapping[str, str] = {
    "check": "It is being checked now: the answer shows here in a moment.",
    "acknowledge": "Noted: you are on it. Nobody is reminded, and nobody else is asked.",
    "snooze": "Noted: no reminders until then.",
    "resume": "Taken back: reminders go on.",
    "mute": "Muted: nobody is told of this account until then.",
    "unmute": "People are told of this account again.",
    "release": "What was held is on its way.",
    "pause-posting": "Posting is paused until somebody resumes it.",
    "resume-posting": "Posting goes on.",
    "retry": "The notice is on its way again.",
    "storm-release": "The storm is over: what was held is on its way.",
    "storm-cancel": "The storm is over: what was held has been withdrawn.",
    "trust": "The address is written to again.",
}
"""What a page says after an act, by the word in its address: nobody can make it say anything else."""


@dataclass(frozen=True, slots=True)
class Flash:
    """What has come of an act. ``link``: one to copy, that is shown once and stands in no address."""

    text: str
    tone: str = "good"
    link: str = ""


class NoPage(Exception):
    """There is no such page; the text says what there is not."""


Show = Callable[[Request, Flash | None, int], Awaitable[Response]]
Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    version: str


@dataclass
class Site:
    """``ways`` tells of what type each channel is; ``workspaces`` are those of the settings."""

    store: Store
    engine: Engine
    desk: Desk
    access: Access
    now: Callable[[], datetime]
    allowances: Callable[[], Mapping[str, AllowanceReading]]
    live: Live
    workspaces: Sequence[str]
    ways: Mapping[str, str]

    _assets: dict[str, _Asset] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._assets = _load_assets()
        self._mask = Mask(self.ways)
        self._templates = Environment(
            loader=PackageLoader("healthd.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self._templates.globals.update(_GLOBALS)
        self._templates.globals["asset"] = lambda name: f"/static/{name}?v={self._assets[name].version}"
        self._templates.filters.update(_FILTERS)

    def routes(self) -> list[Route]:
        """The live stream, and what the pages are dressed with, which tells nobody anything."""
        return [
            Route("/live", self.access.guard(Role.VIEWER, self.live.answer)),
            Route("/static/{name}", self._static),
        ]

    def page(self, path: str, show: Show, role: Role = Role.VIEWER) -> Route:
        """A page that is looked at."""

        async def look(request: Request) -> Response:
            try:
                return await show(request, _said(request), 200)
            except (NoPage, BadCursor) as error:
                return self.missing(request, str(error))

        return Route(path, self.access.guard(role, look), methods=["GET"])

    def act(self, path: str, show: Show, do: Callable[[Request, Mapping[str, str]], Awaitable[str | Flash]]) -> Route:
        """A form that is sent. ``do`` returns the path to go on to, or what ``show`` is to say at once."""

        async def press(request: Request) -> Response:
            try:
                form = await self._form(request)
                done = await do(request, form)
            except (NotThere, NoPage) as error:
                return self.missing(request, str(error))
            except NotNow as error:
                return await show(request, Flash(f"Nothing was done: {error}.", "bad"), 409)
            except ProviderError as error:
                return await show(request, Flash(f"The API did not do it: {error}.", "bad"), 502)
            if isinstance(done, Flash):
                return await show(request, done, 200)
            return RedirectResponse(done, 303)

        return Route(path, self.access.guard(Role.OPERATOR, press), methods=["POST"])

    async def _form(self, request: Request) -> dict[str, str]:
        try:
            raw = await read_body(request, FORM_LIMIT, FORM_WITHIN)
        except Unread as unread:
            raise NotNow(f"the form did not arrive ({unread.outcome})") from None
        form = {name: _as_utf8(value) for name, value in form_fields(raw).items()}
        self.access.check_write(request, request.state.visitor, form)
        return form

    def render(self, request: Request, template: str, flash: Flash | None, status: int, **facts: Any) -> Response:
        """``facts`` fill the template; every template knows who looks, and when."""
        visitor: Visitor = request.state.visitor
        sees_people = visitor.role.may(Role.OPERATOR)
        body = self._templates.get_template(f"operator/{template}.html.j2").render(
            visitor=visitor, may_act=sees_people, is_admin=visitor.role.may(Role.ADMIN), flash=flash, now=self.now(),
            path=request.url.path, see=self.seen_by(request), **facts,
        )  # fmt: skip
        return Response(body, status, media_type="text/html")

    def seen_by(self, request: Request) -> Callable[[str], str]:
        """What a text is to whoever looks: viewers see no addresses."""
        return str if request.state.visitor.role.may(Role.OPERATOR) else self._mask.text

    def missing(self, request: Request, text: str) -> Response:
        return self.render(request, "missing", None, 404, text=text)

    def document(self, content: str, policy: str) -> Response:
        """Somebody else's document, shown inside a page of ours and held to a policy of its own."""
        headers = dict(HEADERS) | {"content-security-policy": policy, "x-frame-options": "SAMEORIGIN"}
        return Response(content, headers=headers, media_type="text/html")

    async def _static(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            return PlainTextResponse("no such file\n", 404)
        headers = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
        return Response(asset.content, headers=headers, media_type=asset.media_type)


def _said(request: Request) -> Flash | None:
    text = SAID.get(request.query_params.get("said", ""))
    return Flash(text) if text else None


def _as_utf8(value: str) -> str:
    return value.encode("latin-1").decode("utf-8", "replace")


def address(path: str, **facts: Any) -> str:
    """The path with those of the parameters that are set; a list is repeated."""
    given = {name: value for name, value in facts.items() if value not in (None, "", [], ())}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript"}


def _load_assets() -> dict[str, _Asset]:
    found = {}
    for entry in files("healthd.web").joinpath("static", "operator").iterdir():
        media_type = _MEDIA_TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            found[entry.name] = _Asset(content, media_type, hashlib.sha256(content).hexdigest()[:12])
    return found


_GLOBALS: Mapping[str, Any] = {
    "STATES": words.STATES,
    "BAR": words.BAR,
    "NOTICES": words.NOTICES,
    "KINDS": words.KINDS,
    "CAUSES": words.CAUSES,
    "LANES": words.LANES,
    "HOLDS": words.HOLDS,
    "State": State,
    "NoticeStatus": NoticeStatus,
    "NoticeKind": NoticeKind,
    "Lane": Lane,
    "icon": words.icon,
    "badge": words.badge,
    "time": words.time_tag,
    "count": words.count,
    "address": address,
    "whose": words.whose,
    "space": Markup(" "),
}
_FILTERS: Mapping[str, Callable[..., Any]] = {
    "name": words.name,
    "short": words.short,
    "platform": platform_name,
    "colour": platform_colour,
    "span": in_words,
    "number": lambda value: f"{value:,}",
    "zip_self": lambda values: [(value, words.short(value)) for value in values],
    "zip_words": lambda keys, looks: [(key, looks[key].word) for key in keys],
    "zip_platforms": lambda values: [(value, platform_name(value)) for value in values],
}
