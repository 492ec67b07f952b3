"""How everything stands, and who did what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from healthd.api.door import NO_STORE
from healthd.api.models import (
    Account,
    Act,
    Allowance,
    AuditWanted,
    Me,
    Overview,
    Page,
    Platform,
    Storm,
    Subscription,
    Trouble,
    Waiting,
    Workspace,
    Workspaces,
)
from healthd.api.office import Admin, AnyVisitor, InOffice, with_next
from healthd.core.model import NoticeStatus, State
from healthd.metrics import AllowanceReading, Snapshot, take_snapshot
from healthd.store import access, subscriptions, views
from healthd.store.accounts import StoredAccount
from healthd.store.inbox import InboxStatus
from healthd.store.subscriptions import Looked

router = APIRouter(tags=["overview"])
DAYS = 14
Count = tuple[str, str, State, bool, int]


@router.get("/overview", summary="Show how everything stands")
async def get_overview(office: InOffice, _: AnyVisitor) -> Overview:
    """Counts, what is broken for longest, what is held, and what stands in the way."""
    seen = await office.desk.store.browse(_look, office.desk.now())
    snapshot = seen.snapshot
    platforms = sorted({platform for _, platform, *_ in snapshot.accounts})
    return Overview(
        at=snapshot.at,
        accounts=_by_state(snapshot.accounts),
        paused=_paused(snapshot.accounts),
        platforms=[
            _platform(name, [one for one in snapshot.accounts if one[1] == name], seen.opened) for name in platforms
        ],
        incidents_open=sum(dict(snapshot.incidents).values()),
        nobody_told=sum(dict(snapshot.nobody_told).values()),
        longest_broken=[Account.of(one) for one in seen.longest_broken],
        notices=Waiting(
            pending=snapshot.outbox.get(NoticeStatus.PENDING, 0),
            sending=snapshot.outbox.get(NoticeStatus.SENDING, 0),
            held=dict(snapshot.held),
            oldest_due_seconds=snapshot.outbox_age.total_seconds(),
        ),
        webhooks={status: snapshot.inbox.get(status, 0) for status in (InboxStatus.NEW, InboxStatus.PARKED)},
        bad_addresses=dict(snapshot.bad_addresses),
        storms=[Storm.of(one) for one in snapshot.storms],
        troubles=[Trouble.of(one) for one in snapshot.troubles],
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    snapshot: Snapshot
    longest_broken: list[StoredAccount]
    opened: Mapping[str, Mapping[date, int]]
    subscriptions: Mapping[str, Looked]


def _look(connection: Connection, now: datetime) -> _Seen:
    snapshot = take_snapshot(connection, now)
    names = sorted({scope.workspace for scope in snapshot.scopes} | {one[0] for one in snapshot.accounts})
    since = (now - timedelta(days=DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return _Seen(
        snapshot,
        views.longest_broken(connection, names),
        views.broken_by_day(connection, since, names),
        {one.workspace: one for one in subscriptions.everywhere(connection)},
    )


def _by_state(counts: Iterable[Count]) -> dict[State, int]:
    totals: Counter[State] = Counter()
    for *_, state, _, number in counts:
        totals[state] += number
    return {state: totals[state] for state in State}


def _paused(counts: Iterable[Count]) -> int:
    return sum(number for *_, paused, number in counts if paused)


def _platform(name: str, counts: list[Count], opened: Mapping[str, Mapping[date, int]]) -> Platform:
    days = dict(sorted(opened.get(name, {}).items()))
    return Platform(platform=name, accounts=_by_state(counts), paused=_paused(counts), opened_by_day=days)


@router.get("/workspaces", summary="Show each workspace")
async def list_workspaces(office: InOffice, _: AnyVisitor) -> Workspaces:
    """Its accounts, how fresh they are, its webhook, its allowance, and what stands between healthd and its API."""
    seen = await office.desk.store.browse(_look, office.desk.now())
    names = sorted({scope.workspace for scope in seen.snapshot.scopes} | set(office.workspaces))
    readings = office.allowances()
    return Workspaces(items=[_workspace(name, seen, readings.get(name)) for name in names])


def _workspace(name: str, seen: _Seen, reading: AllowanceReading | None) -> Workspace:
    snapshot = seen.snapshot
    counts = [one for one in snapshot.accounts if one[0] == name]
    active = [scope for scope in snapshot.scopes if scope.workspace == name and scope.active]
    looked = seen.subscriptions.get(name)
    return Workspace(
        name=name,
        accounts=_by_state(counts),
        paused=_paused(counts),
        incidents_open=dict(snapshot.incidents).get(name, 0),
        nobody_told=dict(snapshot.nobody_told).get(name, 0),
        profiles=sum(1 for scope in active if scope.ref),
        swept_at=_oldest([scope.bulk_at for scope in active]),
        inventory_at=_oldest([scope.inventory_at for scope in active]),
        troubles=[Trouble.of(one) for one in snapshot.troubles if one.workspace == name],
        storms=[Storm.of(one) for one in snapshot.storms if one.workspace == name],
        allowance=Allowance.of(reading) if reading else None,
        subscription=Subscription.of(looked) if looked else None,
    )


def _oldest(moments: list[datetime | None]) -> datetime | None:
    known = [at for at in moments if at is not None]
    return min(known) if known and len(known) == len(moments) else None


@router.get("/audit", summary="List who did what")
async def list_audit(
    request: Request, response: Response, office: InOffice, _: Admin, wanted: Annotated[AuditWanted, Query()]
) -> Page[Act]:
    """Acts of people through the pages, this API and the command line, the newest first."""
    after = views.place(wanted.cursor, int)[0] if wanted.cursor is not None else None
    found = await office.desk.store.browse(access.audit_of, after, wanted.limit + 1, wanted.account)
    more = len(found) > wanted.limit
    shown = found[: wanted.limit]
    page = Page[Act](items=[Act.of(one) for one in shown], next=views.cursor(shown[-1].id) if more else None)
    return with_next(request, response, page)


@router.get("/me", summary="Show who you are")
async def get_me(response: Response, visitor: AnyVisitor) -> Me:
    """As whom your acts are on record, and what you may do."""
    response.headers["cache-control"] = NO_STORE
    return Me(who=visitor.who, role=visitor.role, by=visitor.by, csrf=visitor.csrf or None)
