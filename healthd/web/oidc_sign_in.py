"""To the identity provider and back."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from healthd.access import OidcSettings
from healthd.web.guarding import Proven, cookie_name, own_path
from healthd.web.oidc import Oidc, Pending, Refused, Unavailable

if TYPE_CHECKING:
    from healthd.web.access import Access
    from healthd.web.sign_in import Answer, SignIn

log = structlog.get_logger("healthd.web")

DONE = "/sign-in/oidc/done"
PENDING_FOR = timedelta(minutes=10)
"""For how long somebody may take at the provider."""
_COOKIE = "healthd-oidc"

_ADVICE: Mapping[str, str] = {
    "denied": "You did not sign in there.",
    "late": "That took too long, or began in another browser: begin again.",
}
_ADVICE_ELSE = "What the identity provider said of you cannot be believed: begin again. The log says why."


class OidcSignIn:
    """What was asked for waits in the browser's own cookie, signed: any number of people may be on their way."""

    def __init__(self, access: Access, pages: SignIn, settings: OidcSettings) -> None:
        self._access, self._pages = access, pages
        self._grants = settings.grants()
        self._oidc = Oidc(settings, f"{access.settings.url}{DONE}", access.now)
        self._serializer = URLSafeSerializer(secrets.token_hex(32), salt="healthd.oidc")
        self._cookie = cookie_name(_COOKIE, secure=access.is_https)

    def answers(self) -> dict[str, Answer]:
        return {"/sign-in/oidc": self._go, DONE: self._come_back}

    async def close(self) -> None:
        await self._oidc.close()

    async def _go(self, request: Request) -> Response:
        wanted = own_path(request.query_params.get("next"))
        try:
            url, pending = await self._oidc.begin(wanted)
        except Unavailable as error:
            return self._cannot_ask(error, wanted)
        response = RedirectResponse(url, 303)
        response.set_cookie(
            self._cookie,
            self._serializer.dumps([self._access.now().timestamp(), *dataclasses.astuple(pending)]),
            int(PENDING_FOR.total_seconds()), secure=self._access.is_https, httponly=True, samesite="lax",
        )  # fmt: skip
        return response

    async def _come_back(self, request: Request) -> Response:
        pending = self._pending(request.cookies.get(self._cookie, ""))
        response = await self._outcome(request, pending)
        response.delete_cookie(self._cookie, secure=self._access.is_https, httponly=True, samesite="lax")
        return response

    async def _outcome(self, request: Request, pending: Pending | None) -> Response:
        if pending is None:
            return await self._refuse(request, "late", "/")
        wanted = pending.wanted
        try:
            person = await self._oidc.finish(pending, request.query_params)
            role = self._grants.role(person.user, person.groups)
            if role is None:
                await self._access.note_refusal(request, "oidc: no role")
                return self._pages.page(403, "You are known there, and have no role here: an admin can give you one.")
            proven = Proven(f"oidc:{person.name}", role, self._access.oidc_origin)
            return await self._pages.welcome(request, proven, "oidc", wanted, secure=self._access.is_https)
        except Unavailable as error:
            return self._cannot_ask(error, wanted)
        except Refused as error:
            return await self._refuse(request, error.reason, wanted)

    async def _refuse(self, request: Request, reason: str, wanted: str) -> Response:
        log.warning("access.oidc_refused", reason=reason)
        await self._access.note_refusal(request, f"oidc: {reason}")
        return self._pages.page(401, _ADVICE.get(reason, _ADVICE_ELSE), wanted)

    def _pending(self, cookie: str) -> Pending | None:
        try:
            at, *parts = self._serializer.loads(cookie)
        except BadData:
            return None
        age = self._access.now().timestamp() - at
        return Pending(*parts) if age < PENDING_FOR.total_seconds() else None

    def _cannot_ask(self, error: Unavailable, wanted: str) -> Response:
        log.warning("access.oidc_unavailable", reason=str(error))
        self._access.heard("oidc_unavailable")
        return self._pages.page(
            503, f"The identity provider cannot be asked: {error}. A token works meanwhile.", wanted
        )
