"""What pages and API share: who is asking, how they are refused, what goes with each answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response

from healthd.core.roles import Role

HARDENED: Mapping[str, str] = {
    "cache-control": "no-store",
    "x-robots-tag": "noindex, nofollow, noarchive",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Go with every page of ours, whoever it is for."""
HEADERS: Mapping[str, str] = {
    **HARDENED,
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    # Without any referrer browsers send "Origin: null" with a form, and it would look like somebody else's.
    "referrer-policy": "same-origin",
}
"""Go with every answer of the private listener that does not say otherwise."""


def harden(response: Response, headers: Mapping[str, str] = HEADERS) -> Response:
    """Adds these headers to an answer where it has none of its own."""
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    return response


SESSION_COOKIE = "healthd"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")
_LONGEST_PATH = 2000


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is asking. ``who`` is what the record says: ``token:ada``, ``oidc:ada@acme.example``, ``proxy:ada`` or
    ``local``. ``csrf`` goes into every form; it is empty for those who come with a bearer token and need none.
    """

    who: str
    role: Role
    by: Literal["bearer", "session", "proxy", "local"]
    csrf: str


@dataclass(frozen=True, slots=True)
class Proven:
    """Somebody who has shown a good token, or whom an identity provider knows: what a session begins with. ``origin``
    stands for what it was in the settings that let them in.
    """

    who: str
    role: Role
    origin: str = ""
    token_id: str | None = None
    expires_at: datetime | None = None


class NotSignedIn(Exception):
    """Nobody knows who is asking. ``wrong``: something was shown that proves nothing; ``too_often``: once too many."""

    def __init__(self, *, wrong: bool = False, too_often: bool = False) -> None:
        super().__init__("nobody is signed in")
        self.wrong, self.too_often = wrong, too_often


class Forbidden(Exception):
    """Whoever asks may not do this. The text says why, to them."""


def own_path(text: str | None) -> str:
    """The path of ours that somebody wants to get to, or ``/`` for anything that could lead elsewhere."""
    if text is None or len(text) > _LONGEST_PATH or not _PATH.fullmatch(text):
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc or parts.path.startswith(("/sign-", "/api/")) else text


def problem(status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """An error as RFC 9457 has it."""
    content: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if detail:
        content["detail"] = detail
    return Response(orjson.dumps(content), status, headers=headers, media_type="application/problem+json")


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def cookie_name(name: str, *, secure: bool) -> str:
    """``__Host-`` is the browser's promise that no other host, and nothing without TLS, has set the cookie."""
    return f"__Host-{name}" if secure else name


def peer(request: Request) -> str:
    """The address of whoever is connected."""
    return request.client.host if request.client else "unknown"
