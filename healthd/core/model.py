"""The nouns of healthd. Frozen values only; times are aware UTC datetimes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

PLATFORMS = (
    "facebook", "instagram", "twitter", "linkedin", "youtube", "tiktok", "threads", "bluesky",
    "pinterest", "reddit", "snapchat", "tumblr", "gmb", "discord", "telegram", "whatsapp",
)  # fmt: skip
"""Platforms known by name. A new one may appear any day: it is kept as it is, and counted as ``OTHER_PLATFORM``."""

OTHER_PLATFORM = "other"

LOGIN_FAMILIES = {"youtube": "google", "gmb": "google", "facebook": "meta", "instagram": "meta"}
"""Platforms behind one login: a person who repairs one of them has often repaired the others by the same act."""


def platform_label(platform: str) -> str:
    """The platform as a metric label: one of a closed set, so that provider text cannot grow the number of series."""
    return platform if platform in PLATFORMS else OTHER_PLATFORM


def family_of(platform: str) -> str:
    """The login behind the platform: its own name where it shares its login with no other."""
    return LOGIN_FAMILIES.get(platform, platform)


def login_family(platform: str) -> frozenset[str]:
    """The platforms that share this one's login, itself among them."""
    family = LOGIN_FAMILIES.get(platform)
    return frozenset({platform, *(name for name, other in LOGIN_FAMILIES.items() if family and other == family)})


class State(StrEnum):
    """What we believe of an account. *Paused* is a flag beside it: an account can be paused and broken."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    EXPIRING = "expiring"
    SUSPECT = "suspect"
    EXPIRED = "expired"
    DISCONNECTED = "disconnected"
    REMOVED = "removed"


BROKEN = frozenset({State.EXPIRED, State.DISCONNECTED})
"""States in which a person must act and an incident is open."""


class Signal(StrEnum):
    """What an observation says, freed of the provider's vocabulary."""

    OK = "ok"
    EXPIRING = "expiring"
    ERROR = "error"
    """A reading that something is wrong without saying that the token is dead; believed only when it lasts."""
    BAD_TOKEN = "bad_token"  # noqa: S105
    BAD_CONNECTION = "bad_connection"
    """``ERROR`` readings that lasted longer than the policy's ``error_patience``."""
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    GONE = "gone"
    CONFIRM_TIMEOUT = "confirm_timeout"
    POST_FAILED = "post_failed"
    """A post failed with an error that speaks of the grant, and only this account can be meant."""
    UNANSWERED = "unanswered"
    """``CONFIRM_TIMEOUT`` for a suspicion that rests on a failed post alone: that is not enough to tell anybody."""


class Source(StrEnum):
    """Where an observation came from."""

    WEBHOOK = "webhook"
    BULK = "bulk"
    HEALTH = "health"
    INVENTORY = "inventory"
    CLOCK = "clock"


class Cause(StrEnum):
    """Why an incident was opened."""

    TOKEN = "token"  # noqa: S105
    CONNECTION = "connection"


class Resolution(StrEnum):
    """How an incident ended."""

    REPAIRED = "repaired"
    REMOVED = "removed"


class Lane(IntEnum):
    """How urgent a call to the provider is; a smaller number goes first."""

    CLICK = 0
    """A person is waiting on the reconnect page."""
    CONFIRM = 1
    """An account is suspect, or somebody has just said that it was repaired."""
    BULK = 2
    """The sweep over everything, and the inventory."""
    ROTATION = 3
    """Each account's own regular check."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was learnt about one account.

    ``at`` is on the provider's clock and is what the fence compares; ``None`` for what our own clock says
    (``CONFIRM_TIMEOUT``). ``asked_at`` is our clock when the request for a reading began.
    """

    ref: str
    signal: Signal
    source: Source
    at: datetime | None
    asked_at: datetime | None = None
    validity_days: int | None = None
    paused: bool | None = None
    name: str | None = None
    platform: str | None = None
    reason: str | None = None
    event_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """What the machine knows of an account when it decides.

    ``as_of`` is the newest provider time already taken into account; ``changed_at`` our clock at the last change of
    state; ``error_since`` when the present run of ``ERROR`` readings began; ``refresh_floor`` the lowest
    ``validity_days`` at which the provider was ever seen to refresh the grant by itself.
    """

    workspace: str
    ref: str
    platform: str
    state: State = State.UNKNOWN
    paused: bool = False
    as_of: datetime | None = None
    changed_at: datetime | None = None
    suspicion: Cause | None = None
    confirm_by: datetime | None = None
    error_since: datetime | None = None
    validity_days: int | None = None
    refresh_floor: int | None = None


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a platform's grant lives, as far as the provider's ``validity_days`` can tell of it.

    ``deadline``: a person must act by a date, so a small ``validity_days`` is news. Where it is false the token
    refreshes itself and a small number means nothing until the account's own history says otherwise.
    """

    deadline: bool = False


DEFAULT_LIFETIMES: dict[str, Lifetime] = {
    "facebook": Lifetime(),
    "instagram": Lifetime(deadline=True),
    "threads": Lifetime(deadline=True),
    "twitter": Lifetime(),
    "linkedin": Lifetime(deadline=True),
    "tiktok": Lifetime(),
    "youtube": Lifetime(),
    "gmb": Lifetime(),
    "pinterest": Lifetime(deadline=True),
    "reddit": Lifetime(),
    "snapchat": Lifetime(),
    "tumblr": Lifetime(),
    "bluesky": Lifetime(),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's choices that the state machine obeys."""

    confirm_timeout: timedelta = timedelta(minutes=5)
    error_patience: timedelta = timedelta(hours=1)
    expiring_days: int = 7
    lifetimes: dict[str, Lifetime] = field(default_factory=lambda: dict(DEFAULT_LIFETIMES))


class NoticeKind(StrEnum):
    """What a notice tells its reader."""

    OPENED = "opened"
    REMINDER = "reminder"
    ESCALATED = "escalated"
    """The next one in the chain hears of it, because it is still broken."""
    WRONG_ACCOUNT = "wrong_account"
    """Who pressed the button connected another account than the one that is broken."""
    RESOLVED = "resolved"
    EXPIRING = "expiring"
    TROUBLE = "trouble"
    """For the operator: something stands between healthd and a workspace's API."""
    TROUBLE_OVER = "trouble_over"
    STORM = "storm"
    """For the operator: so many accounts of a platform broke at once that people's notices are held."""
    STORM_OVER = "storm_over"
    CHRONIC = "chronic"
    """For the operator, in place of the person: repaired again and again, and broken again and again."""
    EVENT = "event"
    """For a machine: an outgoing webhook, written with its payload."""


GOOD_NEWS = frozenset({NoticeKind.RESOLVED, NoticeKind.TROUBLE_OVER, NoticeKind.STORM_OVER})
"""What ends a conversation: true whenever it is read, and owed to everybody who was told of the trouble."""

TELLS_OF_TROUBLE = frozenset({NoticeKind.OPENED, NoticeKind.ESCALATED})
"""What begins a person's conversation about an incident: whoever was handed one of these is told of its end."""

FOR_OPERATORS = frozenset(
    {NoticeKind.TROUBLE, NoticeKind.TROUBLE_OVER, NoticeKind.STORM, NoticeKind.STORM_OVER, NoticeKind.CHRONIC}
)


class Severity(IntEnum):
    """How much a notice matters; a channel may ask to be spared the lesser ones."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    CRITICAL = 3


SEVERITIES = {
    NoticeKind.RESOLVED: Severity.INFO,
    NoticeKind.TROUBLE_OVER: Severity.INFO,
    NoticeKind.STORM_OVER: Severity.INFO,
    NoticeKind.EVENT: Severity.INFO,
    NoticeKind.EXPIRING: Severity.WARNING,
    NoticeKind.WRONG_ACCOUNT: Severity.WARNING,
    NoticeKind.OPENED: Severity.ERROR,
    NoticeKind.REMINDER: Severity.ERROR,
    NoticeKind.CHRONIC: Severity.ERROR,
    NoticeKind.TROUBLE: Severity.ERROR,
    NoticeKind.ESCALATED: Severity.CRITICAL,
    NoticeKind.STORM: Severity.CRITICAL,
}


class NoticeStatus(StrEnum):
    """Where a notice stands. Only ``PENDING`` and ``SENDING`` are work; the others are history with a reason."""

    PENDING = "pending"
    SENDING = "sending"
    HELD = "held"
    SENT = "sent"
    DROPPED = "dropped"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Target:
    """One place a notice goes: a configured channel, and the address there (empty where the channel has just one)."""

    channel: str
    address: str = ""

    @property
    def key(self) -> str:
        return f"{self.channel}:{self.address}" if self.address else self.channel

    @classmethod
    def parse(cls, text: str) -> Target:
        """``"mail:ada@acme.example"`` or ``"team-slack"``."""
        channel, _, address = text.partition(":")
        return cls(channel, address)


@dataclass(frozen=True, slots=True)
class Listed:
    """An account as the inventory shows it. ``ref`` is the provider's id, as text."""

    ref: str
    platform: str
    name: str
    username: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A sub-account for an end customer. ``external_id`` is the customer's own id for them."""

    ref: str
    name: str
    external_id: str | None
    active: bool
