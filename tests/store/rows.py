"""Rows for a store to hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from healthd.core.model import Account, Cause, Lane, NoticeKind, State, Target
from healthd.store import accounts, incidents, notices
from healthd.store.accounts import StoredAccount
from healthd.store.incidents import Incident, Link
from healthd.store.notices import Draft
from healthd.store.schema import accounts as accounts_table

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
ADA = Target("mail", "ada@acme.example")
SLACK = Target("slack")


def add_account(connection: Connection, ref: str, **facts: Any) -> StoredAccount:
    """An account in the store; ``facts`` are the machine's, or the store's own."""
    kept = {name: facts.pop(name) for name in list(facts) if name in StoredAccount.__dataclass_fields__}
    known = Account(**{"workspace": "acme", "ref": ref, "platform": "facebook", **facts})
    fresh = StoredAccount(id=0, account=known, profile="", name=f"Account {ref}", username=None, first_seen_at=NOON)
    accounts.create(connection, [replace(fresh, **kept)])
    return accounts.load(connection, known.workspace, [ref])[ref]


def change(connection: Connection, stored: StoredAccount, **facts: Any) -> StoredAccount:
    after = replace(stored, account=replace(stored.account, **facts))
    accounts.write(connection, [(stored, after)])
    return after


def add_incident(connection: Connection, stored: StoredAccount, **facts: Any) -> Incident:
    incident = Incident(
        **{
            "id": f"i{stored.id}",
            "account_id": stored.id,
            "workspace": stored.account.workspace,
            "platform": stored.account.platform,
            "cause": Cause.TOKEN,
            "broken_at": NOON,
            "opened_at": NOON,
            "confirmed_at": NOON,
            **facts,
        }
    )
    incidents.create(connection, [incident])
    return incident


def add_link(connection: Connection, incident: Incident, name: str, target: Target = ADA, **facts: Any) -> Link:
    """A link to the repair of one account, for a week."""
    expires = NOON + 7 * DAY
    link = Link(**{
        "id": name, "incident_id": incident.id, "account_id": incident.account_id, "target": target.key,
        "expires_at": expires, "revoked_at": None, **facts,
    })  # fmt: skip
    incidents.ensure_links(connection, [link], NOON)
    return link


def add_notice(connection: Connection, stored: StoredAccount, subject: str = "s", **facts: Any) -> str:
    """A notice to Ada, due at noon; its id."""
    wanted = Draft(
        **{
            "subject": subject,
            "kind": NoticeKind.OPENED,
            "target": ADA,
            "account_id": stored.id,
            "created_at": facts.get("due_at", NOON),
            "due_at": NOON,
            **facts,
        }
    )
    assert notices.write(connection, [wanted]) == 1
    return notices.notice_id(subject, wanted.target, wanted.kind, wanted.step)


def turn(connection: Connection, account_id: int) -> tuple[datetime | None, Lane]:
    """When the account is probed next, and in which lane."""
    stored = accounts.by_id(connection, account_id)
    assert stored is not None
    return stored.probe_at, stored.probe_lane


def recount(connection: Connection) -> set[tuple[str, str, State, bool, int]]:
    """The counts, counted."""
    keys = [accounts_table.c[name] for name in ("workspace", "platform", "state", "paused")]
    rows = connection.execute(select(*keys, func.count()).group_by(*keys))
    return {(row[0], row[1], State(row[2]), row[3], row[4]) for row in rows}
