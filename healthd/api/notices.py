"""Notices: who was told what, who was not, and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy import Connection

from healthd.api.models import Notice, NoticeInFull, NoticesWanted, Page
from healthd.api.office import AnyVisitor, InOffice, Office, Operator, with_next
from healthd.desk import NotThere
from healthd.dispatch import account_of
from healthd.store import notices, views
from healthd.store.notices import StoredNotice
from healthd.store.views import NoticeFilter, NoticeRow

router = APIRouter(tags=["notices"])
NoticeId = Annotated[
    str, Path(max_length=200, description="`id` of the notice.", examples=["0f3a9c5d7e1b2a4c6d8e0f1a"])
]


@router.get("/notices", summary="List notices")
async def list_notices(
    request: Request, response: Response, office: InOffice, _: AnyVisitor, wanted: Annotated[NoticesWanted, Query()]
) -> Page[Notice]:
    """Notices that meet all conditions, the newest first."""
    which = NoticeFilter(
        statuses=wanted.status,
        kinds=wanted.kind,
        channels=wanted.channel,
        account_id=wanted.account,
        incident_id=wanted.incident,
        contact=wanted.contact,
    )
    found = await office.desk.store.browse(views.notices_page, which, wanted.cursor, wanted.limit)
    page = Page[Notice](items=[Notice.of(one) for one in found.rows], next=found.after)
    return with_next(request, response, page)


@router.get("/notices/{notice_id}", summary="Show a notice as it was sent")
async def get_notice(office: InOffice, _: AnyVisitor, notice_id: NoticeId) -> NoticeInFull:
    """The notice with its message, by part: `subject`, `text` and `html` of a mail, `text` and `blocks` of Slack."""
    return await _in_full(office, notice_id)


@router.post("/notices/{notice_id}/retry", summary="Try a notice again that was given up")
async def retry_notice(office: InOffice, visitor: Operator, notice_id: NoticeId) -> NoticeInFull:
    """With all that its message is about. It is sent if it is still true by then."""
    await office.desk.retry_notice(notice_id, visitor.who)
    return await _in_full(office, notice_id)


async def _in_full(office: Office, notice_id: str) -> NoticeInFull:
    row, leader = await office.desk.store.browse(_notice, notice_id)
    return NoticeInFull.with_content(row, leader)


def _notice(connection: Connection, notice_id: str) -> tuple[NoticeRow, StoredNotice]:
    """A notice, and the one that leads its message."""
    found = notices.get(connection, notice_id)
    if found is None:
        raise NotThere("there is no such notice")
    leader = notices.get(connection, found.message_id) or found
    return NoticeRow(found, account_of(connection, found)), leader
