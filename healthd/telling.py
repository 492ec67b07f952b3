"""The store's content as a person reads it in a terminal, and as a script reads it in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree
from sqlalchemy import Connection, Row

from healthd.core.contacts import Contact, format_days, format_quiet, format_zone
from healthd.core.duration import in_words
from healthd.core.model import NoticeStatus, State, Target
from healthd.core.routing import Level, Route, Routing
from healthd.dispatch import Case
from healthd.engine import Engine
from healthd.store import accounts, contacts, decisions, incidents, notices, post_failures
from healthd.store.accounts import StoredAccount
from healthd.store.contacts import BadAddress, StoredContact
from healthd.store.decisions import Decision
from healthd.store.incidents import Incident
from healthd.store.notices import StoredNotice
from healthd.store.post_failures import FailedPost
from healthd.store.storms import Storm

COLOURS = {
    State.HEALTHY: "green",
    State.EXPIRING: "yellow",
    State.SUSPECT: "yellow",
    State.EXPIRED: "red",
    State.DISCONNECTED: "red",
    State.REMOVED: "dim",
    State.UNKNOWN: "dim",
}


def moment(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else ""


def coloured(state: State) -> Text:
    return Text(state, style=COLOURS[state])


def table(*columns: str, title: Text | None = None, caption: Text | None = None) -> Table:
    """Cells are ``Text``: in a plain string rich would take ``[red]`` or ``:fire:`` in a name for its own."""
    made = Table(title=title, caption=caption, title_style="bold", caption_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def add_row(to: Table, *cells: str | Text) -> None:
    to.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def accounts_table(found: Sequence[StoredAccount]) -> Table:
    shown = table("workspace", "account", "platform", "name", "state", "paused", "since (UTC)", "days left")
    for stored in found:
        account = stored.account
        add_row(
            shown,
            account.workspace,
            account.ref,
            account.platform,
            stored.name,
            coloured(account.state),
            "paused" if account.paused else "",
            moment(account.changed_at),
            "" if account.validity_days is None else str(account.validity_days),
        )
    return shown


def incidents_table(found: Sequence[Row[Any]]) -> Table:
    shown = table("workspace", "account", "platform", "name", "cause", "broken (UTC)", "resolved (UTC)", "incident")
    for row in found:
        add_row(
            shown,
            row.workspace,
            row.ref,
            row.platform,
            row.name,
            f"{row.cause}{'' if row.confirmed_at else ' (unconfirmed)'}",
            moment(row.broken_at),
            moment(row.resolved_at),
            row.id,
        )
    return shown


def incident_json(row: Row[Any]) -> dict[str, Any]:
    """Times in ISO 8601."""
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in row._mapping.items()  # noqa: SLF001 - the row's public mapping, in spite of its name
    }


UNDECIDED = frozenset({NoticeStatus.PENDING, NoticeStatus.SENDING, NoticeStatus.HELD})
"""What will still happen; of what has happened the decisions tell."""


def level_text(level: Level) -> str:
    """``"ada, team-slack after 2 days (route 1)"``."""
    names = ", ".join(one.contact or one.target.key for one in level.recipients)
    when = f" after {in_words(level.after)}" if level.after else ""
    return f"{names}{when} ({level.why})"


def level_json(level: Level) -> dict[str, Any]:
    """A level of the chain as a script sees it; ``after`` in seconds."""
    recipients = [{"to": one.target.key, "contact": one.contact or None} for one in level.recipients]
    return {"after": level.after.total_seconds(), "why": level.why, "recipients": recipients}


@dataclass(frozen=True, slots=True)
class Story:
    """All that is on record of one account."""

    stored: StoredAccount
    plan: tuple[Level, ...]
    history: list[Row[Any]]
    incidents: list[Incident]
    notices: list[StoredNotice]
    decisions: list[Decision]
    mints: list[Row[Any]]
    failed_posts: list[FailedPost]

    def moments(self) -> list[tuple[datetime, str, str]]:
        """``(when, what, detail)``, oldest first; what happened at the same moment in the order of cause and effect."""
        return sorted(self._moments(), key=lambda one: one[0])

    def _moments(self) -> Iterator[tuple[datetime, str, str]]:
        yield self.stored.first_seen_at, "first seen", ""
        for row in self.history:
            moved = f"{row.before} → {row.after}" if row.before != row.after else f"stays {row.after}"
            note = f" ({row.note})" if row.note else ""
            yield row.recorded_at, f"{row.source} said {row.signal}", f"{moved}{note}"
        for failed in self.failed_posts:
            says = ": ".join(filter(None, (failed.code, failed.message))) or "no reason was given"
            # The provider's clock tells whole seconds: one of them may have begun before the account was first seen.
            yield max(failed.at, self.stored.first_seen_at), f"post {failed.post} failed", says
        for incident in self.incidents:
            word = "" if incident.confirmed_at else ", unconfirmed"
            yield incident.opened_at, "incident opened", f"{incident.cause}{word}, {incident.id}"
            if incident.resolved_at:
                span = in_words(incident.resolved_at - incident.opened_at)
                yield incident.resolved_at, f"incident {incident.resolution}", f"after {span}"
        for decision in self.decisions:
            by = f", by {decision.who}" if decision.who else ""
            yield decision.at, decision.what, f"{decision.reason}{by}"
        for notice in self.notices:
            if notice.status in UNDECIDED:
                reason = f": {notice.reason}" if notice.reason else ""
                tries = f", {notice.attempts} attempts" if notice.attempts > 1 else ""
                where = notice.contact or notice.target.key or "nobody"
                yield notice.due_at, f"{notice.kind} {notice.status}", f"{where}{tries}{reason}"
        for mint in self.mints:
            yield mint.at, "reconnect button pressed", f"{mint.outcome}, from {mint.client}"

    def timeline(self) -> Table:
        account = self.stored.account
        told = "; then ".join(map(level_text, self.plan)) or "nobody"
        name = f"{self.stored.name} · {account.platform} · {account.workspace}/{account.ref} · {account.state}"
        paused = " · paused" if account.paused else ""
        shown = table(
            "when (UTC)",
            "what",
            "detail",
            title=Text(name + paused),
            caption=Text(f"told: {told} · next look {moment(self.stored.probe_at) or 'never'}"),
        )
        for at, what, detail in self.moments():
            add_row(shown, moment(at), what, detail)
        return shown

    def as_json(self) -> dict[str, Any]:
        return {
            "account": accounts.as_json(self.stored),
            "plan": [level_json(level) for level in self.plan],
            "timeline": [{"at": at.isoformat(), "what": what, "detail": detail} for at, what, detail in self.moments()],
            "as_of": datetime.now(UTC).isoformat(),
        }


def stories(connection: Connection, words: str, engine: Engine, now: datetime) -> list[Story]:
    """The stories of the accounts that a person means by these words."""
    return [story(connection, stored, engine, now) for stored in accounts.find(connection, words)]


def story(connection: Connection, stored: StoredAccount, engine: Engine, now: datetime) -> Story:
    """The newest of what is on record of one account."""
    return Story(
        stored,
        engine.dispatch.plan(Case(connection, stored, now)),
        incidents.history_of(connection, stored.id),
        incidents.of_account(connection, stored.id),
        notices.of_account(connection, stored.id),
        decisions.of_account(connection, stored.id),
        incidents.mints_of_account(connection, stored.id),
        post_failures.of_account(connection, stored.id),
    )


@dataclass(frozen=True, slots=True)
class DryRun:
    """Who would be told if this account broke at ``now``: by level, and why somebody would wait or hear nothing."""

    stored: StoredAccount
    plan: tuple[Level, ...]
    labels: dict[str, str]
    contacts: dict[str, Contact]
    bad: frozenset[Target]
    now: datetime

    def rows(self) -> Iterator[tuple[str, str, str, str, str]]:
        """``(when, who, where, why, note)``."""
        for number, level in enumerate(self.plan):
            due = self.now + level.after
            for one in level.recipients:
                contact = self.contacts.get(one.contact)
                opens_at = contact.hours.opens_at(due) if contact else due
                note = "its messages come back: the next level is told instead" if one.target in self.bad else ""
                if opens_at > due:
                    note = f"quiet hours: waits until {moment(opens_at)} UTC"
                when = f"after {in_words(level.after)}" if number else "at once"
                yield when, contact.name if contact else "", one.target.key, level.why, note

    def table(self) -> Table:
        account = self.stored.account
        labels = ", ".join(f"{name}={value}" for name, value in sorted(self.labels.items()))
        shown = table(
            "when", "who", "where", "why", "note",
            title=Text(f"{self.stored.name} · {account.platform} · {account.workspace}/{account.ref}"),
            caption=Text(f"labels: {labels}" if labels else ""),
        )  # fmt: skip
        for row in self.rows():
            add_row(shown, *row)
        if not self.plan:
            add_row(shown, "never", "nobody", "", "no route matches, no owner is on record, no default is set", "")
        return shown

    def as_json(self) -> dict[str, Any]:
        keys = ("when", "who", "where", "why", "note")
        return {
            "account": accounts.as_json(self.stored),
            "labels": self.labels,
            "levels": [level_json(level) for level in self.plan],
            "told": [dict(zip(keys, row, strict=True)) for row in self.rows()],
        }


def dry_runs(connection: Connection, words: str, engine: Engine, now: datetime) -> list[DryRun]:
    """What would happen to the accounts that a person means by these words."""
    return [dry_run(connection, stored, engine, now) for stored in accounts.find(connection, words)]


def dry_run(connection: Connection, stored: StoredAccount, engine: Engine, now: datetime) -> DryRun:
    """What would happen if this account broke now."""
    case = Case(connection, stored, now)
    plan = engine.dispatch.plan(case)
    everybody = [one for level in plan for one in level.recipients]
    known = contacts.directory(connection, {one.contact for one in everybody if one.contact}).contacts
    bad = contacts.bad_among(connection, [one.target for one in everybody])
    _, labels = engine.dispatch.owners(case)
    return DryRun(stored, plan, dict(labels), dict(known), bad, now)


def routes_tree(routing: Routing) -> Tree:
    """The routes in order, as they are asked."""
    tree = Tree(Text("an account breaks"))
    for number, route in enumerate(routing.routes, 1):
        branch = tree.add(Text(f"route {number}: {matchers(route)}", style="bold"))
        for step in route.steps():
            when = f"after {in_words(step.after)}" if step.after else "at once"
            branch.add(Text(f"{when}: {', '.join(target.key for target in step.to)}"))
        if not route.stop:
            branch.add(Text("and the routes below as well", style="dim"))
    rest = tree.add(Text("no route matches" if routing.routes else "always", style="bold"))
    rest.add(Text(f"its owners on record, level after level, {in_words(routing.escalate_after)} apart"))
    rest.add(Text(f"then: {', '.join(target.key for target in routing.default) or 'nobody'}"))
    return tree


def matchers(route: Route) -> str:
    """``"platform is youtube or gmb"``: which accounts the route is for."""
    named = (
        ("workspace", route.workspace), ("platform", route.platform), ("account", route.account),
        ("profile", route.profile),
    )  # fmt: skip
    said = [f"{name} is {' or '.join(sorted(values))}" for name, values in named if values]
    said += [f"label {name} is {value}" for name, value in route.labels]
    return " and ".join(said) or "every account"


def storms_table(found: Sequence[Storm]) -> Table:
    shown = table("storm", "workspace", "platform", "began (UTC)", "broken", "of", "ended (UTC)", "how it ended")
    for one in sorted(found, key=lambda storm: storm.ended_at is not None):
        add_row(
            shown, one.id, one.workspace, one.platform, moment(one.began_at), str(one.broken), str(one.accounts),
            moment(one.ended_at) or "lasts", one.outcome or "",
        )  # fmt: skip
    return shown


def storm_json(one: Storm) -> dict[str, Any]:
    """Times in ISO 8601."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(one).items()}


def contacts_table(found: Sequence[StoredContact]) -> Table:
    shown = table("contact", "name", "reached at", "zone", "quiet hours", "days", "language", "from", "wrong")
    for one in found:
        contact = one.contact
        add_row(
            shown, contact.key, contact.name, ", ".join(target.key for target in contact.addresses),
            format_zone(contact.hours.zone) or "UTC", format_quiet(contact.hours.quiet),
            format_days(contact.hours.days), contact.language, one.source, "; ".join(one.wrong),
        )  # fmt: skip
    return shown


def contact_json(one: StoredContact) -> dict[str, Any]:
    contact = one.contact
    return {
        "key": contact.key,
        "name": contact.name,
        "addresses": [target.key for target in contact.addresses],
        "zone": format_zone(contact.hours.zone) or "UTC",
        "quiet_hours": format_quiet(contact.hours.quiet),
        "working_days": format_days(contact.hours.days),
        "language": contact.language,
        "source": one.source,
        "wrong": list(one.wrong),
    }


def bounced_table(found: Sequence[BadAddress]) -> Table:
    shown = table("address", "since (UTC)", "reason", "who said so")
    for bad in found:
        add_row(shown, bad.target.key, moment(bad.since), bad.reason, bad.source)
    return shown
