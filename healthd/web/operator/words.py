"""How the operator's pages say things: states, kinds and times, in the words that the command line uses as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup, escape

from healthd.core.duration import in_words
from healthd.core.model import Cause, Lane, NoticeKind, NoticeStatus, State, Target

LONGEST = 80
"""Characters of a name or a reason that a row shows; the whole stands in its title."""


@dataclass(frozen=True, slots=True)
class Look:
    """``tone`` is one of the style sheet's colours, ``icon`` one of its shapes: no colour says anything alone."""

    word: str
    tone: str
    icon: str
    says: str = ""


STATES: Mapping[State, Look] = {
    State.HEALTHY: Look("Healthy", "good", "check", "Connected, and its grant is good."),
    State.EXPIRING: Look("Expiring", "warn", "clock", "Works still; a person must renew it before it ends."),
    State.SUSPECT: Look("Suspect", "ask", "ask", "Something says it is broken: it is being checked."),
    State.EXPIRED: Look("Expired", "bad", "key", "Its token is dead: a person must reconnect it."),
    State.DISCONNECTED: Look("Disconnected", "bad", "cut", "It was disconnected: a person must reconnect it."),
    State.REMOVED: Look("Removed", "dim", "bin", "The provider no longer has it."),
    State.UNKNOWN: Look("Unknown", "dim", "dots", "Nothing is known of it yet."),
}
BAR = (State.HEALTHY, State.EXPIRING, State.SUSPECT, State.EXPIRED, State.DISCONNECTED, State.UNKNOWN)
"""The states of a platform's bar, from left to right."""

NOTICES: Mapping[NoticeStatus, Look] = {
    NoticeStatus.PENDING: Look("Waiting", "ask", "clock"),
    NoticeStatus.SENDING: Look("Sending", "ask", "send"),
    NoticeStatus.HELD: Look("Held", "warn", "pause"),
    NoticeStatus.SENT: Look("Sent", "good", "check"),
    NoticeStatus.DROPPED: Look("Dropped", "dim", "bin"),
    NoticeStatus.DEAD: Look("Dead", "bad", "cross"),
}

KINDS: Mapping[NoticeKind, str] = {
    NoticeKind.OPENED: "It broke",
    NoticeKind.REMINDER: "Reminder",
    NoticeKind.ESCALATED: "Next in the chain",
    NoticeKind.WRONG_ACCOUNT: "Another account was connected",
    NoticeKind.RESOLVED: "It works again",
    NoticeKind.EXPIRING: "It expires soon",
    NoticeKind.TROUBLE: "Trouble with the API",
    NoticeKind.TROUBLE_OVER: "The API works again",
    NoticeKind.STORM: "A storm began",
    NoticeKind.STORM_OVER: "A storm is over",
    NoticeKind.CHRONIC: "Breaks again and again",
    NoticeKind.EVENT: "Event for an app",
}

CAUSES: Mapping[Cause, str] = {Cause.TOKEN: "the token expired", Cause.CONNECTION: "it was disconnected"}
LANES: Mapping[Lane, str] = {
    Lane.CLICK: "people’s clicks",
    Lane.CONFIRM: "suspects",
    Lane.BULK: "sweeps",
    Lane.ROTATION: "regular checks",
}
WAYS: Mapping[str, str] = {"email": "by e-mail", "slack": "in Slack", "webhook": "by webhook"}
HOLDS: Mapping[str, str] = {
    "paused": "its account is paused",
    "muted": "its account is muted",
    "storm": "a storm lasts",
    "chronic": "its account breaks again and again",
    "nobody": "there is nobody to tell",
}


def short(text: object, most: int = LONGEST) -> str:
    said = str(text)
    return said if len(said) <= most else said[: most - 1].rstrip() + "…"


def name(text: object, most: int = LONGEST) -> Markup:
    """A name that somebody else chose: isolated, so that it turns no sentence around, and shortened."""
    said = str(text)
    title = Markup(' title="{}"').format(short(said, 400)) if len(said) > most else ""
    return Markup("<bdi{}>{}</bdi>").format(title, short(said, most))


def whose(contact: str, target: Target, see: Callable[[str], str], called: str = "") -> str:
    """Who is told there: by name, by the key of their contact, by their address, or by the channel alone. An address is
    shown as ``see`` shows it behind the name of its channel, by which it knows one.
    """
    return see(called or contact) or see(target.key).partition(":")[2] or target.channel


def ago(at: datetime, now: datetime) -> str:
    """``"3 minutes ago"``, ``"in 2 hours"``."""
    if abs(now - at) < timedelta(minutes=1):
        return "just now" if at <= now else "in less than a minute"
    return f"{in_words(now - at)} ago" if at <= now else f"in {in_words(at - now)}"


def moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else ""


def time_tag(at: datetime | None, now: datetime, how: str = "ago") -> Markup:
    """A time, which the page's script says again in its reader's zone. ``how``: ``ago``, ``at``, or ``day``."""
    if at is None:
        return Markup('<span class="dim">never</span>')
    says = {"ago": lambda: ago(at, now), "at": lambda: moment(at), "day": lambda: _day(at, now)}[how]()
    stamp = at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}" data-t="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>').format(
        stamp, how, at, says
    )


def _day(at: datetime, now: datetime) -> str:
    near = timedelta(0) <= now - at < timedelta(days=6)
    return f"{at:%A %H:%M} UTC" if near else moment(at)


def icon(which: str) -> Markup:
    return Markup('<svg class="i" aria-hidden="true"><use href="#i-{}"/></svg>').format(which)


def badge(look: Look, word: str = "") -> Markup:
    """A state as icon and word."""
    return Markup('<span class="badge {}">{}{}</span>').format(look.tone, icon(look.icon), word or look.word)


def count(number: int, noun: str, many: str = "") -> str:
    """``"1 account"``, ``"12,000 accounts"``."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def joined(parts: list[Markup | str]) -> Markup:
    """``"Ada, Bob and Cem"``."""
    safe = [escape(part) for part in parts]
    if len(safe) < 2:
        return Markup("").join(safe)
    return Markup(", ").join(safe[:-1]) + Markup(" and ") + safe[-1]
