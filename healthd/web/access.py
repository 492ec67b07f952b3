"""The door of the private listener: who is asking, and whether they may.

There are four ways in. A bearer token, for machines. A session, which begins with a token or at an identity provider. A
header by a proxy that knows its people, from listed addresses. And on a loopback address where nothing of that is set
up, being on this machine.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from urllib.parse import quote, urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from healthd.access import LONGEST_TOKEN
from healthd.config import Settings
from healthd.core.roles import Role
from healthd.core.text import clean
from healthd.outbound import is_loopback
from healthd.store import access as stored
from healthd.store.access import NOTE_USE_EVERY, AccessToken, Session, digest_of
from healthd.store.database import Store, StoreUnavailable
from healthd.visitors import Mistakes, Seldom, network
from healthd.web.guarding import (
    SAFE_METHODS,
    SESSION_COOKIE,
    Forbidden,
    NotSignedIn,
    Proven,
    Visitor,
    cookie_name,
    harden,
    own_path,
    peer,
    problem,
    wants_page,
)
from healthd.web.sign_in import SignIn

__all__ = ["Access", "Forbidden", "NobodyMayEnter", "NotSignedIn", "Visitor"]

log = structlog.get_logger("healthd.web")

Endpoint = Callable[[Request], Awaitable[Response]]

_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class NobodyMayEnter(OSError):
    """The private listener can be reached from elsewhere, and nothing would tell whom to let in."""


class Access:
    """Decides on every request. ``heard`` is told of each sign-in and each refusal by a word from a closed set."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        now: Callable[[], datetime],
        heard: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings.access
        self.store, self.now, self.heard = store, now, heard
        self._is_local = settings.server.admin_is_local
        self._given = {
            digest_of(one.token.get_secret_value()): Proven(f"token:{name}", one.role)
            for name, one in settings.access.tokens.items()
        }
        self._roles: dict[str, Role | None] = {_origin(digest): one.role for digest, one in self._given.items()}
        if settings.access.oidc is not None:
            self.oidc_origin = f"oidc:{_origin(settings.access.oidc.model_dump_json(exclude={'client_secret'}))}"
            self._roles[self.oidc_origin] = None
        self._key = secrets.token_bytes(32)
        self._mistakes = Mistakes()
        self._refusals = 0
        self._told = Seldom()
        self._sign_in = SignIn(self)

    # Whom we know

    async def check_door(self) -> None:
        """Raises ``NobodyMayEnter`` where the listener leaves this machine and nobody could prove who they are."""
        if self._is_local or not self.settings.asks or self.settings.by_settings:
            return
        if not await self.store.read(stored.has_tokens):
            raise NobodyMayEnter(
                "server.admin_listen can be reached from other machines, and nobody could sign in there. Make a token "
                "(healthd token create NAME --role admin), set up [access.oidc] or [access.proxy], or set [access] "
                "pages = false, which leaves /metrics, /livez and /readyz"
            )

    async def visitor(self, request: Request) -> Visitor:
        """Raises ``NotSignedIn``, ``Forbidden`` or ``StoreUnavailable``."""
        proxied = self._by_proxy(request)
        if proxied is not None:
            return proxied
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            proven = await self.by_token(request, secret.strip())
            return Visitor(proven.who, proven.role, "bearer", "")
        signed_in = await self._by_session(request)
        if signed_in is not None:
            return signed_in
        if await self._is_open():
            return self._by_place(request)
        raise NotSignedIn

    async def by_token(self, request: Request, secret: str) -> Proven:
        """Whose token it is. Raises ``NotSignedIn``. A good token is good, however many wrong ones came from there."""
        proven = None
        if len(secret) <= LONGEST_TOKEN and secret.isascii():
            proven = await self._find_token(digest_of(secret))
        if proven is None:
            await self.note_refusal(request, "token")
            too_often = self._mistakes.again(network(peer(request)), self.now().timestamp())
            raise NotSignedIn(wrong=True, too_often=too_often)
        return proven

    async def _find_token(self, digest: str) -> Proven | None:
        found = None
        for known, proven in self._given.items():
            if hmac.compare_digest(known, digest):
                found = Proven(proven.who, proven.role, _origin(known))
        if found is not None:
            return found
        token = await self.store.read(stored.token_of, digest, self.now())
        if token is None:
            return None
        await self._note_use(token)
        return Proven(token.who, token.role, token_id=token.id, expires_at=token.expires_at)

    async def _note_use(self, used: AccessToken | Session) -> None:
        now = self.now()
        if used.used_at is not None and now - used.used_at < NOTE_USE_EVERY:
            return
        # Whoever comes to see what is wrong with a full disk must not be kept out by it.
        with suppress(StoreUnavailable):
            if isinstance(used, AccessToken):
                await self.store.alongside(stored.note_token_use, used.id, now)
            else:
                await self.store.alongside(stored.note_session_use, used, now)

    async def _by_session(self, request: Request) -> Visitor | None:
        cookie = self.cookie(request)
        if cookie is None:
            return None
        session = await self.store.read(stored.session_of, digest_of(cookie), self.now())
        if session is None:
            return None
        if session.token_id is None and session.origin not in self._roles:
            return None
        role = self._roles.get(session.origin) or session.role
        await self._note_use(session)
        return Visitor(session.who, role, "session", _mac(cookie.encode(), "csrf"))

    def _by_proxy(self, request: Request) -> Visitor | None:
        chosen = self.settings.proxy
        if chosen is None:
            return None
        said = request.headers.getlist(chosen.header)
        groups = request.headers.getlist(chosen.groups_header) if chosen.groups_header else []
        if not said and not groups:
            return None
        if not chosen.believes(peer(request)):
            self.heard("proxy_refused")
            if self._told.is_due("proxy", self.now().timestamp()):
                log.warning("access.proxy_header_refused", peer=network(peer(request)))
            raise Forbidden(f"{chosen.header} is believed from access.proxy.addresses only, and this is none of them.")
        name = clean(said[0], 200) if len(said) == 1 else ""
        if not name or len(groups) > 1:
            raise Forbidden(f"The proxy must say once, and only once, who you are, in {chosen.header}.")
        role = chosen.grants().role(name, [one.strip() for line in groups for one in line.split(",")])
        if role is None:
            self.heard("proxy_refused")
            raise Forbidden("You are signed in at the proxy, and have no role here: an admin can give you one.")
        return Visitor(f"proxy:{name}", role, "proxy", _mac(self._key, f"proxy:{name}"))

    async def _is_open(self) -> bool:
        """Whether being on this machine is enough."""
        return self._is_local and not self.settings.by_settings and not await self.store.read(stored.has_tokens)

    def _by_place(self, request: Request) -> Visitor:
        """A name that leads here from outside (DNS rebinding) or a proxy in front: then it is not this machine's own
        people who ask.
        """
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not is_loopback(_host_name(hosts[0])):
            raise Forbidden(
                "Without anything in [access], this page answers under localhost, 127.0.0.1 or [::1] only. For another "
                "name, make a token: healthd token create NAME --role admin"
            )
        if any(header in request.headers for header in _FORWARDED):
            raise Forbidden(
                "A proxy stands in front of this page, and nobody has to sign in: make a token first, with "
                "healthd token create NAME --role admin"
            )
        return Visitor("local", Role.ADMIN, "local", _mac(self._key, "local"))

    # What they may do

    def guard(self, role: Role, endpoint: Endpoint) -> Endpoint:
        """The endpoint, for those with this role. It finds the visitor in ``request.state.visitor``, and calls
        ``check_write`` before it changes anything. ``HEADERS`` go with the answer where it has none of its own.
        """

        @functools.wraps(endpoint)
        async def guarded(request: Request) -> Response:
            return harden(await self._answered(role, endpoint, request))

        return guarded

    async def _answered(self, role: Role, endpoint: Endpoint, request: Request) -> Response:
        try:
            request.state.visitor = await self._let_in(request, role)
            return await endpoint(request)
        except NotSignedIn as error:
            return self._ask_to_sign_in(request, error)
        except Forbidden as error:
            if wants_page(request):
                return self._sign_in.page(403, str(error), _wanted(request))
            return problem(403, "Forbidden", str(error))
        except StoreUnavailable as error:
            return PlainTextResponse(f"The database does not answer: {error}\n", 503)

    async def _let_in(self, request: Request, role: Role) -> Visitor:
        visitor = await self.visitor(request)
        if not visitor.role.may(role):
            raise Forbidden(f"This needs the role {role}; {visitor.who} is {visitor.role}.")
        if request.method not in SAFE_METHODS and visitor.by != "bearer":
            self.check_origin(request)
        return visitor

    def check_write(self, request: Request, visitor: Visitor, form: Mapping[str, str] | None = None) -> None:
        """Whether a change comes from a page of ours: the form's ``csrf``, or ``X-CSRF-Token``, and what the browser
        says of where it comes from. A bearer token is proof enough. Raises ``Forbidden``.
        """
        if visitor.by == "bearer":
            return
        self.check_origin(request)
        given = (form or {}).get("csrf") or request.headers.get("x-csrf-token", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), visitor.csrf.encode()):
            raise Forbidden("That page is from before you signed in: load it again, and then press the button.")

    def check_origin(self, request: Request) -> None:
        """Raises ``Forbidden`` where the browser says that another site asks."""
        origin = request.headers.get("origin")
        elsewhere = request.headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}
        if elsewhere or (origin is not None and not self._is_ours(origin, request)):
            raise Forbidden("Another site sent this, so nothing was done. Where this is wrong, check access.url.")

    def _is_ours(self, origin: str, request: Request) -> bool:
        if origin == self.settings.url:
            return True
        parts = urlsplit(origin)
        return parts.scheme in {"http", "https"} and parts.netloc == request.headers.get("host", "")

    def _ask_to_sign_in(self, request: Request, error: NotSignedIn) -> Response:
        if wants_page(request):
            return RedirectResponse(f"/sign-in?next={quote(_wanted(request), safe='/')}", 303)
        if error.too_often:
            return problem(429, "Too many wrong tokens", headers={"retry-after": "60"})
        headers = {"www-authenticate": 'Bearer realm="healthd"' + (', error="invalid_token"' if error.wrong else "")}
        if "hx-request" in request.headers:
            # A part of a page that is asked for: the whole page has to go.
            wanted = own_path(urlsplit(request.headers.get("hx-current-url", "")).path)
            headers["hx-redirect"] = f"/sign-in?next={quote(wanted, safe='/')}"
        detail = "The token is unknown, expired or revoked." if error.wrong else "Send Authorization: Bearer TOKEN."
        return problem(401, "Not signed in", detail, headers)

    # Sessions

    def routes(self) -> list[Route]:
        """Signing in and out."""
        return self._sign_in.routes()

    async def begin(self, request: Request, proven: Proven, how: str) -> tuple[str, int]:
        """A new session: its cookie, and for how many seconds it lasts. What the browser had before ends.

        Raises ``NotSignedIn`` where the token has been revoked meanwhile.
        """
        now = self.now()
        ends_at = now + self.settings.session_lifetime
        if proven.expires_at is not None:
            ends_at = min(ends_at, proven.expires_at)
        cookie, before = stored.new_secret(), self.cookie(request)
        session = Session(digest_of(cookie), proven.who, proven.role, proven.token_id, proven.origin, now, now, ends_at)
        begun = await self.store.alongside(
            stored.begin_session, session, instead_of=digest_of(before) if before else None, how=how
        )
        if not begun:
            raise NotSignedIn(wrong=True)
        self.heard(how)
        return cookie, int((ends_at - now).total_seconds())

    async def end(self, request: Request) -> None:
        cookie = self.cookie(request)
        if cookie is not None:
            await self.store.alongside(stored.end_session, digest_of(cookie))

    def cookie(self, request: Request) -> str | None:
        """The session's cookie. Where people come by https, one that was set without it may be somebody else's."""
        found = request.cookies.get(cookie_name(SESSION_COOKIE, secure=True))
        if found is None and (not self.is_https or is_loopback(_host_name(request.headers.get("host", "")))):
            found = request.cookies.get(SESSION_COOKIE)
        return found or None

    @property
    def is_https(self) -> bool:
        return (self.settings.url or "").startswith("https:")

    def is_secure(self, request: Request) -> bool:
        """Whether the browser speaks TLS, to us or to a proxy: its ``Origin`` says so, or the settings do."""
        origin = request.headers.get("origin")
        return self.is_https if origin in {None, "null"} else str(origin).startswith("https:")

    async def note_refusal(self, request: Request, how: str) -> None:
        """Counts a refused sign-in, and puts on record once a minute how many there were."""
        self.heard("refused")
        self._refusals += 1
        if not self._told.is_due("refusals", self.now().timestamp()):
            return
        count, self._refusals = self._refusals, 0
        detail = f"{how}; refused since the last such line: {count}"
        with suppress(StoreUnavailable):
            await self.store.alongside(
                stored.note_audit, self.now(), "", "sign_in.refused", network(peer(request)), detail=detail
            )

    async def close(self) -> None:
        await self._sign_in.close()


def _origin(text: str) -> str:
    """Tells what a session began with without telling what that was."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _wanted(request: Request) -> str:
    """Where somebody wanted to go, to be led there once they are signed in."""
    if request.method not in SAFE_METHODS:
        return "/"
    return own_path(request.url.path + (f"?{request.url.query}" if request.url.query else ""))


def _host_name(host: str) -> str:
    """The name without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
