"""What the daemon asks of a social API, and the ways in which an API can fail to answer.

A provider never says *broken* when it means *I could not look*: every answer that is not a well-formed statement about
the account asked for is a ``ProviderError``, and those change no account's state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal, Protocol

from pydantic import SecretStr

from healthd.core.model import Lane, Listed, Observation, Profile, Signal
from healthd.core.post_failures import PostFailure


class ProviderError(Exception):
    """The API did not answer the question. ``kind`` is a metric label; ``request_id`` is the provider's own."""

    kind: ClassVar[str] = "error"
    remedy: ClassVar[str] = "Look at the provider's status page; healthd goes on trying."

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class Unauthorized(ProviderError):
    """401: the key is wrong or was revoked."""

    kind = "unauthorized"
    remedy = "Put a valid API key into this workspace's api_key; healthd picks it up at the next start."


class PaymentRequired(ProviderError):
    """402: the workspace's balance does not cover the call."""

    kind = "payment_required"
    remedy = "Top up the workspace's balance at the provider."


class MissingScope(ProviderError):
    """403: the key may not do this. ``scope`` is the one that the provider named, if it named one."""

    kind = "forbidden"
    remedy = "Give the API key the scope named in the message."

    def __init__(self, message: str, *, scope: str | None = None, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.scope = scope


class NotFound(ProviderError):
    """404: no such account (or profile) for this key. Proves a removal only together with the inventory."""

    kind = "not_found"
    remedy = "Nothing to do: the inventory decides whether the account was removed."


class Conflict(ProviderError):
    """409: the profile is paused, so its accounts count as paused."""

    kind = "conflict"
    remedy = "Resume the profile at the provider if it was paused by mistake."


class Unprocessable(ProviderError):
    """422: the provider understood and refuses; ``code`` is its own word for why."""

    kind = "unprocessable"
    remedy = "This account may need to be connected anew, with credentials, at the provider."

    def __init__(self, message: str, *, code: str = "", request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code


class RateLimited(ProviderError):
    """429: wait ``retry_after`` seconds."""

    kind = "rate_limited"
    remedy = "healthd waits by itself; lower rate_share if it happens often."

    def __init__(self, message: str, *, retry_after: float, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after = retry_after


class Starved(ProviderError):
    """Not an answer: our calls wait for their turn and do not get it."""

    kind = "starved"
    remedy = (
        "Your own traffic uses the workspace's whole rate limit, or rate_share is very small: raise it, spread your "
        "publishing, or ask the provider for a higher limit."
    )


class Unavailable(ProviderError):
    """5xx, a redirect, or no answer at all: time-out, DNS, TLS, reset."""

    kind = "unavailable"


class BadAnswer(ProviderError):
    """An answer that cannot be understood: HTML, truncated, of the wrong shape, about another account."""

    kind = "bad_answer"


class ForbiddenLink(ProviderError):
    """The provider gave a link that leads outside the allowed hosts, or is no plain https address."""

    kind = "forbidden_link"
    remedy = "If the host is one of the provider's, add it to link.allowed_hosts."


class WebhookRefused(Exception):
    """The signature does not prove that the provider sent this. ``reason`` is a metric label, never shown outside."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnparsedWebhook(Exception):
    """An authentic webhook that cannot be read. It is kept and counted, and nothing follows from it."""


IsNews = Callable[[str, Signal, int | None, bool | None], bool]
"""Whether an account's reading (ref, signal, days of validity, whether it is paused) says what is not known already."""

IsListedAnew = Callable[[str, str, str | None], bool]
"""Whether an entry of the list (ref, name, username) is one that is not on record so."""


def everything_is_news(*_: object) -> bool:
    """The comparison with nothing."""
    return True


async def with_nothing() -> Callable[..., bool]:
    """What those compare with who want to have everything."""
    return everything_is_news


@dataclass(frozen=True, slots=True)
class BulkHealth:
    """Everything at once.

    ``observations`` are the rows that say one clear thing, as far as they are news; they are made anew whenever they
    are gone through. ``unclear`` are refs of rows that contradict themselves or use words we do not know: each is to be
    asked for by itself. ``bad_rows`` could not be read at all. ``shown`` are the refs of all that could.
    """

    observations: Iterable[Observation]
    unclear: list[str]
    bad_rows: int
    at: datetime
    asked_at: datetime
    shown: Set[str]


@dataclass(frozen=True, slots=True)
class Inventory:
    """The list of accounts: ``entries`` as far as they are listed anew or otherwise, ``shown`` the refs of all."""

    entries: Iterable[Listed]
    shown: Set[str]


@dataclass(frozen=True, slots=True)
class Event:
    """An authentic webhook. ``observation`` is ``None`` for events that say nothing of an account's health.
    ``failures`` are posts that could not be published; it is not said for which accounts.
    """

    name: str
    event_id: str
    observation: Observation | None
    profile: str | None = None
    failures: tuple[PostFailure, ...] = ()


class SubscriptionStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    """A person has paused it."""
    FAILING = "failing"
    """The provider has, since too many deliveries failed."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A webhook that the provider is to call."""

    ref: str
    url: str
    events: tuple[str, ...]
    status: SubscriptionStatus
    triggered_at: datetime | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """All of a workspace's, and the events that one may subscribe to (none: the provider did not say)."""

    rows: tuple[Subscription, ...]
    catalogue: frozenset[str]


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """With the secret that its deliveries are signed with, which is told once."""

    subscription: Subscription
    secret: SecretStr


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a test: the answer's code, ``None`` where nobody answered, and the beginning of its body."""

    delivered: bool
    event_id: str
    code: int | None
    said: str


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    """It failed, and is tried again."""
    DEAD_LETTER = "dead_letter"
    """It failed, and is not tried again."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook in the provider's log. ``body`` is empty where the log does not hold it."""

    event_id: str
    event: str
    created_at: datetime
    body: bytes
    code: int | None


@dataclass(frozen=True, slots=True)
class Deliveries:
    """A page of the log, the newest first; ``total`` counts all pages."""

    rows: tuple[Delivery, ...]
    total: int
    is_last: bool


class Provider(Protocol):
    """One workspace at one social API. All methods but ``verify`` and ``parse`` talk to it, in the lane given."""

    def verify(self, headers: Mapping[bytes, bytes] | list[tuple[bytes, bytes]], body: bytes, now: datetime) -> None:
        """Raises ``WebhookRefused`` unless the raw body carries a valid, fresh signature."""

    def event_id(self, body: bytes) -> str:
        """The id by which a repeated delivery is recognised; a digest of the body where it carries none."""

    def parse(self, body: bytes, received_at: datetime) -> Event:
        """Reads a verified body. Raises ``UnparsedWebhook``."""

    async def list_accounts(
        self, profile: str | None, lane: Lane, compare: Callable[[], Awaitable[IsListedAnew]] = with_nothing
    ) -> Inventory:
        """``compare`` is asked, once the question is on its way, what is worth keeping of the answer."""

    async def health(self, ref: str, profile: str | None, lane: Lane) -> Observation: ...

    async def health_all(
        self, profile: str | None, compare: Callable[[], Awaitable[IsNews]] = with_nothing
    ) -> BulkHealth:
        """``compare`` is asked, once the question is on its way, what is worth keeping of the answer."""

    async def mint(self, ref: str, profile: str | None) -> str:
        """A fresh single-use link that repairs the account: https, on an allowed host (else ``ForbiddenLink``)."""

    async def pause(self, ref: str, profile: str | None) -> None: ...

    async def resume(self, ref: str, profile: str | None) -> None: ...

    def profiles(self) -> AsyncIterator[Profile]: ...

    async def identity(self) -> str:
        """Whose key this is, for a person to recognise."""

    async def webhooks(self) -> Subscriptions: ...

    async def create_webhook(self, url: str, events: Sequence[str]) -> NewSubscription: ...

    async def update_webhook(
        self,
        ref: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        status: Literal["active", "paused"] | None = None,
    ) -> Subscription: ...

    async def delete_webhook(self, ref: str) -> None: ...

    async def test_webhook(self, ref: str) -> Trial:
        """Has one ``webhook.test`` sent, whatever the subscription's status, and says what came back."""

    async def deliveries(
        self, status: DeliveryStatus, *, event: str | None = None, webhook: str | None = None, page: int = 1
    ) -> Deliveries: ...

    def session(self) -> AbstractAsyncContextManager[None]:
        """Opens and closes the connections."""
