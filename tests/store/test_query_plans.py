"""A million accounts and years of history: what runs all the time must not walk through them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, event

from healthd.core.model import Lane
from healthd.store import accounts, housekeeping, inbox, incidents, notices
from healthd.store.accounts import StoredAccount
from healthd.store.inbox import Arrival, InboxStatus
from tests.store.rows import DAY, MINUTE, NOON, add_account, add_incident, add_notice

Job = Callable[[Connection, StoredAccount], object]

HOT: dict[str, Job] = {
    "claim probes": lambda c, a: accounts.claim_probes(c, "acme", tuple(Lane), NOON + DAY, MINUTE, 10),
    "next probe": lambda c, a: accounts.next_due(c, "acme", tuple(Lane)),
    "bring probes forward": lambda c, a: accounts.schedule_probe(c, [a.id], NOON, Lane.CLICK),
    "overdue confirmations": lambda c, a: accounts.overdue_confirmations(c, NOON, 10),
    "next confirmation": lambda c, a: accounts.next_confirmation(c),
    "load accounts": lambda c, a: accounts.load(c, "acme", ["1"]),
    "known to a sweep": lambda c, a: accounts.known(c, "acme", "p"),
    "siblings": accounts.broken_siblings,
    "mark missing": lambda c, a: accounts.mark_missing(c, "acme", ["1"], NOON),
    "claim notices": lambda c, a: notices.claim(c, NOON + DAY, "mine", NOON + 2 * DAY, 10),
    "next notice": lambda c, a: notices.next_due(c),
    "backlog": lambda c, a: notices.backlog(c, NOON),
    "release leases": lambda c, a: notices.release_leases(c),
    "drop what waits": lambda c, a: notices.drop_waiting(c, "i1", "repaired"),
    "release what is held": lambda c, a: notices.release_held(c, [a.id], NOON),
    "who was told": lambda c, a: notices.told(c, "i1"),
    "store webhooks": lambda c, a: inbox.store(c, [Arrival("acme", "evt_2", b"{}", NOON)]),
    "waiting webhooks": lambda c, a: inbox.waiting(c, 10),
    "settle webhooks": lambda c, a: inbox.settle(c, [(1, InboxStatus.DONE, None)]),
    "webhooks counted": lambda c, a: inbox.counts(c),
    "open incident": lambda c, a: incidents.open_for(c, a.id),
    "open incidents counted": lambda c, a: incidents.open_counts(c),
    "presses of a link": lambda c, a: incidents.mints_since(c, "l1", NOON),
    "chosen instead": lambda c, a: incidents.other_connected_since(c, a, NOON - MINUTE),
    "housekeeping": lambda c, a: housekeeping.prune(c, NOON),
}

WALK = re.compile(r"SCAN (accounts|notices|inbox|history|incidents|links|mints)\b")
ONLY_OPEN = {"ix_notices_due", "ix_inbox_unsettled", "ix_incidents_open", "ix_incidents_open_workspace"}
"""Indexes of what is still to be done, which may be walked: they are as short as the work that waits."""
BY_WORKSPACE_ALONE = re.compile(r"SEARCH accounts USING .*\(workspace=\?\)$")


@pytest.mark.parametrize("job", HOT.values(), ids=HOT)
def test_what_runs_all_the_time_walks_through_nothing_that_only_grows(connection: Connection, job: Job) -> None:
    stored = add_account(connection, "1", profile="p", probe_at=NOON)
    add_notice(connection, stored, incident_id=add_incident(connection, stored).id)
    inbox.store(connection, [Arrival("acme", "evt_1", b"{}", NOON)])
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:
        asked.append((statement, parameters[0] if many else parameters))

    event.listen(connection, "before_cursor_execute", note)
    job(connection, stored)
    event.remove(connection, "before_cursor_execute", note)
    assert asked
    for statement, parameters in asked:
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
            walks = WALK.match(row.detail) and row.detail.split()[-1] not in ONLY_OPEN
            assert not walks, (row.detail, statement)
            assert not BY_WORKSPACE_ALONE.match(row.detail), (row.detail, statement)
