"""Every table. Times are integers of microseconds since 1970 (UTC), which both databases order and index well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator

from healthd.store.words import Id

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Since 1970."""
    return (at - EPOCH) // _MICROSECOND


class Time(TypeDecorator[datetime]):
    """An aware datetime, kept as microseconds since 1970. A naive one is refused."""

    impl = BigInteger
    cache_ok = True

    # A million accounts have millions of times: by way of ``process_bind_param`` each costs three times as much.
    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], int | None]:
        return _as_number

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[int | None], datetime | None]:
        return as_time


def _as_number(value: datetime | None) -> int | None:
    return None if value is None else microseconds(value)


def as_time(value: int | None) -> datetime | None:
    """What stands in a column of ``Time``, as the driver gives it."""
    return None if value is None else EPOCH + timedelta(microseconds=value)


IN_WORK = "status IN ('pending', 'sending')"
"""Notices that are still to be sent. Queries repeat a partial index's condition word for word: a database cannot see
that an index covers a bound parameter's value.
"""
HELD = "status = 'held'"
DEAD = "status = 'dead'"
OPEN = "resolved_at IS NULL"
ENDED_NOT = "ended_at IS NULL"
UNSETTLED = "status <> 'done'"
"""Webhooks that nobody has understood yet."""
WITH_BODY = "length(body) > 0"
CONNECTIONS = "signal = 'connected'"


def _only(condition: str) -> dict[str, Any]:
    """A partial index, in both databases' words."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

profiles = Table(
    "profiles",
    metadata,
    Column("workspace", Text, primary_key=True),
    # The empty ref is the workspace itself: its own accounts, outside any profile.
    Column("ref", Text, primary_key=True),
    Column("name", Text, nullable=False, server_default=""),
    Column("external_id", Text),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("bulk_at", Time),
    Column("inventory_at", Time),
    # Since when its lists have been too short to be believed.
    Column("short_since", Time),
)

jobs = Table(
    "jobs",
    metadata,
    # What one daemon at a time does for all, such as the sweep over a workspace.
    Column("name", Text, primary_key=True),
    Column("due_at", Time, nullable=False),
    Column("holder", Text),
    Column("lease_until", Time),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("workspace", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("profile", Text, nullable=False, server_default=""),
    Column("platform", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("username", Text),
    Column("state", Text, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("as_of", Time),
    Column("changed_at", Time),
    Column("suspicion", Text),
    Column("confirm_by", Time),
    Column("error_since", Time),
    Column("validity_days", Integer),
    Column("refresh_floor", Integer),
    Column("warned_deadline", Time),
    Column("first_seen_at", Time, nullable=False),
    Column("missing_since", Time),
    Column("clicked_at", Time),
    # When healthd itself paused posting to it, because it is broken; empty for what a person paused.
    Column("auto_paused_at", Time),
    # Until when nobody is told of this account, because a person said so.
    Column("muted_until", Time),
    # When this account is next asked about by itself, and how urgently; a claim moves probe_at ahead by its lease.
    Column("probe_at", Time),
    Column("probe_lane", SmallInteger, nullable=False),
    UniqueConstraint("workspace", "ref"),
    Index("ix_accounts_probe", "workspace", "probe_lane", "probe_at"),
    Index("ix_accounts_confirm_by", "confirm_by", **_only("confirm_by IS NOT NULL")),
    Index("ix_accounts_state", "workspace", "state", "id"),
    # With all that is searched in, so that a search walks the index and not the table.
    Index("ix_accounts_name", "name", "id", "username", "ref"),
    Index("ix_accounts_paused", "paused", "id", **_only("paused")),
    Index("ix_accounts_changed_at", "changed_at", "id"),
    Index("ix_accounts_profile", "workspace", "profile", "platform", "state"),
    Index("ix_accounts_muted_until", "muted_until", **_only("muted_until IS NOT NULL")),
)

allowances = Table(
    "allowances",
    metadata,
    Column("workspace", Text, primary_key=True),
    Column("limit", Integer),
    Column("paused_until", Time),
)

allowance_spends = Table(
    "allowance_spends",
    metadata,
    Column("id", Id, primary_key=True),
    Column("workspace", Text, nullable=False),
    # One life of one process: it counts its own calls itself.
    Column("holder", Text, nullable=False),
    Column("at", Time, nullable=False),
    Column("calls", Integer, nullable=False),
    Index("ix_allowance_spends_workspace_at", "workspace", "at"),
)

account_counts = Table(
    "account_counts",
    metadata,
    # Kept in the transactions that change accounts, so that a scrape reads some rows and never counts a million.
    Column("workspace", Text, primary_key=True),
    Column("platform", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("paused", Boolean, primary_key=True),
    Column("total", Integer, nullable=False),
)

history = Table(
    "history",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("recorded_at", Time, nullable=False),
    Column("at", Time),
    Column("source", Text, nullable=False),
    Column("signal", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("note", Text),
    Column("event_id", Text),
    Column("request_id", Text),
    Index("ix_history_account_id_id", "account_id", "id"),
    Index("ix_history_recorded_at", "recorded_at"),
    Index("ix_history_connections", "recorded_at", **_only(CONNECTIONS)),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("workspace", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("broken_at", Time, nullable=False),
    Column("opened_at", Time, nullable=False),
    Column("confirmed_at", Time),
    Column("resolved_at", Time),
    Column("resolution", Text),
    Column("storm_id", ForeignKey("storms.id")),
    # Until when whoever took it on is spared reminders, and who that was.
    Column("acknowledged_at", Time),
    Column("acknowledged_until", Time),
    Column("acknowledged_by", Text),
    Column("snoozed_until", Time),
    # When its repair came so far for the first time: a message handed over, the page shown, a provider's link given.
    Column("told_at", Time),
    Column("page_at", Time),
    Column("minted_at", Time),
    Index("ix_incidents_open", "account_id", unique=True, **_only(OPEN)),
    Index("ix_incidents_open_workspace", "workspace", "opened_at", **_only(OPEN)),
    Index("ix_incidents_open_platform", "workspace", "platform", "opened_at", **_only(OPEN)),
    Index("ix_incidents_open_storm", "storm_id", **_only(f"{OPEN} AND storm_id IS NOT NULL")),
    Index("ix_incidents_account_id", "account_id", "opened_at"),
    Index("ix_incidents_workspace_opened_at", "workspace", "opened_at"),
    Index("ix_incidents_opened_at", "opened_at", "id"),
)

links = Table(
    "links",
    metadata,
    Column("id", Text, primary_key=True),
    Column("incident_id", ForeignKey("incidents.id"), nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("target", Text, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("revoked_at", Time),
    UniqueConstraint("incident_id", "target"),
)

link_incidents = Table(
    "link_incidents",
    metadata,
    # What else a link leads to, besides its own incident: the others of the message that it stood in.
    Column("link_id", ForeignKey("links.id"), primary_key=True),
    Column("incident_id", ForeignKey("incidents.id"), primary_key=True),
    Index("ix_link_incidents_incident_id", "incident_id"),
)

mints = Table(
    "mints",
    metadata,
    Column("id", Id, primary_key=True),
    Column("link_id", ForeignKey("links.id"), nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("at", Time, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("request_id", Text),
    Index("ix_mints_link_id_at", "link_id", "at"),
    Index("ix_mints_account_id", "account_id"),
)

troubles = Table(
    "troubles",
    metadata,
    # What stands, or stood, between us and a workspace's API. ``question`` is what was asked when it showed first: an
    # answer to that ends it.
    Column("id", Text, primary_key=True),
    Column("workspace", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("since", Time, nullable=False),
    Column("message", Text, nullable=False),
    Column("remedy", Text, nullable=False),
    Column("request_id", Text),
    Column("ended_at", Time),
    Index("ix_troubles_current", "workspace", "kind", unique=True, **_only("ended_at IS NULL")),
)

storms = Table(
    "storms",
    metadata,
    # A platform whose accounts broke all at once: people's notices are held while it lasts.
    Column("id", Text, primary_key=True),
    Column("workspace", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("began_at", Time, nullable=False),
    Column("last_at", Time, nullable=False),
    Column("judge_at", Time, nullable=False),
    Column("broken", Integer, nullable=False),
    Column("accounts", Integer, nullable=False),
    Column("ended_at", Time),
    Column("outcome", Text),
    Column("decided_by", Text),
    Index("ix_storms_current", "workspace", "platform", unique=True, **_only(ENDED_NOT)),
    Index("ix_storms_began_at", "began_at"),
)

pauses = Table(
    "pauses",
    metadata,
    # Posting to an account that is to be paused or resumed, until it is.
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("workspace", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("since", Time, nullable=False),
    Column("due_at", Time, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    # When a sweep asked that showed it active: it is not ours to pause, or to resume later, unless one does.
    Column("seen_at", Time),
    # A call was made then, and nobody knows its outcome.
    Column("tried_at", Time),
    Index("ix_pauses_workspace_due_at", "workspace", "due_at"),
)

notices = Table(
    "notices",
    metadata,
    Column("id", Text, primary_key=True),
    # The incident's id, or what else the notice is about (a deadline). With the target, kind and step it is unique:
    # nobody is told the same thing twice.
    Column("subject", Text, nullable=False),
    Column("incident_id", ForeignKey("incidents.id")),
    # One of the three: an account, for the people who repair it, or a trouble or a storm, for the operator.
    Column("account_id", ForeignKey("accounts.id")),
    Column("trouble_id", ForeignKey("troubles.id")),
    Column("storm_id", ForeignKey("storms.id")),
    Column("kind", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),
    # Whose address it is, their place in the chain of those responsible, and the rule that named them.
    Column("contact", Text, nullable=False, server_default=""),
    Column("level", Integer, nullable=False, server_default="0"),
    Column("why", Text, nullable=False, server_default=""),
    # What may go into one message with it, and the id of the message in which it goes.
    Column("family", Text, nullable=False, server_default=""),
    Column("group_id", Text),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    # What keeps it back, such as "paused" or "storm:ID".
    Column("hold", Text),
    # An attempt ended without anybody knowing whether the message arrived.
    Column("doubtful", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", Time, nullable=False),
    Column("due_at", Time, nullable=False),
    Column("lease_until", Time),
    Column("lease", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("content", Text),
    Column("rendered_at", Time),
    Column("receipt", Text),
    Column("sent_at", Time),
    # The trace of what it follows from, where traces are made.
    Column("trace", Text),
    UniqueConstraint("subject", "channel", "address", "kind", "step"),
    Index("ix_notices_due", "due_at", **_only(IN_WORK)),
    Index("ix_notices_created_at", "created_at", "id"),
    Index("ix_notices_recipient_due", "channel", "address", "kind", "due_at", **_only(IN_WORK)),
    Index("ix_notices_recipient_sent", "channel", "address", "family", "kind", "sent_at"),
    Index("ix_notices_hold", "hold", **_only(HELD)),
    Index("ix_notices_dead", "created_at", "id", **_only(DEAD)),
    Index("ix_notices_group_id", "group_id", **_only("group_id IS NOT NULL")),
    Index("ix_notices_account_id", "account_id"),
    Index("ix_notices_incident_id", "incident_id"),
)

contacts = Table(
    "contacts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("name", Text, nullable=False, server_default=""),
    # A JSON list of "channel:address", in order.
    Column("addresses", Text, nullable=False, server_default="[]"),
    Column("zone", Text, nullable=False, server_default=""),
    Column("quiet", Text, nullable=False, server_default=""),
    Column("days", Text, nullable=False, server_default=""),
    Column("language", Text, nullable=False, server_default=""),
    # Who wrote it: "file", "api" or "resolver".
    Column("source", Text, nullable=False),
    Column("updated_at", Time, nullable=False),
    Index("ix_contacts_source_updated_at", "source", "updated_at"),
)

assignments = Table(
    "assignments",
    metadata,
    Column("workspace", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    # The account's or profile's id, or the platform's name; empty for the workspace.
    Column("ref", Text, primary_key=True),
    # A JSON list of lists of contacts' keys, level by level, and a JSON object.
    Column("owners", Text, nullable=False, server_default="[]"),
    Column("labels", Text, nullable=False, server_default="{}"),
    Column("source", Text, nullable=False),
    Column("updated_at", Time, nullable=False),
)

resolved = Table(
    "resolved",
    metadata,
    Column("workspace", Text, primary_key=True),
    Column("profile", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("fetched_at", Time, nullable=False),
    # A JSON list of {"keys": […], "after": seconds or null}, and a JSON object. The contacts stand in their own table.
    Column("levels", Text, nullable=False, server_default="[]"),
    Column("labels", Text, nullable=False, server_default="{}"),
    Index("ix_resolved_fetched_at", "fetched_at"),
)

bad_addresses = Table(
    "bad_addresses",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("since", Time, nullable=False),
    Column("reason", Text, nullable=False),
    Column("source", Text, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    # Why somebody was told, or was not: what ``healthd explain`` tells.
    Column("id", Id, primary_key=True),
    Column("at", Time, nullable=False),
    Column("account_id", ForeignKey("accounts.id")),
    Column("incident_id", Text),
    Column("notice_id", Text),
    Column("what", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False, server_default=""),
    Index("ix_decisions_account_id_id", "account_id", "id"),
    Index("ix_decisions_at", "at"),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Id, primary_key=True),
    Column("workspace", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received_at", Time, nullable=False),
    Column("status", Text, nullable=False),
    Column("note", Text),
    # The trace that its receiving began, where traces are made.
    Column("trace", Text),
    UniqueConstraint("workspace", "event_id"),
    Index("ix_inbox_unsettled", "status", "workspace", "id", **_only(UNSETTLED)),
    Index("ix_inbox_bodies", "received_at", **_only(WITH_BODY)),
    Index("ix_inbox_received_at", "received_at"),
)

post_failures = Table(
    "post_failures",
    metadata,
    # Posts that the provider could not publish. Its event names the platform and not the account: there is a row here
    # where only one account can be meant.
    Column("id", Id, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("post", Text, nullable=False),
    Column("at", Time, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False, server_default=""),
    # Whether it speaks of the grant: such a failure makes the account suspect.
    Column("about_grant", Boolean, nullable=False),
    Column("event_id", Text),
    UniqueConstraint("account_id", "post"),
    Index("ix_post_failures_account_id_at", "account_id", "at"),
    Index("ix_post_failures_at", "at"),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    # What a workspace's provider says of the webhook that it is to call, as of the last look.
    Column("workspace", Text, primary_key=True),
    # The provider's own id of it; empty where there is none.
    Column("ref", Text, nullable=False, server_default=""),
    Column("url", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False, server_default=""),
    # A JSON list.
    Column("events", Text, nullable=False, server_default="[]"),
    Column("checked_at", Time, nullable=False),
    # What is wrong with it, in a word; empty where nothing is.
    Column("problem", Text, nullable=False, server_default=""),
    Column("repaired_at", Time),
    # Deliveries up to here have been read back from the provider's log.
    Column("read_back_to", Time),
)

access_tokens = Table(
    "access_tokens",
    metadata,
    # Who may use the operator's pages and API. The token itself is shown once and is nowhere.
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("created_at", Time, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Time),
    Column("used_at", Time),
)

sessions = Table(
    "sessions",
    metadata,
    # A browser that has signed in. Its cookie holds what is digested here.
    Column("digest", Text, primary_key=True),
    Column("who", Text, nullable=False),
    Column("role", Text, nullable=False),
    # The token that it began with; without one it began elsewhere. A token that goes takes its sessions with it.
    Column("token_id", ForeignKey("access_tokens.id", ondelete="CASCADE")),
    # Without such a token: the digest of the settings that it began with. It ends when they change.
    Column("origin", Text, nullable=False, server_default=""),
    Column("began_at", Time, nullable=False),
    Column("used_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Index("ix_sessions_expires_at", "expires_at"),
)

audit = Table(
    "audit",
    metadata,
    # What people did through the pages, the API and the command line.
    Column("id", Id, primary_key=True),
    Column("at", Time, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False, server_default=""),
    Column("account_id", ForeignKey("accounts.id")),
    Column("detail", Text, nullable=False, server_default=""),
    Index("ix_audit_at", "at"),
    Index("ix_audit_account_id_id", "account_id", "id"),
)

answers = Table(
    "answers",
    metadata,
    # What a write of the API answered, for whoever sends it again with the same Idempotency-Key.
    Column("who", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    # Digest of the method, the path and the body.
    Column("request", Text, nullable=False),
    Column("at", Time, nullable=False),
    # Without a status it is still under way.
    Column("status", SmallInteger),
    Column("headers", Text, nullable=False, server_default="{}"),
    Column("body", LargeBinary, nullable=False, server_default=""),
    Index("ix_answers_at", "at"),
)
