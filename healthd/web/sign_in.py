"""Signing in by a token, and signing out."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from healthd.bodies import Unread, form_fields, read_body
from healthd.store.database import StoreUnavailable
from healthd.web.guarding import SESSION_COOKIE, Forbidden, NotSignedIn, Proven, cookie_name, harden, own_path

if TYPE_CHECKING:
    from healthd.web.access import Access
    from healthd.web.oidc_sign_in import OidcSignIn

log = structlog.get_logger("healthd.web")

BODY_LIMIT = 4096
BODY_WITHIN = 5.0

Answer = Callable[[Request], Awaitable[Response]]


class SignIn:
    """The page, and what its buttons lead to."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._templates = Environment(loader=PackageLoader("healthd.web"), autoescape=True, undefined=StrictUndefined)
        static = files("healthd.web").joinpath("static")
        self._style = b"".join(static.joinpath(name).read_bytes() for name in ("page.css", "sign_in.css"))
        self._templates.globals["style"] = f"/sign-in/style.css?v={hashlib.sha256(self._style).hexdigest()[:12]}"
        self._oidc: OidcSignIn | None = None
        if access.settings.oidc is not None:
            # What checks the signatures takes its time to load, and most do without.
            from healthd.web.oidc_sign_in import OidcSignIn  # noqa: PLC0415

            self._oidc = OidcSignIn(access, self, access.settings.oidc)

    def routes(self) -> list[Route]:
        answers: dict[str, dict[str, Answer]] = {
            "/sign-in": {"GET": self._look, "POST": self._by_token},
            "/sign-in/style.css": {"GET": self._stylesheet},
            "/sign-out": {"POST": self._leave},
        }
        if self._oidc is not None:
            answers |= {path: {"GET": answer} for path, answer in self._oidc.answers().items()}
        return [Route(path, _Endpoint(self, methods)) for path, methods in answers.items()]

    def page(self, status: int = 200, trouble: str = "", wanted: str = "/") -> Response:
        """The sign-in page, with what went wrong."""
        facts = {"trouble": trouble, "wanted": wanted, "oidc": self._oidc is not None, "refused": status == 403}
        body = self._templates.get_template("sign_in.html").render(facts)
        return Response(body, status, media_type="text/html")

    async def welcome(self, request: Request, proven: Proven, how: str, wanted: str, *, secure: bool) -> Response:
        """Begins a session and leads to where somebody wanted to go. Raises ``NotSignedIn``."""
        cookie, seconds = await self._access.begin(request, proven, how)
        response = RedirectResponse(wanted, 303)
        name = cookie_name(SESSION_COOKIE, secure=secure)
        response.set_cookie(name, cookie, seconds, secure=secure, httponly=True, samesite="lax")
        return response

    async def close(self) -> None:
        if self._oidc is not None:
            await self._oidc.close()

    async def _look(self, request: Request) -> Response:
        wanted = own_path(request.query_params.get("next"))
        try:
            await self._access.visitor(request)
        except NotSignedIn:
            return self.page(wanted=wanted)
        # Whoever may not do something can sign in as somebody else who may.
        return self.page(wanted=wanted) if "again" in request.query_params else RedirectResponse(wanted, 303)

    async def _by_token(self, request: Request) -> Response:
        self._access.check_origin(request)
        form = form_fields(await read_body(request, BODY_LIMIT, BODY_WITHIN))
        wanted = own_path(form.get("next"))
        secure = self._access.is_secure(request)
        try:
            proven = await self._access.by_token(request, form.get("token", "").strip())
            return await self.welcome(request, proven, "token", wanted, secure=secure)
        except NotSignedIn as error:
            if error.too_often:
                response = self.page(429, "Too many wrong tokens came from your address. Wait a minute.", wanted)
                response.headers["retry-after"] = "60"
                return response
            return self.page(401, "That token is unknown, expired or revoked.", wanted)

    async def _leave(self, request: Request) -> Response:
        response = RedirectResponse("/sign-in", 303)
        try:
            visitor = await self._access.visitor(request)
        except NotSignedIn:
            return response
        form = form_fields(await read_body(request, BODY_LIMIT, BODY_WITHIN))
        self._access.check_write(request, visitor, form)
        await self._access.end(request)
        for secure in (True, False):
            name = cookie_name(SESSION_COOKIE, secure=secure)
            response.delete_cookie(name, secure=secure, httponly=True, samesite="lax")
        return response

    async def _stylesheet(self, _: Request) -> Response:
        forever = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(self._style, media_type="text/css", headers=forever)


class _Endpoint:
    """As a bare ASGI app: every answer, to any method and after any mistake of theirs, gets the headers here."""

    def __init__(self, pages: SignIn, answers: Mapping[str, Answer]) -> None:
        self._pages, self._answers = pages, answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = harden(await self._answered(Request(scope, receive)))
        await response(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        answer = self._answers.get("GET" if request.method == "HEAD" else request.method)
        if answer is None:
            return Response("", 405, {"allow": ", ".join(self._answers)})
        try:
            return await answer(request)
        except Forbidden as error:
            return self._pages.page(403, str(error))
        except Unread as error:
            return self._pages.page(error.status, "That was too long, or came too slowly.")
        except ValueError:
            return self._pages.page(400, "That was no form of this page.")
        except StoreUnavailable as error:
            log.warning("access.store_unavailable", reason=str(error))
            return self._pages.page(503, f"The database does not answer: {error}")
