"""Accounts: what is known of them, and what an operator does about one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from healthd.api.door import NO_STORE
from healthd.api.models import Account, AccountInFull, AccountsWanted, Link, Page, Plan, Timeline, Touched, Until
from healthd.api.office import AccountId, AnyVisitor, InOffice, Office, Operator, with_next
from healthd.store import incidents, views
from healthd.store.views import AccountFilter
from healthd.telling import dry_run, story

router = APIRouter(tags=["accounts"])


@router.get("/accounts", summary="List accounts")
async def list_accounts(
    request: Request, response: Response, office: InOffice, _: AnyVisitor, wanted: Annotated[AccountsWanted, Query()]
) -> Page[Account]:
    """Accounts that meet all conditions, a page at a time. Values of the same condition are alternatives."""
    which = AccountFilter(
        workspaces=wanted.workspace,
        platforms=wanted.platform,
        states=wanted.state,
        profile=wanted.profile,
        paused=wanted.paused,
        muted_at=None if wanted.muted is None else office.desk.now(),
        muted=wanted.muted is True,
        words=wanted.q,
    )
    found = await office.desk.store.browse(views.accounts_page, which, wanted.sort, wanted.cursor, wanted.limit)
    page = Page[Account](items=[Account.of(one) for one in found.rows], next=found.after)
    return with_next(request, response, page)


@router.get("/accounts/{account_id}", summary="Show an account")
async def get_account(office: InOffice, _: AnyVisitor, account_id: AccountId) -> AccountInFull:
    """The account, and its incident if it is broken."""
    return await _in_full(office, account_id)


@router.get("/accounts/{account_id}/timeline", summary="Tell what happened to an account")
async def get_timeline(office: InOffice, _: AnyVisitor, account_id: AccountId) -> Timeline:
    """Readings, events, incidents, notices, clicks and decisions with their reasons: the newest of each, in order."""
    stored = await office.desk.account(account_id)
    found = await office.desk.store.browse(story, stored, office.engine, office.desk.now())
    return Timeline.of(found)


@router.get("/accounts/{account_id}/plan", summary="Tell who would be told")
async def get_plan(office: InOffice, _: AnyVisitor, account_id: AccountId) -> Plan:
    """A dry run: who would be told if it broke now, when, and by which rule. Nothing is sent."""
    stored = await office.desk.account(account_id)
    return Plan.of(await office.desk.store.browse(dry_run, stored, office.engine, office.desk.now()))


@router.post("/accounts/{account_id}/check", summary="Check an account now", status_code=202)
async def check_account(office: InOffice, visitor: Operator, account_id: AccountId) -> AccountInFull:
    """The provider is asked about it before everything that is not a person's click. The answer does not wait for that:
    look at the account again after a moment.
    """
    await office.desk.check_now(account_id, visitor.who)
    return await _in_full(office, account_id)


@router.post("/accounts/{account_id}/link", summary="Get a link that repairs an account")
async def make_link(response: Response, office: InOffice, visitor: Operator, account_id: AccountId) -> Link:
    """Whoever opens the link can reconnect the account. It is stored nowhere; asked again with the same
    `Idempotency-Key`, a broken account has the same link, and any other account a fresh one.
    """
    made = await office.desk.repair_link(account_id, visitor.who)
    response.headers["cache-control"] = NO_STORE
    return Link.of(made)


@router.post("/accounts/{account_id}/acknowledge", summary="Take a broken account on")
async def acknowledge_account(office: InOffice, visitor: Operator, account_id: AccountId) -> AccountInFull:
    """You are on it: nobody is reminded and nobody else is told, for `notices.acknowledge_for` or until it is
    repaired.
    """
    await office.desk.acknowledge(account_id, visitor.who)
    return await _in_full(office, account_id)


@router.post("/accounts/{account_id}/snooze", summary="Want no reminders for a while")
async def snooze_account(office: InOffice, visitor: Operator, account_id: AccountId, until: Until) -> AccountInFull:
    """Of a broken account: no reminders and no escalation until then. More than a year is a year."""
    await office.desk.snooze(account_id, until.at(office.desk.now()), visitor.who)
    return await _in_full(office, account_id)


@router.post("/accounts/{account_id}/resume", summary="Take an acknowledgement or a snooze back")
async def resume_account(office: InOffice, visitor: Operator, account_id: AccountId) -> AccountInFull:
    """Reminders and escalation go on."""
    await office.desk.resume(account_id, visitor.who)
    return await _in_full(office, account_id)


@router.post("/accounts/{account_id}/mute", summary="Tell nobody of an account for a while")
async def mute_account(office: InOffice, visitor: Operator, account_id: AccountId, until: Until) -> AccountInFull:
    """Broken or not, nobody hears of it until then; it is watched as before. More than a year is a year."""
    await office.desk.mute(account_id, until.at(office.desk.now()), visitor.who)
    return await _in_full(office, account_id)


@router.post("/accounts/{account_id}/unmute", summary="Tell people of an account again")
async def unmute_account(office: InOffice, visitor: Operator, account_id: AccountId) -> AccountInFull:
    """What is still true of what they missed is sent now."""
    await office.desk.unmute(account_id, visitor.who)
    return await _in_full(office, account_id)


@router.post("/accounts/{account_id}/release", summary="Send what is held of a broken account")
async def release_account(office: InOffice, visitor: Operator, account_id: AccountId) -> Touched:
    """Whatever keeps its notices back, a storm for one, does so no longer."""
    return Touched(notices=await office.desk.release(account_id, visitor.who))


@router.post("/accounts/{account_id}/pause-posting", summary="Pause posting to an account")
async def pause_posting(office: InOffice, visitor: Operator, account_id: AccountId) -> AccountInFull:
    """At the provider. Nothing is posted to it until somebody resumes that: healthd itself never does."""
    await office.desk.pause_posting(account_id, visitor.who)
    return await _in_full(office, account_id)


@router.post("/accounts/{account_id}/resume-posting", summary="Resume posting to an account")
async def resume_posting(office: InOffice, visitor: Operator, account_id: AccountId) -> AccountInFull:
    """At the provider; the account is checked at once."""
    await office.desk.resume_posting(account_id, visitor.who)
    return await _in_full(office, account_id)


async def _in_full(office: Office, account_id: int) -> AccountInFull:
    stored = await office.desk.account(account_id)
    incident = await office.desk.store.browse(incidents.open_for, account_id)
    return AccountInFull.with_incident(stored, incident)
