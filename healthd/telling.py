"""The store's content as a person reads it in a terminal, and as a script reads it in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, Row

from healthd.core.duration import in_words
from healthd.core.model import State, Target
from healthd.engine import Engine
from healthd.store import accounts, incidents, notices
from healthd.store.accounts import StoredAccount
from healthd.store.incidents import Incident
from healthd.store.notices import StoredNotice

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


@dataclass(frozen=True, slots=True)
class Story:
    """All that is on record of one account."""

    stored: StoredAccount
    targets: tuple[Target, ...]
    history: list[Row[Any]]
    incidents: list[Incident]
    notices: list[StoredNotice]
    mints: list[Row[Any]]

    def moments(self) -> list[tuple[datetime, str, str]]:
        """``(when, what, detail)``, oldest first; what happened at the same moment in the order of cause and effect."""
        return sorted(self._moments(), key=lambda one: one[0])

    def _moments(self) -> Iterator[tuple[datetime, str, str]]:
        yield self.stored.first_seen_at, "first seen", ""
        for row in self.history:
            moved = f"{row.before} → {row.after}" if row.before != row.after else f"stays {row.after}"
            note = f" ({row.note})" if row.note else ""
            yield row.recorded_at, f"{row.source} said {row.signal}", f"{moved}{note}"
        for incident in self.incidents:
            word = "" if incident.confirmed_at else ", unconfirmed"
            yield incident.opened_at, "incident opened", f"{incident.cause}{word}, {incident.id}"
            if incident.resolved_at:
                span = in_words(incident.resolved_at - incident.opened_at)
                yield incident.resolved_at, f"incident {incident.resolution}", f"after {span}"
        for notice in self.notices:
            reason = f": {notice.reason}" if notice.reason else ""
            tries = f", {notice.attempts} attempts" if notice.attempts > 1 else ""
            where = notice.target.key or "nobody"
            yield (
                notice.sent_at or notice.created_at,
                f"{notice.kind} notice {notice.status}",
                f"to {where}{tries}{reason}",
            )
        for mint in self.mints:
            yield mint.at, "reconnect button pressed", f"{mint.outcome}, from {mint.client}"

    def timeline(self) -> Table:
        account = self.stored.account
        told = ", ".join(target.key for target in self.targets) or "nobody"
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
            "targets": [target.key for target in self.targets],
            "timeline": [{"at": at.isoformat(), "what": what, "detail": detail} for at, what, detail in self.moments()],
            "as_of": datetime.now(UTC).isoformat(),
        }


def stories(connection: Connection, words: str, engine: Engine) -> list[Story]:
    """The stories of the accounts that a person means by these words."""
    return [
        Story(
            stored,
            engine.targets(stored),
            incidents.history_of(connection, stored.id),
            incidents.of_account(connection, stored.id),
            notices.of_account(connection, stored.id),
            incidents.mints_of_account(connection, stored.id),
        )
        for stored in accounts.find(connection, words)
    ]
