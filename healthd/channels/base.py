"""What a channel is: it renders a notice once, and hands the same content over until somebody has it.

Rendering is committed before the first attempt, so that a repeat after a crash is the same message with the same
identity. The link is filled in at the moment of sending: what is stored opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from healthd.core.model import Cause, NoticeKind, Target

LINK = "https://healthd.invalid/r/LINK"
"""Stands in rendered content where the link will be; ``fill`` puts the real one there."""

LONGEST = 150.0
"""Seconds that one message may take at the most: less than the outbox's lease, or a second sender would take it up."""

Content = Mapping[str, str]
"""What ``render`` made: named parts such as ``subject``, ``text``, ``html``, ``blocks``. Plain text values only."""

Receipt = Mapping[str, str]
"""What a channel needs to find its own message again, such as Slack's ``channel`` and ``ts``."""


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """One account that a message tells of. ``profile`` is the profile's name; ``failed_posts`` how many posts are known
    to have failed because of this; ``repaired_at`` the earlier repairs, oldest first, where they are the point.
    """

    ref: str
    platform: str
    name: str
    username: str | None
    profile: str | None
    cause: Cause
    unconfirmed: bool
    broken_at: datetime
    resolved_at: datetime | None = None
    validity_days: int | None = None
    failed_posts: int = 0
    repaired_at: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """Whom a message is for: ``name`` is empty where only an address is known, ``language`` a code such as ``"de"``."""

    name: str = ""
    language: str = "en"
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class Notice:
    """The facts that a message tells. All text has passed ``core.text.clean``; times are aware UTC.

    ``accounts`` are those of the message, the longest broken first, and ``more`` how many others there are that it does
    not list. ``also_told`` names who else heard of it. ``left`` is how many accounts of the same message are broken
    still when some are repaired. ``link`` is ``LINK`` or ``None`` where no link belongs into the message.
    ``link_minutes`` is set where the link is the provider's own and lives only that long (``link.mode = "direct"``).
    """

    id: str
    kind: NoticeKind
    step: int
    target: Target
    workspace: str
    accounts: tuple[AccountFacts, ...]
    created_at: datetime
    more: int = 0
    left: int = 0
    also_told: tuple[str, ...] = ()
    reader: Reader = Reader()
    link: str | None = LINK
    link_minutes: int | None = None
    by_hand: str = ""
    """Where a person gets to the same place without our link. A mail that asks for a log-in must offer such a way."""

    @property
    def total(self) -> int:
        return len(self.accounts) + self.more


@dataclass(frozen=True, slots=True)
class TroubleNotice:
    """For the operator: what stands between healthd and a workspace's API, and what to do. ``what`` and ``remedy`` are
    our own sentences; ``ended_at`` is set once it is over.
    """

    id: str
    kind: NoticeKind
    target: Target
    workspace: str
    trouble: str
    question: str
    what: str
    remedy: str
    since: datetime
    created_at: datetime
    request_id: str | None = None
    ended_at: datetime | None = None
    reader: Reader = Reader()

    @property
    def link(self) -> None:
        """Nothing that a link could repair."""


@dataclass(frozen=True, slots=True)
class StormNotice:
    """For the operator: ``broken`` of a workspace's ``accounts`` on one platform broke within ``window``. Once it is
    over ``ended_at`` and ``outcome`` (why, or who decided) are set, and ``still_broken`` counts those whose people are
    told now.
    """

    id: str
    kind: NoticeKind
    target: Target
    workspace: str
    platform: str
    broken: int
    accounts: int
    window: timedelta
    longest: timedelta
    since: datetime
    created_at: datetime
    storm: str = ""
    """Its id, for ``healthd storms release`` and ``cancel``."""
    still_broken: int = 0
    outcome: str = ""
    ended_at: datetime | None = None
    reader: Reader = Reader()

    @property
    def link(self) -> None:
        """Nothing that a link could repair."""


Message = Notice | TroubleNotice | StormNotice
"""What a channel can put into words. A ``CHRONIC`` notice is a ``Notice`` whose one account has ``repaired_at``."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to hand a rendered notice over.

    ``thread`` is the id of the incident's first notice to the same target, ``first`` its receipt; both ``None`` for the
    first notice itself. ``created_at`` dates the message, the same on every attempt.
    """

    notice_id: str
    kind: NoticeKind
    target: Target
    content: Content
    link: str | None
    created_at: datetime
    thread: str | None = None
    first: Receipt | None = None
    all_over: bool = True
    """For good news: whether nothing of the first message is broken any more, so that it may be rewritten."""
    also_over: tuple[Receipt, ...] = ()
    """For good news: receipts of other first messages of which nothing is broken any more, either."""


class Retry(Exception):
    """Not handed over, or nobody knows; try again, ``after`` that many seconds if the other side said so.

    ``reason`` is for operators and must hold no secret, address or link. ``unknown``: the message may have arrived all
    the same, as when an answer was lost; then its reader is told of the end as well.
    """

    def __init__(self, reason: str, after: float | None = None, *, unknown: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after
        self.unknown = unknown


class Dead(Exception):
    """The other side said *never*: unknown recipient, revoked hook. ``reason`` as for ``Retry``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Channel(Protocol):
    """A configured way to reach people."""

    def render(self, notice: Message) -> Content:
        """The message for this notice. Pure."""

    async def send(self, delivery: Delivery) -> Receipt:
        """Hands the message over. Raises ``Retry`` or ``Dead``, nothing else."""

    async def check(self) -> str:
        """Talks to the other side without telling anybody anything, and says in a line what was found.

        Raises ``Retry`` or ``Dead`` with what is wrong.
        """

    async def close(self) -> None: ...


def fill(part: str, link: str | None, escape: Callable[[str], str] = str) -> str:
    """The stored part with the real link in it, escaped for where it stands."""
    return part if link is None else part.replace(LINK, escape(link))
