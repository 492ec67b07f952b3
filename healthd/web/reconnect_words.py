"""Every sentence that the reconnect page says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

from healthd.channels.platforms import platform_colour
from healthd.channels.wording import BY_HAND, platform_name
from healthd.core.duration import in_words
from healthd.core.model import Cause
from healthd.store.accounts import StoredAccount
from healthd.web.reconnect_cases import PRESSABLE, Case, Visit


def _filled(sentence: str, words: Mapping[str, str]) -> Markup:
    """With the words in place: escaped, unless they are markup already."""
    return Markup(sentence).format(**words)  # noqa: S704 - sentences of ours


@dataclass(frozen=True, slots=True)
class Saying:
    """What a page says. ``{account}``, ``{handle}``, ``{platform}``, ``{cause}`` and ``{wait}`` are filled in, and of
    several accounts ``{progress}``, ``{left}`` and ``{all}``; the button stands only while an account can be
    reconnected.
    """

    tone: str
    badge: str
    title: str
    text: str
    more: str = ""
    button: str = ""

    def filled(self, words: Mapping[str, str]) -> dict[str, Markup]:
        """All but the tone."""
        parts = ("badge", "title", "text", "more", "button")
        return {name: _filled(getattr(self, name), words) for name in parts}


SAYINGS: Mapping[str, Saying] = {
    "broken": Saying(
        "broken", "Disconnected", "{account} on {platform} needs to be reconnected", "{cause}",
        "Posts scheduled for it fail until it is reconnected.", "Reconnect on {platform}",
    ),
    "unconfirmed": Saying(
        "soon", "Not confirmed yet", "{account} on {platform} may need to be reconnected",
        "We were told that it lost its connection, but could not check it ourselves yet.",
        "Reconnecting it does no harm if it turns out to work.", "Reconnect on {platform}",
    ),
    "waiting": Saying(
        "soon", "Waiting for {platform}", "Waiting for {account} to be connected again",
        "When you have finished at {platform}, this page notices within a few seconds.",
        "Did {platform} not open, or did you close it?", "Open {platform} again",
    ),
    "still_broken": Saying(
        "broken", "Still disconnected", "{account} on {platform} is still not connected",
        "If you have finished there, you may have chosen another account than {handle}, or left out a permission.",
        "Please try again, choose {handle}, and leave all permissions ticked.", "Try again on {platform}",
    ),
    "repaired": Saying(
        "fixed", "Fixed", "{account} on {platform} is connected again",
        "Thank you. There is nothing more to do here, and you can close this page.",
        "Posts that failed in the meantime may have to be published again.",
    ),
    "again": Saying(
        "broken", "Disconnected again", "{account} on {platform} lost its connection again",
        "What this link was for has been repaired. It is not for what happened since then.",
        f"The newest message about this account has a link that works. You can also reconnect it at {BY_HAND}.",
    ),
    "removed": Saying(
        "quiet", "Removed", "{account} on {platform} is no longer connected here",
        "The account was removed from the workspace, so there is nothing to repair.",
    ),
    "several": Saying(
        "broken", "{progress}", "{left} to be reconnected",
        "Posts scheduled for them fail until then. Take one after the other: this page moves on by itself.",
    ),
    "several_repaired": Saying(
        "fixed", "Fixed", "{all} connected again",
        "Thank you. There is nothing more to do here, and you can close this page.",
        "Posts that failed in the meantime may have to be published again.",
    ),
    "several_again": Saying(
        "broken", "Disconnected again", "Some of these accounts lost their connection again",
        "What this link was for has been repaired. It is not for what happened since then.",
        f"The newest message about them has a link that works. You can also reconnect them at {BY_HAND}.",
    ),
    "several_removed": Saying(
        "quiet", "Removed", "These accounts are no longer connected here",
        "They were removed from the workspace, so there is nothing to repair.",
    ),
    "over": Saying(
        "quiet", "Link expired", "This link no longer works",
        "Links in our messages end after some days. The newest message about this account has one that works.",
        f"You can also reconnect the account at {BY_HAND}.",
    ),
    "invalid": Saying(
        "quiet", "Unknown link", "This link is not one of ours, or not complete",
        "Mail programs sometimes cut long links. Open the link from the message itself, or copy all of it.",
        f"You can also reconnect the account at {BY_HAND}.",
    ),
    "busy": Saying(
        "soon", "One moment", "Too much is going on just now",
        "The service that opens the log-in page asks for patience. Please wait {wait}, and try again.",
        "This link stays valid.", "Try again",
    ),
    "often": Saying(
        "soon", "One moment", "That was a little too often",
        "Please wait {wait}, and try again.", "", "Try again",
    ),
    "unavailable": Saying(
        "soon", "Not reachable", "The log-in page cannot be opened just now",
        "The service behind it does not answer. That is not your doing: please try again in some minutes.",
        "This link stays valid.", "Try again",
    ),
    "operator": Saying(
        "soon", "Not possible just now", "Something has to be put right on our side first",
        "That is not your doing, and nothing that you could mend. Please try again later.",
        "This link stays valid.", "Try again",
    ),
    "missing": Saying(
        "soon", "Not found", "{account} on {platform} cannot be found just now",
        "It may have been removed from the workspace. Then there is nothing to do.",
        f"If you still see it at {BY_HAND}, you can reconnect it there.",
    ),
    "by_hand": Saying(
        "quiet", "Another way", "This account is connected in another way",
        f"{{platform}} does not take this account back by a link. Go to {BY_HAND}, and connect it again there.",
    ),
    "paused": Saying(
        "quiet", "Paused", "The profile of this account is paused",
        "The account can be reconnected, with this link, once the profile is resumed.",
    ),
    "stale": Saying(
        "soon", "Once more, please", "Please press the button once more",
        "This page was open for a long time, or was not opened from our message.", "", "Reconnect on {platform}",
    ),
    "method": Saying("quiet", "Not possible", "This cannot be done here", "Open the link from the message."),
}  # fmt: skip

_CAUSES = {
    Cause.TOKEN: "{platform} stopped accepting this account’s permission to publish {span} ago.",
    Cause.CONNECTION: "The connection to this account on {platform} stopped working {span} ago.",
}


@dataclass(frozen=True, slots=True)
class RowSaying:
    """What stands of one account among several. ``hint`` and ``button`` are for the one to repair next; ``hint`` also
    where there is no button.
    """

    tone: str
    badge: str
    since: str = "disconnected {span} ago"
    hint: str = ""
    button: str = ""


_LOG_IN = (
    "{platform} opens<span data-beside hidden> in a new tab</span>, and asks you to log in. Choose {handle}, and "
    "leave all permissions ticked."
)
ROWS: Mapping[str, RowSaying] = {
    "broken": RowSaying("broken", "", hint=_LOG_IN, button="Reconnect on {platform}"),
    "unconfirmed": RowSaying(
        "soon", "Not confirmed yet", "not confirmed for {span}", _LOG_IN, "Reconnect on {platform}"
    ),
    "waiting": RowSaying(
        "soon", "Waiting for {platform}", hint=SAYINGS["waiting"].text, button="Open {platform} again"
    ),
    "still_broken": RowSaying(
        "broken", "Still disconnected", hint=f"{SAYINGS['still_broken'].text} Please choose {{handle}} this time.",
        button="Try again on {platform}",
    ),
    "repaired": RowSaying("fixed", "Connected again", ""),
    "again": RowSaying(
        "broken", "Disconnected again", "", "The newest message about this account has a link that works."
    ),
    "removed": RowSaying("quiet", "Removed", ""),
    "over": RowSaying("quiet", "Link expired", ""),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One account among several, ready to be laid out. ``first``: it is the one to repair next. ``button`` is empty
    where it cannot be repaired here.
    """

    incident: str
    state: str
    first: bool
    tone: str
    badge: Markup
    account: Markup
    handle: Markup
    platform: str
    colour: str
    since: Markup
    since_at: datetime
    hint: Markup
    button: Markup
    name: str


def rows_of(visit: Visit, now: datetime) -> list[Row]:
    """The rows of a page about several accounts, the next one to repair first."""
    found = visit.rows(now)
    return [_row(visit, case, state, now, first=place == 0) for place, (case, state) in enumerate(found)]


def _row(visit: Visit, case: Case, state: str, now: datetime, *, first: bool) -> Row:
    saying, words = ROWS[state], of_case(case, now)
    pressable = state in PRESSABLE
    button = _filled(saying.button if first else "Reconnect", words) if pressable else Markup()
    if first and state in {"broken", "unconfirmed"}:
        button += f" ({visit.total - visit.left + 1}\u00a0of\u00a0{visit.total})"
    return Row(
        incident=case.incident.id,
        state=state,
        first=first and pressable,
        tone=saying.tone,
        badge=_filled(saying.badge, words),
        account=words["account"],
        handle=Markup() if handle_of(case.account) == case.account.name else words["handle"],
        platform=words["platform"],
        colour=platform_colour(case.account.account.platform),
        since=_filled(saying.since, words),
        since_at=case.incident.broken_at,
        hint=_filled(saying.hint if first or not pressable else "", words),
        button=button,
        name=case.account.name,
    )


def of_case(case: Case, now: datetime) -> dict[str, Markup]:
    """What is filled into sayings about one account. Names that somebody else chose stand in <bdi>, so that they turn
    no sentence around.
    """
    platform = Markup.escape(platform_name(case.account.account.platform))
    span = Markup.escape(in_words(now - case.incident.broken_at))
    handle = handle_of(case.account)
    return {
        "account": Markup("<bdi>{}</bdi>").format(case.account.name),
        "handle": Markup('<bdi class="handle">{}</bdi>').format(handle),
        "platform": platform,
        "span": span,
        "cause": _filled(_CAUSES[case.incident.cause], {"span": span, "platform": platform}),
    }


_NO_CASE = {"account": "", "handle": "", "platform": "", "span": "", "cause": ""}


def words_for(case: Case | None, visit: Visit | None, now: datetime, wait: int | None) -> dict[str, str]:
    """What is filled into a page's saying."""
    return {
        **(of_case(case, now) if case else _NO_CASE),
        **(_counted(visit, now) if visit else {}),
        "wait": in_words(timedelta(seconds=wait or 60)),
    }


def _counted(visit: Visit, now: datetime) -> dict[str, str]:
    total, left = visit.total, visit.left
    done = total - left - sum(case.state(now) == "again" for case in visit.cases)
    number = "1 account" if left == 1 else f"{left} accounts"
    still = " still" if done else ""
    return {
        "progress": f"{done} of {total} connected again" if done else "Disconnected",
        "left": f"{number}{still} {'needs' if left == 1 else 'need'}",
        "all": {1: "The account is", 2: "Both accounts are"}.get(total, f"All {total} accounts are"),
    }


def noted(visit: Visit, now: datetime) -> str:
    """What somebody has asked for already, where that holds for all that is broken; or nothing."""
    until = visit.quiet_until(now)
    if until is None:
        return ""
    moment = f"{until:%A}, {until.day} {until:%B}, {until:%H:%M} UTC"
    about = "they are" if visit.left > 1 else "it is"
    who = "Somebody is on it: nobody is reminded, and nobody else is asked," if visit.taken_on(now) else "No reminders"
    return f"Noted. {who} until {moment}, or until {about} repaired."


def handle_of(account: StoredAccount) -> str:
    username = account.username or ""
    return f"@{username.removeprefix('@')}" if username and " " not in username else username or account.name
