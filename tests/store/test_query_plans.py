"""A million accounts and years of history: what runs all the time must not walk through them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from healthd.core.cadence import Cadence
from healthd.core.model import Lane, NoticeKind, NoticeStatus, Resolution
from healthd.core.post_failures import PostFailure
from healthd.store import accounts, contacts, decisions, housekeeping, inbox, incidents, notices, post_failures, storms
from healthd.store.accounts import StoredAccount
from healthd.store.decisions import Decision
from healthd.store.inbox import Arrival, InboxStatus
from healthd.store.notices import Holding
from healthd.store.postgres import postgres_engine
from healthd.store.storms import Storm
from tests import postgres
from tests.store.rows import ADA, DAY, MINUTE, NOON, add_account, add_incident, add_notice

Job = Callable[[Connection, StoredAccount], object]
FAILURE = PostFailure("7", "facebook", "TOKEN_EXPIRED", "", None, NOON)
STORM = Storm("st1", "acme", "facebook", NOON, NOON, NOON + MINUTE, broken=1, accounts=9)


def claim_again(connection: Connection) -> None:
    """A message that was refused is taken once more."""
    facts = (connection, NOON + DAY, "first", NOON + 2 * DAY, 10, (), Cadence())
    for batch in notices.claim(*facts):
        notices.settle(connection, batch.notices, NoticeStatus.PENDING, due_at=NOON)
    assert notices.claim(*facts)


def forget_incident(connection: Connection) -> None:
    incidents.resolve(connection, "i1", Resolution.REPAIRED, NOON)
    assert housekeeping.CHORES[-2](connection, NOON + 500 * DAY)


HOT: dict[str, Job] = {
    "claim probes": lambda c, a: accounts.claim_probes(c, "acme", tuple(Lane), NOON + DAY, MINUTE, 10),
    "next probe": lambda c, a: accounts.next_due(c, "acme", tuple(Lane)),
    "bring probes forward": lambda c, a: accounts.schedule_probe(c, [a.id], NOON, Lane.CLICK),
    "overdue confirmations": lambda c, a: accounts.overdue_confirmations(c, NOON, 10),
    "next confirmation": lambda c, a: accounts.next_confirmation(c),
    "load accounts": lambda c, a: accounts.load(c, "acme", ["1"]),
    "known to a sweep": lambda c, a: accounts.known(c, "acme", "p"),
    "known to the inventory": lambda c, a: accounts.on_record(c, "acme", "p"),
    "held as paused": lambda c, a: notices.held_as_paused(c, "acme"),
    "shown to the inventory": lambda c, a: accounts.shown(c, "acme", ["1"]),
    "new ids": lambda c, a: accounts.new_ids(c, 1),
    "siblings": accounts.broken_siblings,
    "mark missing": lambda c, a: accounts.mark_missing(c, "acme", ["1"], NOON),
    "claim notices": lambda c, a: notices.claim(c, NOON + DAY, "mine", NOON + 2 * DAY, 10, ["full"], Cadence()),
    "claim a message again": lambda c, a: claim_again(c),
    "next notice": lambda c, a: notices.next_due(c),
    "backlog": lambda c, a: notices.backlog(c, NOON),
    "release leases": lambda c, a: notices.release_leases(c),
    "drop what waits": lambda c, a: notices.drop_waiting(c, "i1", "repaired"),
    "release what is held": lambda c, a: notices.release_held(c, [a.id], NOON),
    "release what a storm held": lambda c, a: notices.release(c, Holding("storm", "st1"), NOON),
    "release an incident": lambda c, a: notices.release_incident(c, "i1", NOON),
    "wake what was put off": lambda c, a: notices.wake(c, "i1", NOON),
    "wake what is muted": lambda c, a: notices.wake_muted(c, a.id, NOON),
    "mute": lambda c, a: accounts.mute(c, a.id, NOON + DAY),
    "accounts that publish": lambda c, a: post_failures.publishing(c, "acme", "p", "facebook", 20),
    "a failed post": lambda c, a: post_failures.record(c, a.id, FAILURE, "evt_1", about_grant=True),
    "failed posts of an account": lambda c, a: post_failures.of_account(c, a.id),
    "failed posts, counted": lambda c, a: post_failures.between(c, a.id, NOON, NOON + DAY),
    "other failed posts": lambda c, a: post_failures.others_about_grant(c, a.id, "7", NOON, NOON + DAY),
    "said of an account": lambda c, a: decisions.said_since(c, a.id, "held", NOON),
    "hold for a storm": lambda c, a: notices.hold_storm(c, Holding("storm", "st1", "a storm")),
    "cancel a storm": lambda c, a: notices.cancel_storm(c, "st1", "cancelled"),
    "renew a warning": lambda c, a: notices.renew_dropped(c, "s", NOON),
    "withdraw": lambda c, a: notices.withdraw(c, "s", "over"),
    "who was told": lambda c, a: notices.told(c, "i1"),
    "broken still of a message": lambda c, a: notices.still_broken(c, "m1"),
    "last sent": lambda c, a: notices.last_sent(c, ADA, "acme//meta", NoticeKind.OPENED),
    "anybody left": lambda c, a: notices.anybody_left(c, "i1", 0),
    "bring forward": lambda c, a: notices.bring_forward(c, "i1", 0, NOON),
    "open to a recipient": lambda c, a: notices.open_to(c, ADA),
    "wrote to": lambda c, a: notices.wrote_to(c, ["mail"], ADA.address),
    "for nobody": lambda c, a: notices.for_nobody(c, 10),
    "tried again, counted": lambda c, a: notices.retrying(c),
    "open for long, counted": lambda c, a: incidents.open_for_long(c, NOON + DAY),
    "come so far": lambda c, a: incidents.reached(c, "told", ["i1"], NOON),
    "held, counted": lambda c, a: notices.held(c),
    "told to nobody, counted": lambda c, a: notices.unreached(c),
    "notices of an account": lambda c, a: notices.of_account(c, a.id),
    "lasting storm": lambda c, a: storms.current(c, "acme", "facebook"),
    "all lasting storms": lambda c, a: storms.all_current(c),
    "next judgement": lambda c, a: storms.next_judgement(c),
    "broken lately": lambda c, a: storms.broken_lately(c, "acme", "facebook", NOON),
    "accounts there": lambda c, a: storms.accounts_there(c, "acme", "facebook"),
    "a storm begins": lambda c, a: storms.begin(c, replace(STORM, id="st2", platform="reddit"), NOON),
    "a storm is joined": lambda c, a: storms.join(c, [("st1", "i1")], NOON),
    "a storm's broken": lambda c, a: storms.still_broken(c, "st1"),
    "a storm's accounts": lambda c, a: storms.broken_accounts(c, "st1", 10),
    "a storm ends": lambda c, a: storms.end(c, "st1", NOON, "over"),
    "decide": lambda c, a: decisions.note(c, [Decision(NOON, a.id, "held", "because")]),
    "decisions of an account": lambda c, a: decisions.of_account(c, a.id),
    "owners": lambda c, a: contacts.assignment(c, "acme", "facebook", "p", "1"),
    "contacts by key": lambda c, a: contacts.directory(c, ["ada", "bob"]),
    "the endpoint's answer": lambda c, a: contacts.kept_answer(c, "acme", "p", "1"),
    "bad addresses among": lambda c, a: contacts.bad_among(c, [ADA]),
    "well siblings": accounts.well_siblings,
    "has siblings": accounts.has_siblings,
    "repairs": lambda c, a: incidents.repairs_since(c, a.id, NOON),
    "take on": lambda c, a: incidents.acknowledge(c, "i1", NOON, NOON + DAY, "Ada"),
    "covered by a link": lambda c, a: incidents.covered(c, "l1"),
    "any link": lambda c, a: incidents.any_link(c, "i1"),
    "revoke links": lambda c, a: incidents.revoke_links(c, "i1", NOON),
    "latest press": lambda c, a: incidents.latest_mint(c, a.id, NOON),
    "incidents of a message": lambda c, a: incidents.of_message(c, "m1"),
    "store webhooks": lambda c, a: inbox.store(c, [Arrival("acme", "evt_2", b"{}", NOON)]),
    "waiting webhooks": lambda c, a: inbox.waiting(c, "acme", 10),
    "settle webhooks": lambda c, a: inbox.settle(c, [(1, InboxStatus.DONE, None)]),
    "webhooks counted": lambda c, a: inbox.counts(c),
    "open incident": lambda c, a: incidents.open_for(c, a.id),
    "open incidents counted": lambda c, a: incidents.open_counts(c),
    "presses of a link": lambda c, a: incidents.mints_since(c, "l1", NOON),
    "chosen instead": lambda c, a: incidents.other_connected_since(c, a, NOON - MINUTE),
    "housekeeping": lambda c, a: housekeeping.prune(c, NOON - 500 * DAY),
    "forgetting incidents": lambda c, a: forget_incident(c),
}

WALK = re.compile(
    r"SCAN (accounts|notices|inbox|history|incidents|links|link_incidents|mints|storms|decisions|contacts|assignments"
    r"|resolved|leader|post_failures)\b"
)
ONLY_OPEN = {
    "ix_notices_due", "ix_notices_hold", "ix_inbox_unsettled", "ix_incidents_open", "ix_incidents_open_workspace",
    "ix_storms_current", "ix_notices_recipient_due",
}  # fmt: skip
"""Indexes of what is still to be done, which may be walked: they are as short as the work that waits."""
GROWING = frozenset(
    {
        "accounts", "notices", "inbox", "history", "incidents", "links", "link_incidents", "mints", "decisions",
        "post_failures", "audit",
    }
)  # fmt: skip
PLANNED = re.compile(r"\s*(SELECT|UPDATE|DELETE|WITH)\b")
BY_WORKSPACE_ALONE = re.compile(r"SEARCH accounts USING .*\(workspace=\?\)$")


@pytest.mark.parametrize("connection", ["sqlite"], indirect=True)  # it plans the same for tables without rows
@pytest.mark.parametrize("job", HOT.values(), ids=HOT)
def test_what_runs_all_the_time_walks_through_nothing_that_only_grows(
    connection: Connection, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    for statement, parameters in questions(connection, job, monkeypatch):
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
            walks = WALK.match(row.detail) and row.detail.split()[-1] not in ONLY_OPEN
            assert not walks, (row.detail, statement)
            assert not BY_WORKSPACE_ALONE.match(row.detail), (row.detail, statement)


def questions(connection: Connection, job: Job, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The statements that a job makes, with their parameters, in a database that has a little of everything."""
    stored = add_account(connection, "1", profile="p", probe_at=NOON)
    for ref, subject in (("1", "s"), ("2", "t")):
        other = stored if ref == "1" else add_account(connection, ref, profile="p")
        incident = add_incident(connection, other)
        add_notice(connection, other, subject, incident_id=incident.id, family="acme//meta")
    storms.begin(connection, STORM, NOON - MINUTE)
    inbox.store(connection, [Arrival("acme", "evt_1", b"{}", NOON)])
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:
        asked.append((statement, parameters[0] if many else parameters))

    monkeypatch.setattr(accounts, "read_many", lambda c, query, facts: c.execute(query, facts).all())
    event.listen(connection, "before_cursor_execute", note)
    job(connection, stored)
    event.remove(connection, "before_cursor_execute", note)
    assert asked
    return asked


def steps(plan: dict[str, Any], above: str = "") -> Iterator[tuple[dict[str, Any], str]]:
    """Each step of a plan, and the kind of that which it is for."""
    yield plan, above
    for inner in plan.get("Plans", ()):
        yield from steps(inner, plan["Node Type"])


def walks(node: dict[str, Any], above: str) -> bool:
    """Whether a step reads a whole table, or an index from end to end: its first entry alone is no walk."""
    if node["Node Type"] == "Seq Scan":
        return node["Relation Name"] in GROWING
    by_index = "Index" in node["Node Type"] and node["Node Type"] != "Bitmap Heap Scan"
    return by_index and above != "Limit" and "Index Cond" not in node and node["Index Name"] not in ONLY_OPEN


GROWN = """
INSERT INTO accounts (id, workspace, ref, platform, name, state, paused, first_seen_at, probe_at, probe_lane)
  SELECT n, 'grown', n, 'facebook', 'Account ' || n, 'healthy', false, 0, n, 3 FROM numbers;
INSERT INTO incidents (id, account_id, workspace, platform, cause, broken_at, opened_at, confirmed_at, resolved_at)
  SELECT 'g' || n, n, 'grown', 'facebook', 'token', n, n, n, n FROM numbers;
INSERT INTO links (id, incident_id, account_id, target, created_at, expires_at)
  SELECT 'g' || n, 'g' || n, n, 'mail:ada@acme.example', n, n FROM numbers;
INSERT INTO link_incidents (link_id, incident_id) SELECT 'g' || n, 'g' || n FROM numbers;
INSERT INTO mints (link_id, account_id, at, outcome, client) SELECT 'g' || n, n, n, 'minted', '' FROM numbers;
INSERT INTO notices (id, subject, incident_id, account_id, kind, step, channel, address, status, created_at, due_at,
                     sent_at, group_id)
  SELECT 'g' || n, 'g' || n, 'g' || n, n, 'opened', 0, 'mail', n || '@acme.example', 'sent', n, n, n, 'g' || n
  FROM numbers;
INSERT INTO inbox (workspace, event_id, body, received_at, status) SELECT 'grown', n, '', n, 'done' FROM numbers;
INSERT INTO history (account_id, recorded_at, source, signal, before, after)
  SELECT n, n, 'bulk', 'ok', 'healthy', 'healthy' FROM numbers;
INSERT INTO decisions (at, account_id, what, reason) SELECT n, n, 'planned', '' FROM numbers;
INSERT INTO post_failures (account_id, post, at, code, about_grant) SELECT n, n, n, 'X', false FROM numbers;
INSERT INTO audit (at, who, action, account_id) SELECT n, 'ada', 'mute', n FROM numbers;
"""


@pytest.fixture(scope="module")
def grown() -> Iterator[Engine]:
    """A PostgreSQL database with a history: enough rows that its planner would rather not read them all."""
    engine = postgres_engine(postgres.server().get_uri(postgres.blank(postgres.template())))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE numbers AS SELECT generate_series(1001, 21000) AS n")
        for statement in GROWN.split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("ANALYZE")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("job", HOT.values(), ids=HOT)
def test_postgresql_walks_through_nothing_either(grown: Engine, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with grown.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql("ALTER SEQUENCE accounts_id_seq RESTART")  # undone with all the rest
        for statement, parameters in questions(connection, job, monkeypatch):
            if not PLANNED.match(statement):
                continue
            (plans,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).one()
            for node, above in steps(plans[0]["Plan"]):
                assert not walks(node, above), (node, statement)
        transaction.rollback()


ROWS_READ = """
SELECT pg_stat_get_tuples_returned(oid) + pg_stat_get_tuples_fetched(oid) FROM pg_class WHERE relname = 'accounts'
"""


def accounts_read(connection: Connection) -> int:
    """How many rows of accounts were looked at so far."""
    with connection.begin():
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    with connection.begin():
        return int(connection.exec_driver_sql(ROWS_READ).scalar_one())


def test_newcomers_by_the_thousand_are_not_compared_with_all_that_came_before() -> None:
    """PostgreSQL's own look at how a table has grown comes a minute later."""
    with postgres.fresh_database() as url:
        engine = postgres_engine(url)
        with engine.connect() as connection:
            with connection.begin():
                pattern = add_account(connection, "pattern")
            for start in range(0, 20 * accounts.CHUNK, accounts.CHUNK):
                refs = [str(number) for number in range(start, start + accounts.CHUNK)]
                read_before = accounts_read(connection)
                with connection.begin():
                    assert not accounts.load(connection, "acme", refs)
                looked_at = accounts_read(connection) - read_before
                with connection.begin():
                    fresh = [replace(pattern, id=0, account=replace(pattern.account, ref=ref)) for ref in refs]
                    accounts.create(connection, fresh)
        engine.dispose()
    assert looked_at <= accounts.CHUNK
