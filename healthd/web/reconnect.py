"""The page that a message's link leads to: it shows what is broken, and hands over a fresh provider link when pressed.

Mail scanners fetch every link and some press buttons, so looking never mints, and a press may be repeated: a robot
costs one of the provider's links, never the repair.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy import Connection
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from healthd.channels.wording import BY_HAND, platform_name
from healthd.core.cadence import NEEDS_AN_OPERATOR
from healthd.core.duration import in_words
from healthd.core.model import BROKEN, Cause, Lane, Resolution, State
from healthd.core.probing import CLICK_WINDOW
from healthd.core.text import clean
from healthd.links import Links, fingerprint
from healthd.providers.base import ForbiddenLink, Provider, ProviderError, RateLimited, Unavailable
from healthd.providers.smartlyq import is_allowed_link
from healthd.store import accounts, incidents
from healthd.store.accounts import StoredAccount
from healthd.store.database import Store, StoreUnavailable
from healthd.store.incidents import Incident, Link
from healthd.visitors import Mistakes, network

log = structlog.get_logger("healthd.web")

MINT_WITHIN = 8.0
"""Seconds for which a person waits for the provider's link before we say that it takes too long."""
FIRST_LOOK = timedelta(seconds=5)
"""When the account is looked at for the first time after a press: nobody gives consent faster."""
PATIENCE = timedelta(minutes=2)
"""How long after a press an account may stay broken before the page doubts that the right one was chosen."""
BODY_LIMIT = 4096
BODY_WITHIN = 5.0
PER_MINUTE, PER_HOUR = 5, 30
FORM_HOURS = 24
"""For how long an open page can be pressed before it has to be loaded again."""


def _nobody(_: str) -> None:
    """For those who do not count."""


async def _nobody_waits(*_: object) -> None:
    """For those who do not count."""


@dataclass(frozen=True, slots=True)
class PageHooks:
    """Told of each page shown, each press and each refusal, by a word from a closed set."""

    on_page: Callable[[str], None] = _nobody
    on_mint: Callable[[str], None] = _nobody
    on_trouble: Callable[[str, ProviderError], Awaitable[None]] = _nobody_waits
    on_answer: Callable[[str], Awaitable[None]] = _nobody_waits
    on_refused: Callable[[str], None] = _nobody


@dataclass(frozen=True, slots=True)
class Case:
    """What a link is about, as it stands now. ``pressed``: it was this visitor's browser that pressed the button.
    ``other_connected``: another account of the platform was connected since the last press.
    """

    token: str
    link: Link
    incident: Incident
    account: StoredAccount
    pressed: bool
    other_connected: bool

    def state(self, now: datetime) -> str:
        """One of the names in ``SAYINGS``."""
        if self.link.revoked_at is not None:
            return "over"
        if self.account.account.state is State.REMOVED or self.incident.resolution is Resolution.REMOVED:
            return "removed"
        if self.incident.resolved_at is not None:
            return "again" if self.account.account.state in BROKEN else "repaired"
        return "over" if now >= self.link.expires_at else self._progress(now)

    def _progress(self, now: datetime) -> str:
        """A robot's press leaves the page as it is for the person who opens it afterwards."""
        clicked = self.account.clicked_at
        if not self.pressed or clicked is None or now - clicked >= CLICK_WINDOW:
            return "unconfirmed" if self.incident.confirmed_at is None else "broken"
        return "still_broken" if self.other_connected or now - clicked >= PATIENCE else "waiting"


PRESSABLE = frozenset({"broken", "unconfirmed", "waiting", "still_broken"})
_GONE = frozenset({"over", "removed", "again"})
"""Shown with 410. A repaired account is no error: what the person came for has been done."""
_PRESSED = "pressed"
"""The cookie of a browser that pressed the button. It lives on this page's path alone, and opens nothing."""


class Refusal(Exception):
    """A request that is answered with a page other than the one it asked for."""

    def __init__(self, page: str, status: int, retry_after: int | None = None) -> None:
        super().__init__(page)
        self.page, self.status, self.retry_after = page, status, retry_after


@dataclass(frozen=True, slots=True)
class Saying:
    """What a page says. ``{account}``, ``{handle}``, ``{platform}``, ``{cause}`` and ``{wait}`` are filled in; the
    button stands only while the account can be reconnected.
    """

    tone: str
    badge: str
    title: str
    text: str
    more: str = ""
    button: str = ""

    def filled(self, words: Mapping[str, str]) -> dict[str, Markup]:
        """All but the tone, with the words in place: escaped, unless they are markup already."""
        parts = {name: getattr(self, name) for name in ("badge", "title", "text", "more", "button")}
        return {name: Markup(part).format(**words) for name, part in parts.items()}  # noqa: S704 - sentences of ours


SAYINGS: Mapping[str, Saying] = {
    "broken": Saying(
        "broken", "Disconnected", "{account} on {platform} needs to be reconnected", "{cause}",
        "Posts scheduled for it fail until it is reconnected.", "Reconnect on {platform}",
    ),
    "unconfirmed": Saying(
        "soon", "Not confirmed yet", "{account} on {platform} may need to be reconnected",
        "We were told that it lost its connection, but could not check it ourselves yet.",
        "Reconnecting it does no harm if it turns out to work.", "Reconnect on {platform}",
    ),
    "waiting": Saying(
        "soon", "Waiting for {platform}", "Waiting for {account} to be connected again",
        "When you have finished at {platform}, this page notices within a few seconds.",
        "Did {platform} not open, or did you close it?", "Open {platform} again",
    ),
    "still_broken": Saying(
        "broken", "Still disconnected", "{account} on {platform} is still not connected",
        "If you have finished there, you may have chosen another account than {handle}, or left out a permission.",
        "Please try again, choose {handle}, and leave all permissions ticked.", "Try again on {platform}",
    ),
    "repaired": Saying(
        "fixed", "Fixed", "{account} on {platform} is connected again",
        "Thank you. There is nothing more to do here, and you can close this page.",
        "Posts that failed in the meantime may have to be published again.",
    ),
    "again": Saying(
        "broken", "Disconnected again", "{account} on {platform} lost its connection again",
        "What this link was for has been repaired. It is not for what happened since then.",
        f"The newest message about this account has a link that works. You can also reconnect it at {BY_HAND}.",
    ),
    "removed": Saying(
        "quiet", "Removed", "{account} on {platform} is no longer connected here",
        "The account was removed from the workspace, so there is nothing to repair.",
    ),
    "over": Saying(
        "quiet", "Link expired", "This link no longer works",
        "Links in our messages end after some days. The newest message about this account has one that works.",
        f"You can also reconnect the account at {BY_HAND}.",
    ),
    "invalid": Saying(
        "quiet", "Unknown link", "This link is not one of ours, or not complete",
        "Mail programs sometimes cut long links. Open the link from the message itself, or copy all of it.",
        f"You can also reconnect the account at {BY_HAND}.",
    ),
    "busy": Saying(
        "soon", "One moment", "Too much is going on just now",
        "The service that opens the log-in page asks for patience. Please wait {wait}, and try again.",
        "This link stays valid.", "Try again",
    ),
    "often": Saying(
        "soon", "One moment", "That was a little too often",
        "Please wait {wait}, and try again.", "", "Try again",
    ),
    "unavailable": Saying(
        "soon", "Not reachable", "The log-in page cannot be opened just now",
        "The service behind it does not answer. That is not your doing: please try again in some minutes.",
        "This link stays valid.", "Try again",
    ),
    "operator": Saying(
        "soon", "Not possible just now", "Something has to be put right on our side first",
        "That is not your doing, and nothing that you could mend. Please try again later.",
        "This link stays valid.", "Try again",
    ),
    "missing": Saying(
        "soon", "Not found", "{account} on {platform} cannot be found just now",
        "It may have been removed from the workspace. Then there is nothing to do.",
        f"If you still see it at {BY_HAND}, you can reconnect it there.",
    ),
    "by_hand": Saying(
        "quiet", "Another way", "This account is connected in another way",
        f"{{platform}} does not take this account back by a link. Go to {BY_HAND}, and connect it again there.",
    ),
    "paused": Saying(
        "quiet", "Paused", "The profile of this account is paused",
        "The account can be reconnected, with this link, once the profile is resumed.",
    ),
    "stale": Saying(
        "soon", "Once more, please", "Please press the button once more",
        "This page was open for a long time, or was not opened from our message.", "", "Reconnect on {platform}",
    ),
    "method": Saying("quiet", "Not possible", "This cannot be done here", "Open the link from the message."),
}  # fmt: skip

_CAUSES = {
    Cause.TOKEN: "{platform} stopped accepting this account’s permission to publish {span} ago.",
    Cause.CONNECTION: "The connection to this account on {platform} stopped working {span} ago.",
}

_FAILURES: Mapping[str, tuple[str, int]] = {
    "rate_limited": ("busy", 503),
    "unavailable": ("unavailable", 503),
    "bad_answer": ("unavailable", 503),
    "unauthorized": ("operator", 503),
    "payment_required": ("operator", 503),
    "forbidden": ("operator", 503),
    "forbidden_link": ("operator", 503),
    "not_found": ("missing", 404),
    "conflict": ("paused", 409),
    "unprocessable": ("by_hand", 422),
}
"""Which page a provider's error leads to, and its status. One 404 does not prove that the account was removed."""


def reconnect_routes(
    *,
    store: Store,
    links: Links,
    providers: Mapping[str, Provider],
    allowed_hosts: Collection[str],
    now: Callable[[], datetime],
    wake: Callable[[str], None],
    hooks: PageHooks,
) -> list[Route]:
    """The public pages. ``wake`` is called with a workspace's name when one of its accounts is to be looked at soon."""
    page = ReconnectPage(store, links, providers, allowed_hosts, now, wake, hooks)
    return [
        Route("/robots.txt", _Endpoint(page, page.robots)),
        Route("/r/static/{name}", _Endpoint(page, page.static)),
        Route("/r/{token}", _Endpoint(page, page.answer, "GET", "HEAD", "POST")),
        Route("/r/{token}/state", _Endpoint(page, page.state)),
        *(Route(path, _Endpoint(page, page.nothing)) for path in ("/r", "/r/{rest:path}")),
    ]


class _Endpoint:
    """As a bare ASGI app: every answer, to any method and after any mistake of ours, gets the headers here."""

    def __init__(self, page: ReconnectPage, answer: Callable[[Request], Awaitable[Response]], *methods: str) -> None:
        self._page, self._answer, self._methods = page, answer, methods or ("GET", "HEAD")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._answered(request)
        for name, value in self._page.headers.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        if request.method not in self._methods:
            refused = self._page.refuse(Refusal("method", 405))
            refused.headers["allow"] = ", ".join(self._methods)
            return refused
        try:
            return await self._answer(request)
        except StoreUnavailable as error:
            log.warning("link.store_unavailable", reason=str(error))
            return self._page.refuse(Refusal("unavailable", 503, 10))
        except Exception:
            log.exception("link.failed")
            return self._page.refuse(Refusal("unavailable", 500))


@dataclass
class ReconnectPage:
    """Shows cases, and takes presses."""

    store: Store
    links: Links
    providers: Mapping[str, Provider]
    allowed_hosts: Collection[str]
    now: Callable[[], datetime]
    wake: Callable[[str], None]
    hooks: PageHooks

    _minting: dict[str, asyncio.Task[str]] = field(default_factory=dict)
    _mistakes: Mistakes = field(default_factory=Mistakes)

    def __post_init__(self) -> None:
        self._assets = _load_assets()
        self._templates = Environment(loader=PackageLoader("healthd.web"), autoescape=True, undefined=StrictUndefined)
        self._templates.globals["by_hand"] = BY_HAND
        self._templates.globals["asset"] = lambda name: f"/r/static/{name}?v={self._assets[name].version}"
        self.headers = _headers(self.allowed_hosts)

    async def answer(self, request: Request) -> Response:
        """``GET`` and ``HEAD`` show, ``POST`` is a press."""
        case: Case | None = None
        try:
            case = await self._case(request)
            return await self._press(request, case) if request.method == "POST" else self._show(case)
        except Refusal as refusal:
            return self.refuse(refusal, case)

    async def state(self, request: Request) -> Response:
        """What an open page asks again and again."""
        try:
            case = await self._case(request)
        except Refusal as refusal:
            return JSONResponse({"state": refusal.page}, refusal.status)
        return JSONResponse({"state": case.state(self.now())})

    async def static(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            return await self.nothing(request)
        forever = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(asset.content, media_type=asset.media_type, headers=forever)

    async def robots(self, _: Request) -> Response:
        """Those that read this fetch nothing; the others are the reason why fetching does nothing."""
        return PlainTextResponse("User-agent: *\nDisallow: /\n")

    async def nothing(self, _: Request) -> Response:
        return self.refuse(Refusal("invalid", 404))

    async def _case(self, request: Request) -> Case:
        token = str(request.path_params["token"])
        link_id = self.links.check(token)
        pressed = _PRESSED in request.cookies
        found = None if link_id is None else await self.store.read(_look_up, token, link_id, pressed)
        if found is None:
            if self._mistakes.again(network(_address(request)), asyncio.get_running_loop().time()):
                raise Refusal("often", 429, 60)
            raise Refusal("invalid", 404)
        return found

    def _show(self, case: Case) -> Response:
        name = case.state(self.now())
        self.hooks.on_page(name)
        return self._render(name, case, 410 if name in _GONE else 200)

    def refuse(self, refusal: Refusal, case: Case | None = None) -> Response:
        self.hooks.on_refused(refusal.page)
        response = self._render(refusal.page, case, refusal.status, refusal.retry_after)
        if refusal.retry_after is not None:
            response.headers["retry-after"] = str(refusal.retry_after)
        return response

    def _render(self, name: str, case: Case | None, status: int, wait: int | None = None) -> Response:
        saying = SAYINGS[name]
        words = _words(case, self.now(), wait)
        facts: dict[str, Any] = {
            **saying.filled(words),
            "page": name,
            "tone": saying.tone,
            "platform": words["platform"],
            "handle": words["handle"],
            "wait": wait,
            "press": None,
        }
        if case is not None:
            facts |= {"state": case.state(self.now()), "link": case.token}
            if saying.button and facts["state"] in PRESSABLE:
                facts["press"] = self._form(case.link, self.now())
        body = self._templates.get_template("reconnect.html.j2").render(facts)
        return Response(body, status, media_type="text/html")

    def _form(self, link: Link, now: datetime) -> str:
        """What proves that a press comes from a page of ours about this link, and not from long ago."""
        hour = int(now.timestamp()) // 3600
        return f"{hour}.{self.links.sign(f'{link.id}:{hour}')}"

    def _is_form(self, text: str, link: Link) -> bool:
        hour, _, proof = text.partition(".")
        if not (hour.isascii() and hour.isdecimal() and len(hour) <= 10):
            return False
        age = int(self.now().timestamp()) // 3600 - int(hour)
        return 0 <= age < FORM_HOURS and self.links.signed(f"{link.id}:{hour}", proof)

    async def _press(self, request: Request, case: Case) -> Response:
        """From the button to the provider's page."""
        if case.state(self.now()) not in PRESSABLE:
            return self._show(case)
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            raise Refusal("stale", 403)
        form = await _read_form(request)
        if not self._is_form(form.get("press", ""), case.link):
            raise Refusal("stale", 403)
        url = await self._mint_once(request, case)
        self.wake(case.account.account.workspace)
        response = RedirectResponse(url, 303)
        response.set_cookie(
            _PRESSED, "1", int(CLICK_WINDOW.total_seconds()), path=f"/r/{case.token}",
            secure=self.links.secure, httponly=True, samesite="lax",
        )  # fmt: skip
        return response

    async def _mint_once(self, request: Request, case: Case) -> str:
        """A double click sends two presses and shows the answer to the second: both get the same provider link."""
        minting = self._minting.get(case.link.id)
        if minting is None:
            minting = asyncio.create_task(self._mint(request, case))
            self._minting[case.link.id] = minting
            minting.add_done_callback(lambda _: self._minting.pop(case.link.id))
        return await asyncio.shield(minting)

    async def _check_pace(self, link: Link, now: datetime) -> None:
        minute, hour = timedelta(minutes=1), timedelta(hours=1)
        if await self.store.read(incidents.mints_since, link.id, now - minute) >= PER_MINUTE:
            raise Refusal("often", 429, 60)
        if await self.store.read(incidents.mints_since, link.id, now - hour) >= PER_HOUR:
            raise Refusal("often", 429, 3600)

    async def _mint(self, request: Request, case: Case) -> str:
        """A fresh provider link, on record. Raises ``Refusal`` with the page that explains why there is none."""
        await self._check_pace(case.link, self.now())
        account = case.account.account
        client = _client(request)
        about = {"workspace": account.workspace, "account_id": account.ref, "link": fingerprint(case.token)}
        try:
            url = await self._ask_provider(case)
        except ProviderError as error:
            self.hooks.on_mint(error.kind)
            log.warning("link.not_minted", kind=error.kind, request_id=error.request_id, **about)
            await self.store.run(self._record, case.link, error.kind, client, error.request_id)
            if error.kind in NEEDS_AN_OPERATOR:
                await self.hooks.on_trouble(account.workspace, error)
            page, status = _FAILURES.get(error.kind, ("unavailable", 503))
            wait = min(3600, max(1, math.ceil(error.retry_after))) if isinstance(error, RateLimited) else None
            raise Refusal(page, status, wait) from None
        await self.store.run(self._record, case.link, "minted", client, None)
        self.hooks.on_mint("minted")
        await self.hooks.on_answer(account.workspace)
        log.info("link.minted", **about)
        return url

    async def _ask_provider(self, case: Case) -> str:
        account = case.account.account
        provider = self.providers.get(account.workspace)
        if provider is None:
            raise Unavailable("the workspace is no longer configured")
        try:
            async with asyncio.timeout(MINT_WITHIN):
                url = await provider.mint(account.ref, case.account.profile or None)
        except TimeoutError:
            raise Unavailable(f"no link within {MINT_WITHIN:g} s") from None
        if not is_allowed_link(url, self.allowed_hosts):
            raise ForbiddenLink("the link leads outside the allowed hosts")
        return url

    def _record(self, connection: Connection, link: Link, outcome: str, client: str, request_id: str | None) -> None:
        """One transaction: the press is on record, and the account will be looked at soon."""
        now = self.now()
        incidents.record_mint(connection, link, outcome, client, now, request_id=request_id)
        if outcome == "minted":
            accounts.schedule_probe(connection, [link.account_id], now + FIRST_LOOK, Lane.CLICK)


def _look_up(connection: Connection, token: str, link_id: str, pressed: bool) -> Case | None:
    link = incidents.link(connection, link_id)
    incident = incidents.get(connection, link.incident_id) if link else None
    account = accounts.by_id(connection, link.account_id) if link else None
    if link is None or incident is None or account is None:
        return None
    clicked = account.clicked_at
    other = clicked is not None and incidents.other_connected_since(connection, account, clicked)
    return Case(token, link, incident, account, pressed, other)


def _words(case: Case | None, now: datetime, wait: int | None) -> dict[str, str]:
    """What is filled into a saying. Names that somebody else chose stand in <bdi>, so that they turn no sentence
    around.
    """
    patience = in_words(timedelta(seconds=wait or 60))
    if case is None:
        return {"account": "", "handle": "", "platform": "", "cause": "", "wait": patience}
    platform = platform_name(case.account.account.platform)
    span = in_words(now - case.incident.broken_at)
    return {
        "account": Markup("<bdi>{}</bdi>").format(case.account.name),
        "handle": Markup('<bdi class="handle">{}</bdi>').format(_handle(case.account)),
        "platform": platform,
        "cause": _CAUSES[case.incident.cause].format(span=span, platform=platform),
        "wait": patience,
    }


async def _read_form(request: Request) -> dict[str, str]:
    """The form's fields. Raises ``Refusal`` for one that is too long or too slow."""
    body = b""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise Refusal("stale", 413)
    except TimeoutError:
        raise Refusal("stale", 408) from None
    except ClientDisconnect:
        raise Refusal("stale", 400) from None
    try:
        fields = parse_qs(body.decode("latin-1"), max_num_fields=20)
    except ValueError:
        raise Refusal("stale", 400) from None
    return {name: values[0] for name, values in fields.items()}


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _client(request: Request) -> str:
    """Who pressed, as far as the record should know: enough to tell a robot from a person."""
    agent = clean(request.headers.get("user-agent", ""), 160)
    return f"{network(_address(request), v4=24, v6=48)} {agent}".rstrip()


def _handle(account: StoredAccount) -> str:
    username = account.username or ""
    return f"@{username.removeprefix('@')}" if username and " " not in username else username or account.name


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    version: str


_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript"}


def _load_assets() -> dict[str, _Asset]:
    """Our own style sheet and script; nothing on the page comes from anywhere else."""
    found = {}
    for entry in files("healthd.web").joinpath("static").iterdir():
        media_type = _MEDIA_TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            found[entry.name] = _Asset(content, media_type, hashlib.sha256(content).hexdigest()[:12])
    return found


def _headers(allowed_hosts: Collection[str]) -> dict[str, str]:
    """What goes with every answer.

    Chromium holds every redirect after a press against ``form-action``, those of the provider and the platform among
    them, and nobody can list where these lead. Where our own redirect leads is checked before it is sent.
    """
    local = "".join(f" http://{host}" for host in sorted(allowed_hosts) if ":" in host)
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; connect-src 'self'; "
        f"base-uri 'none'; frame-ancestors 'none'; form-action 'self' https:{local}"
    )
    return {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-robots-tag": "noindex, nofollow, noarchive",
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }
