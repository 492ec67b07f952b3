"""The page that a message's link leads to: it shows what is broken, and hands over a fresh provider link when pressed.

Mail scanners fetch every link and some press buttons, so looking never mints, and a press may be repeated: a robot
costs one of the provider's links, never the repair.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from healthd.bodies import Unread, form_fields, read_body
from healthd.channels.wording import BY_HAND
from healthd.core.cadence import NEEDS_AN_OPERATOR
from healthd.core.duration import in_words
from healthd.core.model import Lane
from healthd.core.probing import CLICK_WINDOW
from healthd.core.text import clean
from healthd.dispatch import Dispatch
from healthd.links import Links, fingerprint
from healthd.providers.base import ForbiddenLink, Provider, ProviderError, RateLimited, Unavailable
from healthd.providers.smartlyq import is_allowed_link
from healthd.store import accounts, incidents, notices
from healthd.store.database import Store, StoreUnavailable
from healthd.store.incidents import Link, Step
from healthd.visitors import Mistakes, network
from healthd.web import noting
from healthd.web.guarding import HARDENED, harden
from healthd.web.reconnect_cases import OPEN_PAGES, PRESSABLE, WATCHED, Case, Visit, all_of, cookie_of, look_up
from healthd.web.reconnect_words import SAYINGS, noted, rows_of, words_for

log = structlog.get_logger("healthd.web")

MINT_WITHIN = 8.0
"""Seconds for which a person waits for the provider's link before we say that it takes too long."""
NOTED_WITHIN = 0.5
"""Seconds for which a page waits for its being shown to be on record."""
FIRST_LOOK = timedelta(seconds=5)
"""When the account is looked at for the first time after a press: nobody gives consent faster."""
BODY_LIMIT = 4096
BODY_WITHIN = 5.0
PER_MINUTE, PER_HOUR = 5, 30
MORE_PER_MINUTE, EACH_PER_HOUR = 5, 5
"""A link to several accounts may be pressed that much more often: five more times a minute at the most, so that a robot
that presses all there is stays cheap, and five more times an hour for each account.
"""
NOTES_AT_ONCE, NOTES_PER_SECOND = 10, 1 / 60
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
    on_steps: Callable[[list[Step]], None] = lambda _: None
    """Told of incidents whose page was shown, or that were given a provider's link, for the first time."""
    on_noted: Callable[[str], None] = _nobody
    """Told ``acknowledge``, ``snooze:1d``, ``snooze:3d`` or ``resume``, after which notices may be due."""


_GONE = frozenset({"over", "removed", "again", "several_removed", "several_again"})
"""Shown with 410. A repaired account is no error: what the person came for has been done."""


class Refusal(Exception):
    """A request that is answered with a page other than the one it asked for. ``case``: what it was about."""

    def __init__(self, page: str, status: int, retry_after: int | None = None, case: Case | None = None) -> None:
        super().__init__(page)
        self.page, self.status, self.retry_after, self.case = page, status, retry_after, case


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
    dispatch: Dispatch | None = None,
) -> list[Route]:
    """The public pages. ``wake`` is called with a workspace's name when one of its accounts is to be looked at soon;
    ``dispatch`` is what notes that somebody is on it, by the usual choices where none is given.
    """
    page = ReconnectPage(store, links, providers, allowed_hosts, now, wake, hooks, dispatch or Dispatch())
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
        response = harden(await self._answered(request), self._page.headers)
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
    dispatch: Dispatch = field(default_factory=Dispatch)

    _minting: dict[tuple[str, str], asyncio.Task[str]] = field(default_factory=dict)
    _mistakes: Mistakes = field(default_factory=Mistakes)
    _notes: Mistakes = field(default_factory=lambda: Mistakes(NOTES_AT_ONCE, NOTES_PER_SECOND))

    def __post_init__(self) -> None:
        self._assets = _load_assets()
        self._templates = Environment(loader=PackageLoader("healthd.web"), autoescape=True, undefined=StrictUndefined)
        self._templates.globals["by_hand"] = BY_HAND
        self._templates.globals["asset"] = lambda name: f"/r/static/{name}?v={self._assets[name].version}"
        self.headers = _headers(self.allowed_hosts)

    async def answer(self, request: Request) -> Response:
        """``GET`` and ``HEAD`` show, ``POST`` is a press."""
        visit: Visit | None = None
        try:
            visit = await self._visit(request)
            if request.method == "POST":
                return await self._take(request, visit)
            if request.method == "GET":
                await self._note_shown(visit)
            return self._show(visit)
        except Refusal as refusal:
            return self.refuse(refusal, visit)

    async def state(self, request: Request) -> Response:
        """What an open page asks again and again."""
        try:
            visit = await self._visit(request)
        except Refusal as refusal:
            return JSONResponse({"state": refusal.page}, refusal.status)
        now = self.now()
        found: dict[str, Any] = {"state": visit.state(now)}
        if visit.several:
            found["incidents"] = [{"incident": case.incident.id, "state": state} for case, state in visit.rows(now)]
        return JSONResponse(found)

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

    async def _visit(self, request: Request) -> Visit:
        token = str(request.path_params["token"])
        link_id = self.links.check(token)
        found = None if link_id is None else await self.store.read(look_up, token, link_id, tuple(request.cookies))
        if found is None:
            if self._mistakes.again(network(_address(request)), asyncio.get_running_loop().time()):
                raise Refusal("often", 429, 60)
            raise Refusal("invalid", 404)
        return found

    async def _note_shown(self, visit: Visit) -> None:
        """Each incident's page is noted once, and never at the price of showing it."""
        cases = [case.incident for case in visit.cases]
        fresh = [one.id for one in cases if one.page_at is None and one.resolved_at is None]
        if fresh:
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(NOTED_WITHIN):
                    self.hooks.on_steps(await self.store.alongside(incidents.reached, "opened", fresh, self.now()))

    def _show(self, visit: Visit, status: int | None = None) -> Response:
        name = visit.state(self.now())
        self.hooks.on_page(name)
        return self._render(name, visit, None, status or (410 if name in _GONE else 200))

    def refuse(self, refusal: Refusal, visit: Visit | None = None) -> Response:
        self.hooks.on_refused(refusal.page)
        response = self._render(refusal.page, visit, refusal.case, refusal.status, refusal.retry_after)
        if refusal.retry_after is not None:
            response.headers["retry-after"] = str(refusal.retry_after)
        return response

    def _render(
        self, name: str, visit: Visit | None, case: Case | None, status: int, wait: int | None = None
    ) -> Response:
        """``case`` is what the page is about; without one, what this visitor has to repair next."""
        now, saying = self.now(), SAYINGS[name]
        rows = visit.rows(now) if visit else []
        case, state = next((row for row in rows if row[0] is case), rows[0]) if rows else (None, "")
        words = words_for(case, visit, now, wait)
        facts: dict[str, Any] = {
            **saying.filled(words),
            "page": name,
            "tone": saying.tone,
            "platform": words["platform"],
            "handle": words["handle"],
            "wait": wait,
            "case": case,
            "offered": state in PRESSABLE and (bool(saying.button) or name == "several"),
            "refusal": visit is not None and name != visit.state(now),
            "watched": name in WATCHED or (name == "several" and state in WATCHED),
            "visit": visit,
            "states": " ".join(state for _, state in rows),
            "rows": rows_of(visit, now) if visit and name.startswith("several") else [],
            "noted": noted(visit, now) if visit else "",
            "acknowledged_for": in_words(self.dispatch.cadence.acknowledge_for),
            "proof": lambda incident: self._form(visit.case(incident).link, now),  # type: ignore[union-attr]
        }
        body = self._templates.get_template("reconnect.html.j2").render(facts)
        return Response(body, status, media_type="text/html")

    def _form(self, link: Link, now: datetime) -> str:
        """What proves that a press comes from a page of ours about this link and incident, and not from long ago."""
        hour = int(now.timestamp()) // 3600
        return f"{hour}.{self.links.sign(f'{link.id}:{link.incident_id}:{hour}')}"

    def _is_form(self, text: str, link: Link) -> bool:
        hour, _, proof = text.partition(".")
        if not (hour.isascii() and hour.isdecimal() and len(hour) <= 10):
            return False
        age = int(self.now().timestamp()) // 3600 - int(hour)
        return 0 <= age < FORM_HOURS and self.links.signed(f"{link.id}:{link.incident_id}:{hour}", proof)

    async def _take(self, request: Request, visit: Visit) -> Response:
        """One of the page's buttons was pressed."""
        if visit.state(self.now()) not in OPEN_PAGES:
            return self._show(visit)
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            raise Refusal("stale", 403)
        form = await _read_form(request)
        case, said = visit.case(form.get("incident")), form.get("do")
        if case is None or not self._is_form(form.get("press", ""), case.link):
            if said is not None:
                return self._show(visit, 403)
            raise Refusal("stale", 403, case=case)
        return await self._press(request, visit, case) if said is None else await self._note(visit, said)

    async def _press(self, request: Request, visit: Visit, case: Case) -> Response:
        """From the button to the provider's page."""
        if case.state(self.now()) not in PRESSABLE:
            return self._show(visit)
        url = await self._mint_once(request, visit, case)
        self.wake(case.account.account.workspace)
        response = RedirectResponse(url, 303)
        response.set_cookie(
            cookie_of(visit.link, case.incident.id), "1", int(CLICK_WINDOW.total_seconds()), path=f"/r/{case.token}",
            secure=self.links.secure, httponly=True, samesite="lax",
        )  # fmt: skip
        return response

    async def _note(self, visit: Visit, said: str) -> Response:
        """Somebody is on it, or wants to hear of it later, or takes that back."""
        if said not in noting.SAID:
            return self._show(visit, 400)
        if self._notes.again(visit.link.id, asyncio.get_running_loop().time()):
            return self._show(visit, 429)
        count = await self.store.run(self._write_note, visit.link, said)
        log.info("link.noted", said=said, accounts=count, link=fingerprint(visit.token))
        self.hooks.on_noted(said)
        return RedirectResponse(f"/r/{visit.token}", 303)

    def _write_note(self, connection: Connection, link: Link, said: str) -> int:
        """One transaction, about all that the link leads to. A link proves no more than whom it was sent to."""
        told = notices.told_through(connection, link.incident_id, link.target)
        who = (told and told.contact) or "reader of the link"
        return noting.note(connection, self.dispatch, all_of(connection, link), said, self.now(), who)

    async def _mint_once(self, request: Request, visit: Visit, case: Case) -> str:
        """A double click sends two presses and shows the answer to the second: both get the same provider link."""
        key = (visit.link.id, case.incident.id)
        minting = self._minting.get(key)
        if minting is None:
            before = sum(link == visit.link.id for link, _ in self._minting)
            minting = asyncio.create_task(self._mint(request, case, len(visit.cases) + visit.more, before))
            self._minting[key] = minting
            minting.add_done_callback(lambda _: self._minting.pop(key))
        return await asyncio.shield(minting)

    async def _check_pace(self, case: Case, number: int, before: int) -> None:
        """Whether a link to so many accounts may be pressed once more, besides the presses that are under way."""
        now, link = self.now(), case.link.id
        minute, hour = timedelta(minutes=1), timedelta(hours=1)
        in_minute = PER_MINUTE + min(number - 1, MORE_PER_MINUTE)
        if before + await self.store.read(incidents.mints_since, link, now - minute) >= in_minute:
            raise Refusal("often", 429, 60, case)
        in_hour = PER_HOUR + (number - 1) * EACH_PER_HOUR
        if before + await self.store.read(incidents.mints_since, link, now - hour) >= in_hour:
            raise Refusal("often", 429, 3600, case)

    async def _mint(self, request: Request, case: Case, number: int, before: int) -> str:
        """A fresh provider link, on record. Raises ``Refusal`` with the page that explains why there is none."""
        await self._check_pace(case, number, before)
        account = case.account.account
        turn = self.store.within(account.workspace)
        client = _client(request)
        about = {"workspace": account.workspace, "account_id": account.ref, "link": fingerprint(case.token)}
        try:
            url = await self._ask_provider(case)
        except ProviderError as error:
            self.hooks.on_mint(error.kind)
            log.warning("link.not_minted", kind=error.kind, request_id=error.request_id, **about)
            await turn.run(self._record, case.link, error.kind, client, error.request_id)
            if error.kind in NEEDS_AN_OPERATOR:
                await self.hooks.on_trouble(account.workspace, error)
            page, status = _FAILURES.get(error.kind, ("unavailable", 503))
            wait = min(3600, max(1, math.ceil(error.retry_after))) if isinstance(error, RateLimited) else None
            raise Refusal(page, status, wait, case) from None
        self.hooks.on_steps(await turn.run(self._record, case.link, "minted", client, None))
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

    def _record(
        self, connection: Connection, link: Link, outcome: str, client: str, request_id: str | None
    ) -> list[Step]:
        """One transaction: the press is on record, and the account will be looked at soon."""
        now = self.now()
        incidents.record_mint(connection, link, outcome, client, now, request_id=request_id)
        if outcome != "minted":
            return []
        accounts.schedule_probe(connection, [link.account_id], now + FIRST_LOOK, Lane.CLICK)
        return incidents.reached(connection, "minted", [link.incident_id], now)


async def _read_form(request: Request) -> dict[str, str]:
    """The form's fields. Raises ``Refusal`` for one that is too long or too slow."""
    try:
        return form_fields(await read_body(request, BODY_LIMIT, BODY_WITHIN))
    except Unread as unread:
        raise Refusal("stale", unread.status) from None
    except ValueError:
        raise Refusal("stale", 400) from None


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _client(request: Request) -> str:
    """Who pressed, as far as the record should know: enough to tell a robot from a person."""
    agent = clean(request.headers.get("user-agent", ""), 160)
    return f"{network(_address(request), v4=24, v6=48)} {agent}".rstrip()


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
    return {**HARDENED, "content-security-policy": policy, "referrer-policy": "no-referrer"}
