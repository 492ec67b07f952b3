"""Incidents and storms."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy import Connection

from healthd.api.models import Incident, IncidentInFull, IncidentsWanted, Page, Storm, StormsWanted, Touched
from healthd.api.office import AnyVisitor, InOffice, Operator, with_next
from healthd.desk import NotThere
from healthd.store import accounts, incidents, views
from healthd.store.views import IncidentFilter, IncidentRow, NoticeFilter, NoticeRow

router = APIRouter(tags=["incidents"])
StormId = Annotated[str, Path(max_length=300, description="`id` of the storm.", examples=["acme-facebook-6744a1c0"])]
IncidentId = Annotated[str, Path(max_length=200, description="`id` of the incident.", examples=["in_01hzx"])]


@router.get("/incidents", summary="List incidents")
async def list_incidents(
    request: Request, response: Response, office: InOffice, _: AnyVisitor, wanted: Annotated[IncidentsWanted, Query()]
) -> Page[Incident]:
    """Incidents that meet all conditions, the newest first."""
    which = IncidentFilter(
        workspaces=wanted.workspace,
        platforms=wanted.platform,
        causes=wanted.cause,
        account_id=wanted.account,
        storm_id=wanted.storm,
        only_open=wanted.open is True,
        only_over=wanted.open is False,
        untold=wanted.untold,
    )
    found = await office.desk.store.browse(views.incidents_page, which, wanted.cursor, wanted.limit)
    page = Page[Incident](items=[Incident.of(one) for one in found.rows], next=found.after)
    return with_next(request, response, page)


@router.get("/incidents/{incident_id}", summary="Show an incident")
async def get_incident(office: InOffice, _: AnyVisitor, incident_id: IncidentId) -> IncidentInFull:
    """The incident, and who was told of it."""
    row, told = await office.desk.store.browse(_incident, incident_id)
    return IncidentInFull.with_notices(row, told)


def _incident(connection: Connection, incident_id: str) -> tuple[IncidentRow, list[NoticeRow]]:
    found = incidents.get(connection, incident_id)
    about = accounts.by_id(connection, found.account_id) if found else None
    if found is None or about is None:
        raise NotThere("there is no such incident")
    told = views.notices_page(connection, NoticeFilter(incident_id=incident_id), limit=views.MOST)
    return IncidentRow(found, about), told.rows


@router.get("/storms", summary="List storms")
async def list_storms(
    request: Request, response: Response, office: InOffice, _: AnyVisitor, wanted: Annotated[StormsWanted, Query()]
) -> Page[Storm]:
    """Platforms whose accounts broke all at once, the newest first."""
    found = await office.desk.store.browse(views.storms_page, wanted.cursor, wanted.limit, lasting=wanted.lasting)
    page = Page[Storm](items=[Storm.of(one) for one in found.rows], next=found.after)
    return with_next(request, response, page)


@router.post("/storms/{storm_id}/release", summary="Send what a storm holds")
async def release_storm(office: InOffice, visitor: Operator, storm_id: StormId) -> Touched:
    """It is no storm, or people are to repair it all the same: everybody whose account is still broken is told."""
    return Touched(notices=await office.desk.end_storm(storm_id, visitor.who, cancel=False))


@router.post("/storms/{storm_id}/cancel", summary="Withdraw what a storm holds")
async def cancel_storm(office: InOffice, visitor: Operator, storm_id: StormId) -> Touched:
    """Nobody is told of the accounts that broke in it."""
    return Touched(notices=await office.desk.end_storm(storm_id, visitor.who, cancel=True))
