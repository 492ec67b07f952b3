"""Every error of the API, once: RFC 9457, with a word that stays the same for programs and a sentence for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from healthd.bodies import Unread
from healthd.desk import NotNow, NotThere
from healthd.providers.base import ProviderError, RateLimited, Starved, Unavailable
from healthd.store.answers import AnotherRequest, UnderWay
from healthd.store.database import StoreUnavailable
from healthd.store.views import BadCursor
from healthd.web.access import Forbidden, NotSignedIn

MEDIA_TYPE = "application/problem+json"
URN = "urn:healthd:problem:"
SOON = "5"
"""Seconds after which it is worth asking a database again."""
_LONGEST_WAIT = 3600


class Kind(NamedTuple):
    status: int
    title: str


KINDS: Mapping[str, Kind] = {
    "unreadable": Kind(400, "The request cannot be read"),
    "bad-cursor": Kind(400, "There is no such page"),
    "bad-key": Kind(400, "The Idempotency-Key cannot be used"),
    "not-signed-in": Kind(401, "Nobody is signed in"),
    "forbidden": Kind(403, "You may not do this"),
    "not-found": Kind(404, "There is no such thing"),
    "method-not-allowed": Kind(405, "This cannot be done here"),
    "too-slow": Kind(408, "The body came too slowly"),
    "not-now": Kind(409, "This cannot be done as things are"),
    "under-way": Kind(409, "The same request is under way"),
    "changed": Kind(412, "It has changed meanwhile"),
    "too-large": Kind(413, "The body is too large"),
    "not-json": Kind(415, "The body is not JSON"),
    "invalid": Kind(422, "The request says something that cannot be"),
    "key-reused": Kind(422, "The Idempotency-Key was used for something else"),
    "too-many-mistakes": Kind(429, "Too many wrong tokens"),
    "internal": Kind(500, "healthd made a mistake"),
    "provider": Kind(502, "The provider did not do it"),
    "provider-unavailable": Kind(503, "The provider does not answer"),
    "store-unavailable": Kind(503, "The database does not answer"),
}


@dataclass(frozen=True)
class Wrong:
    """One mistake. ``where`` is ``body``, ``query``, ``path`` or ``header``, ``field`` the place in it."""

    where: str
    field: str
    detail: str


@dataclass
class Problem(Exception):
    """``more`` are members beside those of RFC 9457."""

    kind: str
    detail: str = ""
    errors: tuple[Wrong, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def response(self) -> Response:
        status, title = KINDS[self.kind]
        content: dict[str, Any] = {"type": f"{URN}{self.kind}", "title": title, "status": status}
        if self.detail:
            content["detail"] = self.detail
        if self.errors:
            content["errors"] = [vars(one) for one in self.errors]
        body = orjson.dumps(content | dict(self.more))
        return Response(body, status, headers=dict(self.headers), media_type=MEDIA_TYPE)


UNREAD = {400: "unreadable", 408: "too-slow", 413: "too-large"}
HTTP = {400: "unreadable", 404: "not-found", 405: "method-not-allowed"}
WORDS = {
    "extra_forbidden": "is not known here: leave it out, or check how it is spelt",
    "missing": "is missing",
    "json_invalid": "is not JSON",
}
"""Instead of what pydantic says, where that helps nobody."""


def problem_of(error: Exception) -> Problem:
    """What an error means to whoever asked. One that is none of ours is healthd's own mistake."""
    told = next((TOLD[kind] for kind in type(error).__mro__ if kind in TOLD), None)
    return told(error) if told is not None else Problem("internal", "It is in the log.")


def invalid(found: Iterable[Mapping[str, Any]]) -> Problem:
    """From pydantic's list of mistakes; what was sent is not repeated."""
    wrong = tuple(_wrong(one) for one in found)
    return Problem("invalid", "; ".join(f"{one.field or one.where} {one.detail}" for one in wrong[:5]), wrong)


def _wrong(one: Mapping[str, Any]) -> Wrong:
    where, *path = one["loc"]
    said = str(one["msg"]).removeprefix("Value error, ")
    return Wrong(str(where), ".".join(map(str, path)), WORDS.get(one["type"], said[:1].lower() + said[1:]))


def _not_signed_in(error: NotSignedIn) -> Problem:
    if error.too_often:
        return Problem("too-many-mistakes", headers={"retry-after": "60"})
    detail = "The token is unknown, expired or revoked." if error.wrong else "Send Authorization: Bearer TOKEN."
    said = ', error="invalid_token"' if error.wrong else ""
    return Problem("not-signed-in", detail, headers={"www-authenticate": f'Bearer realm="healthd"{said}'})


def _no_store(error: StoreUnavailable) -> Problem:
    detail = f"Nothing was changed: {error}. Try again; healthd doctor says more."
    return Problem("store-unavailable", detail, headers={"retry-after": SOON})


def _provider(error: ProviderError) -> Problem:
    wait = isinstance(error, RateLimited | Starved | Unavailable)
    seconds = error.retry_after if isinstance(error, RateLimited) else 60
    more = {"reason": error.kind, "remedy": error.remedy} | (
        {"request_id": error.request_id} if error.request_id else {}
    )
    headers = {"retry-after": str(max(1, min(int(seconds), _LONGEST_WAIT)))} if wait else {}
    return Problem("provider-unavailable" if wait else "provider", str(error), headers=headers, more=more)


TOLD: Mapping[type, Callable[[Any], Problem]] = {
    Problem: lambda problem: problem,
    RequestValidationError: lambda error: invalid(error.errors()),
    NotSignedIn: _not_signed_in,
    Forbidden: lambda error: Problem("forbidden", str(error)),
    NotThere: lambda error: Problem("not-found", str(error)),
    NotNow: lambda error: Problem("not-now", str(error)),
    BadCursor: lambda error: Problem("bad-cursor", str(error), (Wrong("query", "cursor", str(error)),)),
    Unread: lambda error: Problem(UNREAD[error.status], headers={"connection": "close"}),
    UnderWay: lambda _: Problem("under-way", "Ask again in a moment for its answer.", headers={"retry-after": "1"}),
    AnotherRequest: lambda _: Problem("key-reused", "Use a new key for each thing that is to be done."),
    StoreUnavailable: _no_store,
    ProviderError: _provider,
    HTTPException: lambda error: Problem(HTTP.get(error.status_code, "internal"), headers=dict(error.headers or {})),
}
"""What each error means; the most specific class counts."""
