"""The page that a message's link leads to: it shows what is broken, and hands over a fresh provider link when pressed.

Mail scanners fetch every link and some press buttons, so looking never mints, and a press may be repeated: a robot
costs one of the provider's links, never the repair.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import Connection
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from healthd.channels.wording import BY_HAND, platform_name
from healthd.core.duration import in_words
from healthd.core.model import Cause, Lane, Resolution, State
from healthd.core.probing import CLICK_WINDOW
from healthd.links import Links, fingerprint
from healthd.providers.base import ForbiddenLink, Provider, ProviderError, RateLimited, Unavailable
from healthd.providers.smartlyq import is_allowed_link
from healthd.store import accounts, incidents
from healthd.store.accounts import StoredAccount
from healthd.store.database import Store, StoreUnavailable
from healthd.store.incidents import Incident, Link
from healthd.web.visitors import Mistakes

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


@dataclass(frozen=True, slots=True)
class PageHooks:
    """Told of each page shown, each press and each refusal, by a word from a closed set."""

    on_page: Callable[[str], None] = _nobody
    on_mint: Callable[[str], None] = _nobody
    on_refused: Callable[[str], None] = _nobody


@dataclass(frozen=True, slots=True)
class Case:
    """What a link is about, as it stands now. ``other_connected``: another account of the platform was connected
    since the last press.
    """

    token: str
    link: Link
    incident: Incident
    account: StoredAccount
    other_connected: bool

    def state(self, now: datetime) -> str:
        """One of the names in ``SAYINGS``."""
        if self.account.account.state is State.REMOVED or self.incident.resolution is Resolution.REMOVED:
            return "removed"
        if self.incident.resolved_at is not None:
            return "repaired"
        if self.link.revoked_at is not None or now >= self.link.expires_at:
            return "over"
        return self._progress(now)

    def _progress(self, now: datetime) -> str:
        clicked = self.account.clicked_at
        if clicked is None or now - clicked >= CLICK_WINDOW:
            return "broken"
        return "still_broken" if self.other_connected or now - clicked >= PATIENCE else "waiting"


_METHODS = ("GET", "HEAD", "POST")
PRESSABLE = frozenset({"broken", "waiting", "still_broken"})


class Refusal(Exception):
    """A request that is answered with a page other than the one it asked for."""

    def __init__(self, page: str, status: int, retry_after: int | None = None) -> None:
        super().__init__(page)
        self.page, self.status, self.retry_after = page, status, retry_after


@dataclass(frozen=True, slots=True)
class Saying:
    """What a page says. ``{account}``, ``{handle}``, ``{platform}`` and ``{span}`` are filled in."""

    tone: str
    badge: str
    title: str
    text: str
    more: str = ""
    button: str = ""


SAYINGS: Mapping[str, Saying] = {
    "broken": Saying(
        "broken", "Disconnected", "{account} on {platform} needs to be reconnected", "{cause}",
        "Posts scheduled for it fail until it is reconnected.", "Reconnect on {platform}",
    ),
    "waiting": Saying(
        "soon", "Waiting for {platform}", "{account}: we are looking whether it works again",
        "When you have finished at {platform}, this page notices, usually within a few seconds.",
        "Did nothing open, or did you close it? Try again.", "Open {platform} again",
    ),
    "still_broken": Saying(
        "broken", "Still disconnected", "{account} on {platform} is still not connected",
        "If you have finished, you may have chosen another account than {handle}, or left out a permission or a page.",
        "Please try again, and choose {handle}.", "Try again on {platform}",
    ),
    "repaired": Saying(
        "fixed", "Fixed", "{account} on {platform} is connected again",
        "Thank you. There is nothing more to do here, and you can close this page.",
        "Posts that failed in the meantime may have to be published again.",
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
        "soon", "One moment", "Too many at once just now",
        "The service that opens the log-in page asks us to wait. Please try again in a minute.",
    ),
    "often": Saying(
        "soon", "One moment", "This link was used several times in a row",
        "Please wait a minute, and try again.",
    ),
    "unavailable": Saying(
        "soon", "Not reachable", "The log-in page cannot be opened just now",
        "The service behind it does not answer. That is not your doing: please try again in some minutes.",
        "This link stays valid.",
    ),
    "operator": Saying(
        "soon", "Not possible just now", "Something has to be put right on our side first",
        "The people who run this service have been told. This link stays valid: please try again later.",
    ),
    "by_hand": Saying(
        "quiet", "Another way", "{platform} accounts are connected in another way",
        f"This account cannot be reconnected by a link. Go to {BY_HAND}, and connect it there with its credentials.",
    ),
    "paused": Saying(
        "quiet", "Paused", "This account's profile is paused",
        "It can be reconnected once the profile is resumed.",
    ),
    "stale": Saying(
        "soon", "Please load the page again", "This page was open for too long",
        "Open the link from the message once more, and press the button there.",
    ),
    "method": Saying("quiet", "Not possible", "This cannot be done here", "Open the link from the message."),
}  # fmt: skip

_CAUSES = {
    Cause.TOKEN: "For {span} now, {platform} has not accepted the permission to publish that this account had given.",
    Cause.CONNECTION: "For {span} now, the connection to this account on {platform} has not worked.",
}

_FAILURES: Mapping[str, tuple[str, int]] = {
    "rate_limited": ("busy", 503),
    "unavailable": ("unavailable", 503),
    "bad_answer": ("unavailable", 503),
    "unauthorized": ("operator", 503),
    "payment_required": ("operator", 503),
    "forbidden": ("operator", 503),
    "forbidden_link": ("operator", 503),
    "not_found": ("removed", 404),
    "conflict": ("paused", 409),
    "unprocessable": ("by_hand", 422),
}
"""Which page a provider's error leads to, and its status."""


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
        Route("/r/static/{name}", _Endpoint(page.static, page.headers)),
        Route("/r/{token}", _Endpoint(page.answer, page.headers)),
        Route("/r/{token}/state", _Endpoint(page.state, page.headers)),
    ]


class _Endpoint:
    """As a bare ASGI app: every answer, to any method, passes here and gets the headers."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]], headers: Mapping[str, str]) -> None:
        self._answer, self._headers = answer, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        for name, value in self._headers.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)


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

    _pressing: set[str] = field(default_factory=set)
    _mistakes: Mistakes = field(default_factory=Mistakes)

    def __post_init__(self) -> None:
        self._assets = _load_assets()
        self._templates = Environment(loader=PackageLoader("healthd.web"), autoescape=True, undefined=StrictUndefined)
        self._templates.globals["asset"] = lambda name: f"/r/static/{name}?v={self._assets[name].version}"
        self.headers = _headers(self.allowed_hosts)

    async def answer(self, request: Request) -> Response:
        """``GET`` and ``HEAD`` show, ``POST`` is a press."""
        token = str(request.path_params["token"])
        case: Case | None = None
        if request.method not in _METHODS:
            return self._refuse(Refusal("method", 405), None)
        try:
            case = await self._case(request, token)
            return await self._press(request, case) if request.method == "POST" else self._show(case)
        except Refusal as refusal:
            self.hooks.on_refused(refusal.page)
            return self._refuse(refusal, case)
        except StoreUnavailable as error:
            log.warning("link.store_unavailable", reason=str(error))
            self.hooks.on_refused("store")
            return self._refuse(Refusal("unavailable", 503, 10), None)

    async def state(self, request: Request) -> Response:
        """What an open page asks again and again."""
        try:
            case = await self._case(request, str(request.path_params["token"]))
        except Refusal as refusal:
            return JSONResponse({"state": refusal.page}, refusal.status)
        except StoreUnavailable:
            return JSONResponse({"state": "unavailable"}, 503)
        return JSONResponse({"state": case.state(self.now())})

    async def static(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            return Response(status_code=404)
        forever = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(asset.content, media_type=asset.media_type, headers=forever)

    async def _case(self, request: Request, token: str) -> Case:
        link_id = self.links.check(token)
        found = None if link_id is None else await self.store.read(_look_up, token, link_id)
        if found is None:
            if self._mistakes.again(_address(request), asyncio.get_running_loop().time()):
                raise Refusal("often", 429, 60)
            raise Refusal("invalid", 404)
        return found

    def _show(self, case: Case, page: str | None = None, status: int = 200) -> Response:
        name = page or case.state(self.now())
        self.hooks.on_page(name)
        return self._render(name, case, status)

    def _refuse(self, refusal: Refusal, case: Case | None) -> Response:
        response = self._render(refusal.page, case, refusal.status)
        if refusal.retry_after is not None:
            response.headers["retry-after"] = str(refusal.retry_after)
        if refusal.status == 405:
            response.headers["allow"] = ", ".join(_METHODS)
        return response

    def _render(self, name: str, case: Case | None, status: int) -> Response:
        saying = SAYINGS[name]
        facts: dict[str, Any] = {"page": name, "saying": saying, "press": None, "subject": None, "link": None}
        if case is not None:
            now = self.now()
            span = in_words(now - case.incident.broken_at)
            platform = platform_name(case.account.account.platform)
            facts["subject"] = {
                "account": case.account.name,
                "handle": _handle(case.account),
                "platform": platform,
                "span": span,
                "cause": _CAUSES[case.incident.cause].format(span=span, platform=platform),
            }
            facts["link"] = case.token
            facts["press"] = self._form(case.link, now) if name in PRESSABLE else None
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
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            raise Refusal("stale", 403)
        form = await _read_form(request)
        if not self._is_form(form.get("press", ""), case.link):
            raise Refusal("stale", 403)
        now = self.now()
        if case.state(now) not in PRESSABLE:
            return self._show(case)
        if case.link.id in self._pressing:
            raise Refusal("often", 429, 10)
        self._pressing.add(case.link.id)
        try:
            await self._check_pace(case.link, now)
            url = await self._mint(request, case)
        finally:
            self._pressing.discard(case.link.id)
        self.wake(case.account.account.workspace)
        return RedirectResponse(url, 303)

    async def _check_pace(self, link: Link, now: datetime) -> None:
        minute, hour = timedelta(minutes=1), timedelta(hours=1)
        if await self.store.read(incidents.mints_since, link.id, now - minute) >= PER_MINUTE:
            raise Refusal("often", 429, 60)
        if await self.store.read(incidents.mints_since, link.id, now - hour) >= PER_HOUR:
            raise Refusal("often", 429, 3600)

    async def _mint(self, request: Request, case: Case) -> str:
        """A fresh provider link, on record. Raises ``Refusal`` with the page that explains why there is none."""
        account = case.account.account
        about = {"workspace": account.workspace, "account_id": account.ref, "link": fingerprint(case.token)}
        try:
            url = await self._ask_provider(case)
        except ProviderError as error:
            self.hooks.on_mint(error.kind)
            log.warning("link.not_minted", kind=error.kind, request_id=error.request_id, **about)
            await self.store.run(self._record, case.link, error.kind, _address(request), error.request_id)
            page, status = _FAILURES.get(error.kind, ("unavailable", 503))
            raise Refusal(page, status, int(error.retry_after) if isinstance(error, RateLimited) else None) from None
        await self.store.run(self._record, case.link, "minted", _address(request), None)
        self.hooks.on_mint("minted")
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


def _look_up(connection: Connection, token: str, link_id: str) -> Case | None:
    link = incidents.link(connection, link_id)
    incident = incidents.get(connection, link.incident_id) if link else None
    account = accounts.by_id(connection, link.account_id) if link else None
    if link is None or incident is None or account is None:
        return None
    clicked = account.clicked_at
    other = clicked is not None and incidents.other_connected_since(connection, account, clicked)
    return Case(token, link, incident, account, other)


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
    fields = parse_qs(body.decode("latin-1"), max_num_fields=20)
    return {name: values[0] for name, values in fields.items()}


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


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
    """What goes with every answer. Chromium holds the redirect after a press against ``form-action``, too."""
    targets = " ".join(f"http://{host}" if ":" in host else f"https://{host}" for host in sorted(allowed_hosts))
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        f"base-uri 'none'; frame-ancestors 'none'; form-action 'self' {targets}"
    )
    return {
        "content-security-policy": policy.rstrip(),
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-robots-tag": "noindex, nofollow",
        "x-frame-options": "DENY",
        "x-content-type-options": "nosniff",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }
