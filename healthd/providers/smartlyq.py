"""SmartlyQ: its webhooks, its health endpoints, its reconnect links. https://docs.smartlyq.com"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import random
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

import httpx2
import orjson

from healthd import tracing
from healthd.core.model import Lane, Listed, Observation, Profile, Signal, Source
from healthd.core.post_failures import PostFailure, without_secrets
from healthd.core.text import clean
from healthd.providers.allowance import Allowance
from healthd.providers.base import (
    BadAnswer,
    BulkHealth,
    Conflict,
    Event,
    ForbiddenLink,
    Inventory,
    IsListedAnew,
    IsNews,
    MissingScope,
    NotFound,
    PaymentRequired,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
    UnparsedWebhook,
    Unprocessable,
    WebhookRefused,
    everything_is_news,
    with_nothing,
)
from healthd.providers.fields import REF
from healthd.providers.fields import read_ref as _ref
from healthd.providers.fields import read_text as _text
from healthd.providers.fields import read_time as _time
from healthd.providers.long_lists import LongList, Packed, read_json
from healthd.providers.subscriptions import WebhookCalls
from healthd.providers.wire import Wire

OAUTH_HOSTS: Mapping[str, tuple[str, ...]] = {
    "facebook": ("www.facebook.com", "m.facebook.com"),
    "instagram": ("www.instagram.com", "api.instagram.com"),
    "threads": ("threads.net", "www.threads.net", "www.threads.com"),
    "twitter": ("x.com", "twitter.com", "api.twitter.com", "api.x.com"),
    "linkedin": ("www.linkedin.com",),
    "youtube": ("accounts.google.com",),
    "gmb": ("accounts.google.com",),
    "tiktok": ("www.tiktok.com",),
    "bluesky": ("bsky.social",),
    "pinterest": ("www.pinterest.com",),
    "reddit": ("www.reddit.com",),
    "snapchat": ("accounts.snapchat.com",),
    "tumblr": ("www.tumblr.com",),
    "discord": ("discord.com",),
}
"""Where a platform asks its user for consent; the provider's links may lead there directly."""

DEFAULT_ALLOWED_HOSTS = frozenset({"app.smartlyq.com", *(host for hosts in OAUTH_HOSTS.values() for host in hosts)})

TOLERANCE = timedelta(minutes=5)
OLDEST_EVENT = timedelta(days=91)
"""How far back an event may date itself: the provider replays from a log of 90 days."""
SMALL_ANSWER = 8 * 1024 * 1024
BULK_ANSWER = 400 * 1024 * 1024
"""Decoded bytes that an answer may have: a bulk row takes about 200, and a million of them must fit."""
SLOWEST = 1024 * 1024
"""Bytes a second: a long answer has as much more time as it needs at this speed."""
OFF_LOOP = 64 * 1024
"""An answer larger than this is parsed in a thread."""
MOST_SIGNATURES = 16
BAD_ROWS_ALLOWED = 0.05
LONGEST_VALIDITY = 36_500
TRIES = 3
_LONGEST_PAUSE = 3600.0

_SIGNATURE = b"x-smartlyq-signature"
_TIMESTAMP = re.compile(rb"[0-9]{1,12}")
_EVENT_ID = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_WORD = re.compile(r"[A-Z][A-Z0-9_]{0,59}|[a-z]{1,30}:[a-z]{1,30}", re.ASCII)
_PLATFORM = re.compile(r"[a-z0-9_-]{1,40}", re.ASCII)
_HTTPS_LINK = re.compile(r"https://([A-Za-z0-9.-]{1,253})(?:[/?#][\x21\x22-\x5b\x5d-\x7e]*)?")
_LOOPBACK_LINK = re.compile(r"http://((?:127\.0\.0\.1|localhost):[0-9]{1,5})(?:[/?#][\x21\x22-\x5b\x5d-\x7e]*)?")
_LONGEST_LINK = 2048

EVENT_SIGNALS = {
    "account.token_expired": Signal.TOKEN_EXPIRED,
    "account.disconnected": Signal.DISCONNECTED,
    "account.connected": Signal.CONNECTED,
}

POST_EVENTS = frozenset({"post.failed", "post.partial"})
MOST_PLATFORMS = 64
"""Outcomes of one post that are read."""

READING_SIGNALS: Mapping[tuple[str, bool | None], Signal] = {
    # No single field is believed against another: the published example contradicts itself in one row.
    ("connected", False): Signal.OK,
    ("connected", None): Signal.OK,
    ("expired", True): Signal.BAD_TOKEN,
    ("expired", None): Signal.BAD_TOKEN,
    # Two fields disagree on the side of trouble: it has to last before it counts.
    ("expired", False): Signal.ERROR,
    ("error", False): Signal.ERROR,
    ("error", True): Signal.ERROR,
    ("error", None): Signal.ERROR,
}
"""``(status, token_expired)`` to what it says. What is not listed says nothing that can be believed."""


def _quiet(_: str, __: str, ___: float) -> None:
    """For those who do not measure."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """``said`` is ``None`` where the body is no JSON."""

    status: int
    headers: httpx2.Headers
    said: Any
    asked_at: datetime


class SmartlyQ(WebhookCalls):
    """One workspace at SmartlyQ. ``observe(endpoint, outcome, seconds)`` is told of every call."""

    def __init__(
        self,
        *,
        workspace: str,
        api_key: str,
        allowance: Allowance,
        now: Callable[[], datetime],
        base_url: str = "https://api.smartlyq.com/v1",
        webhook_secrets: Sequence[str] = (),
        allowed_hosts: Collection[str] = DEFAULT_ALLOWED_HOSTS,
        tolerance: timedelta = TOLERANCE,
        timeout: float = 15.0,
        observe: Callable[[str, str, float], None] = _quiet,
        rng: random.Random | None = None,
    ) -> None:
        self.workspace = workspace
        self._api_key = api_key
        self._base_url = base_url.rstrip("/")
        self._secrets = [secret.encode() for secret in webhook_secrets]
        self._allowance = allowance
        self._allowed_hosts = allowed_hosts
        self._now = now
        self._tolerance = tolerance
        self._timeout = timeout
        self._observe = observe
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrecy
        self._client: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Opens and closes the connections."""
        async with httpx2.AsyncClient(
            headers={"authorization": f"Bearer {self._api_key}", "user-agent": "healthd", "accept": "application/json"},
            follow_redirects=False,
            trust_env=False,
            transport=Wire(),
        ) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    def verify(self, headers: Mapping[bytes, bytes] | list[tuple[bytes, bytes]], body: bytes, now: datetime) -> None:
        """Raises ``WebhookRefused`` unless the raw body carries a valid, fresh signature.

        ``X-SmartlyQ-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256(secret, "<t>." + body)>``; the key is the secret's
        text as it is (https://docs.smartlyq.com/guides/webhooks).
        """
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        found = [value for name, value in pairs if name == _SIGNATURE]
        if len(found) != 1:
            raise WebhookRefused("ambiguous" if found else "missing")
        timestamp, claimed = _split_signature(found[0])
        message = timestamp + b"." + body
        # Every secret and every signature is compared, so that the time taken tells nothing.
        matches = [
            hmac.compare_digest(hmac.digest(secret, message, "sha256"), signature)
            for secret in self._secrets
            for signature in claimed
        ]
        if not any(matches):
            raise WebhookRefused("mismatch")
        if abs(now.timestamp() - int(timestamp)) > self._tolerance.total_seconds():
            raise WebhookRefused("stale")

    def event_id(self, body: bytes) -> str:
        """The id by which a repeated delivery is recognised; a digest of the body where it carries none."""
        try:
            envelope = orjson.loads(body)
        except orjson.JSONDecodeError:
            envelope = None
        return _event_id(envelope, body)

    def parse(self, body: bytes, received_at: datetime) -> Event:
        """Reads a verified body. Raises ``UnparsedWebhook``."""
        try:
            envelope = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise UnparsedWebhook("the body is not JSON") from None
        if not isinstance(envelope, dict) or not isinstance(envelope.get("event"), str):
            raise UnparsedWebhook("the envelope names no event")
        event_id, name = _event_id(envelope, body), envelope["event"]
        signal, data = EVENT_SIGNALS.get(name), envelope.get("data")
        if name in POST_EVENTS and isinstance(data, dict):
            failures = _post_failures(data, _event_time(envelope.get("created_at"), received_at))
            return Event(name, event_id, None, _ref(data.get("profile_id")), failures)
        if signal is None:
            return Event(clean(name), event_id, None)
        if not isinstance(data, dict):
            raise UnparsedWebhook("its data is no object")
        ref = _ref(data.get("account_id"))
        if ref is None:
            raise UnparsedWebhook("account_id is no positive integer")
        observation = Observation(
            ref=ref,
            signal=signal,
            source=Source.WEBHOOK,
            at=_event_time(envelope.get("created_at"), received_at),
            platform=_platform(data.get("platform")),
            name=_text(data.get("account_name")),
            reason=_text(data.get("reason"), 200),
            event_id=event_id,
        )
        return Event(name, event_id, observation, _ref(data.get("profile_id")))

    async def identity(self) -> str:
        """The name that the key's owner goes by."""
        data, _, _ = await self._get("/me", "me", Lane.CLICK)
        return _text(data.get("name")) or "unnamed" if isinstance(data, dict) else "unnamed"

    async def list_accounts(
        self, profile: str | None, lane: Lane, compare: Callable[[], Awaitable[IsListedAnew]] = with_nothing
    ) -> Inventory:
        """Every account of the workspace, or of one profile. Raises ``BadAnswer`` when rows cannot be read: a list
        with holes would look like removals.
        """
        rows = _Entries(everything_is_news)

        async def begin() -> LongList:
            nonlocal rows
            rows = _Entries(await compare())
            return LongList(("data",), rows.take)

        data, meta, _ = await self._get("/social/accounts", "list", lane, profile, most=BULK_ANSWER, begin=begin)
        request_id = _text(meta.get("request_id"))
        if not isinstance(data, list):
            raise BadAnswer("the list of accounts is no list", request_id=request_id)
        if rows.unread:
            unread = f"{rows.unread} of {rows.total} rows of the list cannot be read"
            raise BadAnswer(unread, request_id=request_id)
        return Inventory(rows, rows.refs)

    async def health(self, ref: str, profile: str | None, lane: Lane) -> Observation:
        """One account's reading. Raises ``BadAnswer`` for what cannot be believed: that is *cannot know*."""
        path = f"/social/accounts/{_in_path(ref)}/health"
        data, meta, asked_at = await self._get(path, "health", lane, profile)
        request_id = _text(meta.get("request_id"))
        if not isinstance(data, dict) or _ref(data.get("id")) != ref:
            raise BadAnswer("the answer is not about the account that was asked for", request_id=request_id)
        observation = _reading(data, Source.HEALTH, _reading_time(meta, asked_at), asked_at, request_id)
        if observation is None:
            raise BadAnswer(
                "the reading contradicts itself or uses words that healthd does not know", request_id=request_id
            )
        return observation

    async def health_all(
        self, profile: str | None, compare: Callable[[], Awaitable[IsNews]] = with_nothing
    ) -> BulkHealth:
        """Every account's reading in one request. Rows that say no one clear thing are named, not believed."""
        rows = _Rows(everything_is_news)

        async def begin() -> LongList:
            nonlocal rows
            rows = _Rows(await compare())
            return LongList(("data", "accounts"), rows.take)

        data, meta, asked_at = await self._get(
            "/social/accounts/health", "bulk", Lane.BULK, profile, most=BULK_ANSWER, begin=begin
        )
        request_id = _text(meta.get("request_id"))
        found = data.get("accounts") if isinstance(data, dict) else None
        if not isinstance(found, list):
            raise BadAnswer("the bulk answer holds no accounts", request_id=request_id)
        if not rows.total:
            await asyncio.to_thread(rows.take, found)  # without the envelope, and so not where it was looked for
        if rows.bad > BAD_ROWS_ALLOWED * rows.total:
            raise BadAnswer(f"{rows.bad} of {rows.total} rows cannot be read", request_id=request_id)
        at = _reading_time(meta, asked_at)
        readings = _Readings(rows, at, asked_at, request_id)
        return BulkHealth(readings, list(rows.unclear), rows.bad, at, asked_at, rows.seen)

    async def mint(self, ref: str, profile: str | None) -> str:
        """A fresh single-use link. Never retried by itself: each call kills the link of the one before."""
        path = f"/social/accounts/{_in_path(ref)}/reconnect-url"
        with tracing.span("link.mint", workspace=self.workspace):
            data, meta, _ = await self._get(path, "mint", Lane.CLICK, profile, tries=1)
        link = data.get("reconnect_url") if isinstance(data, dict) else None
        if not is_allowed_link(link, self._allowed_hosts):
            raise ForbiddenLink(
                "the provider's link leads outside the allowed hosts", request_id=_text(meta.get("request_id"))
            )
        return str(link)

    async def pause(self, ref: str, profile: str | None) -> None:
        await self._call("POST", f"/social/accounts/{_in_path(ref)}/pause", "pause", Lane.CONFIRM, profile)

    async def resume(self, ref: str, profile: str | None) -> None:
        await self._call("POST", f"/social/accounts/{_in_path(ref)}/resume", "resume", Lane.CONFIRM, profile)

    async def profiles(self) -> AsyncIterator[Profile]:
        """All profiles, page by page, and like the list of accounts without holes. Raises ``NotFound`` or
        ``MissingScope`` where the workspace has none to show.
        """
        shown: set[str] = set()
        for page in itertools.count(1):
            path = f"/profiles?page={page}&per_page=100"
            data, meta, _ = await self._get(path, "profiles", Lane.BULK)
            rows = data.get("profiles") if isinstance(data, dict) else None
            if not isinstance(rows, list):
                raise BadAnswer("the answer holds no list of profiles", request_id=_text(meta.get("request_id")))
            before = len(shown)
            for row in rows:
                profile = _profile(row)
                if profile is None:
                    raise BadAnswer("a row of the profiles cannot be read", request_id=_text(meta.get("request_id")))
                # One made meanwhile moves others to the next page.
                if profile.ref not in shown:
                    shown.add(profile.ref)
                    yield profile
            if len(rows) < 100 or len(shown) == before:
                return

    async def _get(
        self,
        path: str,
        endpoint: str,
        lane: Lane,
        profile: str | None = None,
        *,
        most: int = SMALL_ANSWER,
        tries: int = TRIES,
        begin: Callable[[], Awaitable[LongList]] | None = None,
    ) -> tuple[Any, dict[str, Any], datetime]:
        """The answer's ``data`` and ``meta``, and when it was asked for. Only what the API could not answer at all is
        asked again. ``begin`` is asked for what reads a good answer while it arrives.
        """
        for attempt in range(1, tries + 1):
            try:
                return await self._call("GET", path, endpoint, lane, profile, most=most, begin=begin)
            except Unavailable:
                if attempt == tries:
                    raise
            await self._pause(attempt)
        raise AssertionError  # unreachable: the last attempt returns or raises

    async def _change(
        self, method: str, path: str, endpoint: str, body: Mapping[str, object] | None = None, *, once: str = ""
    ) -> tuple[Any, dict[str, Any], datetime]:
        """A call that changes something. It is repeated only under a key, ``once``, that makes that harmless."""
        headers = {"x-idempotency-key": once} if once else {}
        content = b"" if body is None else orjson.dumps(body)
        for attempt in range(1, TRIES + 1 if once else 2):
            try:
                return await self._call(
                    method, path, endpoint, Lane.CONFIRM, most=SMALL_ANSWER, content=content, headers=headers
                )
            except Unavailable:
                if not once or attempt == TRIES:
                    raise
            await self._pause(attempt)
        raise AssertionError  # unreachable: the last attempt returns or raises

    async def _pause(self, attempt: int) -> None:
        await asyncio.sleep(0.25 * 2**attempt * self._rng.uniform(0.5, 1.0))

    async def _call(
        self,
        method: str,
        path: str,
        endpoint: str,
        lane: Lane,
        profile: str | None = None,
        *,
        most: int = SMALL_ANSWER,
        content: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
        begin: Callable[[], Awaitable[LongList]] | None = None,
    ) -> tuple[Any, dict[str, Any], datetime]:
        """One call, in its turn and within the time allowed. Raises one of the ``ProviderError`` kinds."""
        await self._allowance.take(lane)
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome = "cancelled"
        try:
            with tracing.span("provider.call", workspace=self.workspace, kind=endpoint):
                answer = await self._exchange(method, path, profile, most, content, headers, begin)
            self._learn(answer)
            result = _understand(answer)
            outcome = "ok"
        except ProviderError as error:
            outcome = error.kind
            if isinstance(error, RateLimited):
                self._allowance.refused(error.retry_after)
            raise
        finally:
            self._observe(endpoint, outcome, loop.time() - started)
        return *result, answer.asked_at

    async def _exchange(
        self,
        method: str,
        path: str,
        profile: str | None,
        most: int,
        content: bytes,
        more: Mapping[str, str],
        begin: Callable[[], Awaitable[LongList]] | None,
    ) -> _Answer:
        """An answer. The deadline is for the whole exchange: a dripping peer would never meet one for each read."""
        if self._client is None:
            raise RuntimeError("the provider's session is not open")
        asked_at = self._now()
        headers = {**more, **({"x-profile-id": profile} if profile else {})}
        if content:
            headers["content-type"] = "application/json"
        try:
            async with (
                asyncio.timeout(self._timeout) as deadline,
                self._client.stream(
                    method, self._base_url + path, headers=headers, content=content or None
                ) as response,
            ):
                if begin is not None and response.is_success:
                    said = await _long(response, begin, most, deadline)
                else:
                    said = await _json(await _limited(response, most))
                return _Answer(response.status_code, response.headers, said, asked_at)
        except TimeoutError:
            raise Unavailable(f"no whole answer within {self._timeout:g} s") from None
        except httpx2.DecodingError:
            raise BadAnswer("the answer's content encoding is broken") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError) as error:
            # Messages of the client may quote the address; its kind of error says enough.
            raise Unavailable(f"no answer: {type(error).__name__}") from None

    def _learn(self, answer: _Answer) -> None:
        limit, remaining, reset = (
            _whole(answer.headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining", "reset")
        )
        if limit is not None and remaining is not None:
            reset_in = (reset or 0) - self._now().timestamp()
            self._allowance.learn(limit, remaining, reset_in)


def is_allowed_link(link: object, allowed_hosts: Collection[str]) -> bool:
    """Whether a link may be handed to a person's browser.

    Judged on the raw text: parsers and browsers disagree on ``https://evil.example\\@app.smartlyq.com/`` and its like.
    Hosts are compared exactly; an entry such as ``127.0.0.1:8090`` allows plain http to that port on this machine.
    """
    if not isinstance(link, str) or len(link) > _LONGEST_LINK:
        return False
    found = _HTTPS_LINK.fullmatch(link) or _LOOPBACK_LINK.fullmatch(link)
    return found is not None and found[1].lower() in allowed_hosts


def _split_signature(header: bytes) -> tuple[bytes, list[bytes]]:
    """The timestamp and the claimed signatures, as bytes. Raises ``WebhookRefused``."""
    if len(header) > 4096:
        raise WebhookRefused("malformed")
    timestamps, claimed = [], []
    for part in header.split(b","):
        name, _, value = part.strip(b" \t").partition(b"=")
        if name == b"t":
            timestamps.append(value)
        elif name == b"v1":
            claimed.append(value)
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]) or not 1 <= len(claimed) <= MOST_SIGNATURES:
        raise WebhookRefused("malformed")
    return timestamps[0], [signature for signature in map(_digest, claimed) if signature is not None]


def _digest(text: bytes) -> bytes | None:
    """The 32 bytes that 64 hexadecimal digits stand for."""
    if len(text) != 64:
        return None
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return None


async def _limited(response: httpx2.Response, most: int) -> bytes:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > most:
            raise BadAnswer(f"the answer is larger than {most} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _long(
    response: httpx2.Response, begin: Callable[[], Awaitable[LongList]], most: int, deadline: asyncio.Timeout
) -> Any:
    """What a long answer says besides its rows, which are taken while it arrives. The deadline is the peer's: what we
    need ourselves before we can read is not counted.
    """
    size, ends, loop = 0, deadline.when() or 0.0, asyncio.get_running_loop()
    asked = loop.time()
    deadline.reschedule(None)
    rows = await begin()
    ends += loop.time() - asked
    deadline.reschedule(ends)
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > most:
            raise BadAnswer(f"the answer is larger than {most} bytes")
        deadline.reschedule(ends + size / SLOWEST)
        if rows.add(chunk):
            await asyncio.to_thread(rows.read)
    try:
        return await asyncio.to_thread(rows.end)
    except ValueError:
        return None


async def _json(body: bytes) -> Any:
    try:
        return await asyncio.to_thread(read_json, body) if len(body) > OFF_LOOP else read_json(body)
    except ValueError:
        return None


def _understand(answer: _Answer) -> tuple[Any, dict[str, Any]]:
    """``data`` and ``meta`` of a good answer; the typed error for any other."""
    if 300 <= answer.status < 400:
        raise Unavailable(f"a redirect (HTTP {answer.status}), which is not followed with the key")
    envelope = answer.said
    meta = envelope.get("meta") if isinstance(envelope, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    refused = isinstance(envelope, dict) and envelope.get("success") is False
    if answer.status >= 400 or refused:
        raise _error(answer, envelope if isinstance(envelope, dict) else {}, meta)
    if not 200 <= answer.status < 300 or not isinstance(envelope, dict):
        raise BadAnswer(
            f"HTTP {answer.status} with a body that is not the API's", request_id=_text(meta.get("request_id"))
        )
    # Some endpoints answer without the envelope; what they hold is then the whole object.
    return (envelope.get("data"), meta) if "success" in envelope else (envelope, meta)


_BY_STATUS: Mapping[int, type[ProviderError]] = {
    401: Unauthorized,
    402: PaymentRequired,
    403: MissingScope,
    404: NotFound,
    409: Conflict,
    422: Unprocessable,
    429: RateLimited,
}
_BY_CODE: Mapping[str, type[ProviderError]] = {
    "UNAUTHORIZED": Unauthorized,
    "INVALID_API_KEY": Unauthorized,
    "INSUFFICIENT_BALANCE": PaymentRequired,
    "FORBIDDEN": MissingScope,
    "INSUFFICIENT_SCOPE": MissingScope,
    "RESOURCE_NOT_FOUND": NotFound,
    "NOT_ENABLED": NotFound,
    "CONFLICT": Conflict,
    "VALIDATION_ERROR": Unprocessable,
    "RATE_LIMIT_EXCEEDED": RateLimited,
    "RATE_LIMITED": RateLimited,
}


def _error(answer: _Answer, envelope: dict[str, Any], meta: dict[str, Any]) -> ProviderError:
    """The error that a status or, in a 2xx that says *no success*, its code stands for."""
    found = envelope.get("error")
    error = found if isinstance(found, dict) else {}
    code, request_id = _word(error.get("code")) or "", _text(meta.get("request_id"))
    kind = _BY_STATUS.get(answer.status) or (Unavailable if answer.status >= 500 else _BY_CODE.get(code, BadAnswer))
    message = f"HTTP {answer.status}{f' {code}' if code else ''}"
    if kind is RateLimited:
        return RateLimited(message, retry_after=_retry_after(answer.headers, answer.asked_at), request_id=request_id)
    if kind is MissingScope:
        details = error.get("details")
        scope = _word(details.get("required_scope")) if isinstance(details, dict) else None
        return MissingScope(f"{message}{f': needs {scope}' if scope else ''}", scope=scope, request_id=request_id)
    if kind is Unprocessable:
        return Unprocessable(message, code=code, request_id=request_id)
    return kind(message, request_id=request_id)


def _retry_after(headers: httpx2.Headers, now: datetime) -> float:
    """Seconds to wait, from what sane thing the headers say, between a second and an hour."""
    said = headers.get("retry-after", "").strip()
    seconds: float | None = _whole(said)
    if seconds is None and said:
        try:
            seconds = (parsedate_to_datetime(said) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            seconds = None
    reset = _whole(headers.get("x-ratelimit-reset"))
    if seconds is None and reset is not None:
        seconds = reset - now.timestamp()
    return min(max(seconds if seconds is not None else 30.0, 1.0), _LONGEST_PAUSE)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 15 else None


class _Rows:
    """The rows of a bulk answer, judged while it arrives: only what is news is kept."""

    def __init__(self, is_news: IsNews) -> None:
        self._is_news = is_news
        self.news = Packed()
        self.seen: set[str] = set()
        self.unclear: dict[str, None] = {}
        self.total = self.bad = 0

    def take(self, rows: list[Any]) -> None:
        self.total += len(rows)
        seen, news = self.seen, []
        for row in rows:
            ref = _ref(row.get("id")) if isinstance(row, dict) else None
            if ref is None:
                self.bad += 1
                continue
            said = _said(row)
            if said is None or ref in seen:
                self.unclear[ref] = None
            elif self._is_news(ref, *said):
                news.append((ref, *said, _platform(row.get("platform")), _text(row.get("account_name"))))
            seen.add(ref)
        self.news.add(news)


@dataclass(frozen=True, slots=True)
class _Readings:
    """What was kept of a bulk answer, as observations, made when they are asked for."""

    rows: _Rows
    at: datetime
    asked_at: datetime
    request_id: str | None

    def __iter__(self) -> Iterator[Observation]:
        for ref, signal, days, paused, platform, name in self.rows.news:
            if ref not in self.rows.unclear:
                yield Observation(
                    ref=ref,
                    signal=Signal(signal),
                    source=Source.BULK,
                    at=self.at,
                    asked_at=self.asked_at,
                    validity_days=days,
                    paused=paused,
                    platform=platform,
                    name=name,
                    request_id=self.request_id,
                )


def _said(row: dict[str, Any]) -> tuple[Signal, int | None, bool | None] | None:
    """Signal, validity in days and whether it is paused, as a row says them; ``None`` where it says nothing that can be
    believed.
    """
    status, expired = row.get("status"), row.get("token_expired")
    if not isinstance(status, str) or (expired is not None and not isinstance(expired, bool)):
        return None
    signal = READING_SIGNALS.get((status, expired))
    if signal is None:
        return None
    days, active = row.get("validity_days"), row.get("is_active")
    return (
        signal,
        days if type(days) is int and 0 <= days <= LONGEST_VALIDITY else None,
        not active if isinstance(active, bool) else None,
    )


def _reading(
    row: dict[str, Any], source: Source, at: datetime, asked_at: datetime, request_id: str | None
) -> Observation | None:
    """What a row says, or ``None`` where it says nothing that can be believed."""
    said = _said(row)
    if said is None:
        return None
    signal, days, paused = said
    return Observation(
        ref=str(row["id"]),
        signal=signal,
        source=source,
        at=at,
        asked_at=asked_at,
        validity_days=days,
        paused=paused,
        platform=_platform(row.get("platform")),
        name=_text(row.get("account_name")),
        request_id=request_id,
    )


def _post_failures(data: dict[str, Any], at: datetime) -> tuple[PostFailure, ...]:
    """What failed of a post; rows that cannot be read are left out, and of a platform's several the first counts."""
    post, rows = _ref(data.get("post_id")), data.get("platforms")
    if post is None or not isinstance(rows, list):
        return ()
    found: dict[str, PostFailure] = {}
    for row in rows[:MOST_PLATFORMS]:
        platform = _platform(row.get("platform")) if isinstance(row, dict) and row.get("success") is False else None
        if platform is None:
            continue
        error = row.get("error") if isinstance(row.get("error"), dict) else {}
        message, retryable = error.get("message"), error.get("retryable")
        failure = PostFailure(
            post=post,
            platform=platform,
            code=_text(error.get("code"), 60) or "",
            message=(_text(without_secrets(message[:2000]), 200) or "") if isinstance(message, str) else "",
            retryable=retryable if isinstance(retryable, bool) else None,
            at=at,
        )
        found.setdefault(platform, failure)
    return tuple(found.values())


class _Entries:
    """The rows of a list of accounts, read while it arrives: only what is listed anew or otherwise is kept."""

    def __init__(self, is_anew: IsListedAnew) -> None:
        self._is_anew = is_anew
        self._kept = Packed()
        self.refs: set[str] = set()
        self.total = self.unread = 0

    def take(self, rows: list[Any]) -> None:
        self.total += len(rows)
        kept = []
        for row in rows:
            ref = _ref(row.get("id")) if isinstance(row, dict) else None
            platform = _platform(row.get("platform")) if ref else None
            if ref is None or platform is None:
                self.unread += 1
                continue
            name, username = _text(row.get("name")) or ref, _text(row.get("account_username"))
            if self._is_anew(ref, name, username):
                kept.append((ref, platform, name, username))
            self.refs.add(ref)
        self._kept.add(kept)

    def __iter__(self) -> Iterator[Listed]:
        return (Listed(*entry) for entry in self._kept)


def _profile(row: Any) -> Profile | None:
    ref = _ref(row.get("id")) if isinstance(row, dict) else None
    if ref is None:
        return None
    # ``paused_for_billing`` is true in an active profile of the published example; a 409 tells for certain.
    active = row.get("status") == "active"
    return Profile(ref, _text(row.get("name")) or ref, _text(row.get("external_id"), 128), active)


def _in_path(ref: str) -> str:
    if not REF.fullmatch(ref):
        raise ValueError("an account's id is digits")
    return ref


def _platform(value: object) -> str | None:
    """The platform's own word, where it is one; anything stranger is kept as *other*."""
    if not isinstance(value, str) or not value:
        return None
    word = value[:60].lower()
    return word if _PLATFORM.fullmatch(word) else "other"


def _word(value: object) -> str | None:
    """A code or a scope: something that may stand in an error's message."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _event_id(envelope: object, body: bytes) -> str:
    claimed = envelope.get("id") if isinstance(envelope, dict) else None
    if isinstance(claimed, str) and _EVENT_ID.fullmatch(claimed):
        return claimed
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _event_time(value: object, received_at: datetime) -> datetime:
    """The event's time, unless it cannot be true: one in the future would fence off everything true until then, and one
    from before the provider's log would itself be fenced off.
    """
    at = _time(value)
    believed = at is not None and received_at - OLDEST_EVENT <= at <= received_at + TOLERANCE
    return _in_seconds(at if at is not None and believed else received_at)


def _reading_time(meta: dict[str, Any], asked_at: datetime) -> datetime:
    at = _time(meta.get("timestamp"))
    return _in_seconds(at if at is not None and abs(at - asked_at) <= TOLERANCE else asked_at)


def _in_seconds(at: datetime) -> datetime:
    """Readings carry whole seconds, so all times that are compared with them do: a finer one of the same second would
    fence off the very reading that confirms it.
    """
    return at.replace(microsecond=0)
