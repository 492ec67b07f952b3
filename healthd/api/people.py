"""People: contacts, who is responsible for what, and addresses that reach nobody."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response

from healthd.api.models import (
    Address,
    BadAddress,
    Contact,
    ContactGiven,
    Owners,
    OwnersGiven,
    OwnersWanted,
    Page,
    Paged,
)
from healthd.api.office import AnyVisitor, InOffice, Office, Operator, unless_changed, with_next
from healthd.api.problems import Problem, Wrong
from healthd.channels.sentences import is_language
from healthd.contact_files import Book, ContactFileError, read
from healthd.core.model import Target
from healthd.desk import NotThere
from healthd.store import contacts, views
from healthd.store.contacts import StoredAssignment, StoredContact

router = APIRouter(tags=["people"])
ContactKey = Annotated[
    str,
    Path(
        max_length=127,
        pattern=r"^[a-z0-9][a-z0-9._+@-]*$",
        description="Small letters, digits and . _ + @ -; not `owner`.",
        examples=["ada"],
    ),
]
InWorkspace = Annotated[str, Path(max_length=200, examples=["acme"])]
Ref = Annotated[
    str, Path(min_length=1, max_length=200, description="The id, or the platform's name.", examples=["facebook"])
]
Scope = Annotated[str, Path(pattern="^(account|profile|platform)$", examples=["platform"])]


@router.get("/contacts", summary="List contacts")
async def list_contacts(
    request: Request, response: Response, office: InOffice, _: AnyVisitor, wanted: Annotated[Paged, Query()]
) -> Page[Contact]:
    """Everybody who can be told, by key."""
    found = await office.desk.store.browse(views.contacts_page, wanted.cursor, wanted.limit)
    page = Page[Contact](items=[Contact.of(one) for one in found.rows], next=found.after)
    return with_next(request, response, page)


@router.get("/contacts/{key}", summary="Show a contact")
async def get_contact(office: InOffice, _: AnyVisitor, key: ContactKey) -> Contact:
    """Where somebody is reached, and at what hours."""
    return Contact.of(await _contact(office, key))


@router.put("/contacts/{key}", summary="Write a contact", responses={201: {"description": "It is a new one."}})
async def put_contact(
    request: Request, response: Response, office: InOffice, visitor: Operator, key: ContactKey, given: ContactGiven
) -> Contact:
    """In place of the one that was called so. Whoever is broken and had nobody to tell is told now. With `If-Match`
    only if it is still as you saw it, with `If-None-Match: *` only if there is none.
    """
    entry = given.model_dump() | {"key": key}
    book = _read(office, {"contacts": [entry]}, "contacts[0]")
    sure = unless_changed(request, Contact.of)
    fresh = await office.desk.put_contact((book.contacts or {})[key], visitor.who, sure)
    response.status_code = 201 if fresh else 200
    return Contact.of(await _contact(office, key))


@router.delete("/contacts/{key}", summary="Remove a contact", status_code=204)
async def delete_contact(request: Request, office: InOffice, visitor: Operator, key: ContactKey) -> None:
    """Routes and owners that name it reach nobody there any more."""
    await office.desk.remove_contact(key, visitor.who, unless_changed(request, Contact.of))


async def _contact(office: Office, key: str) -> StoredContact:
    found = await office.desk.store.browse(contacts.get, key)
    if found is None:
        raise NotThere(f"there is no contact {key!r}")
    return found


@router.get("/owners", summary="List who is responsible for what")
async def list_owners(
    request: Request, response: Response, office: InOffice, _: AnyVisitor, wanted: Annotated[OwnersWanted, Query()]
) -> Page[Owners]:
    """All records, by workspace, scope and ref."""
    found = await office.desk.store.browse(views.owners_page, wanted.workspace, wanted.cursor, wanted.limit)
    page = Page[Owners](items=[Owners.of(one) for one in found.rows], next=found.after)
    return with_next(request, response, page)


@router.get("/owners/{workspace}/workspace", summary="Show who is responsible for a workspace")
async def get_workspace_owners(office: InOffice, _: AnyVisitor, workspace: InWorkspace) -> Owners:
    """Where nothing more specific is on record."""
    return Owners.of(await _owners(office, (workspace, "workspace", "")))


@router.put(
    "/owners/{workspace}/workspace",
    summary="Write who is responsible for a workspace",
    responses={201: {"description": "Nobody was before."}},
)
async def put_workspace_owners(
    request: Request,
    response: Response,
    office: InOffice,
    visitor: Operator,
    workspace: InWorkspace,
    given: OwnersGiven,
) -> Owners:
    """In place of what stood there. `If-Match` and `If-None-Match` as for contacts."""
    return await _put_owners(request, response, office, visitor.who, (workspace, "workspace", ""), given)


@router.delete("/owners/{workspace}/workspace", summary="Forget who is responsible for a workspace", status_code=204)
async def delete_workspace_owners(
    request: Request, office: InOffice, visitor: Operator, workspace: InWorkspace
) -> None:
    """Then the default recipients are told."""
    place = (workspace, "workspace", "")
    await office.desk.remove_owners(place, visitor.who, unless_changed(request, Owners.of))


@router.get(
    "/owners/{workspace}/{scope}/{ref:path}", summary="Show who is responsible for an account, profile or platform"
)
async def get_owners(office: InOffice, _: AnyVisitor, workspace: InWorkspace, scope: Scope, ref: Ref) -> Owners:
    """Exactly there; `GET /accounts/{account_id}/plan` says who is told in the end."""
    return Owners.of(await _owners(office, (workspace, scope, ref)))


@router.put(
    "/owners/{workspace}/{scope}/{ref:path}",
    summary="Write who is responsible for an account, profile or platform",
    responses={201: {"description": "Nobody was before."}},
)
async def put_owners(
    request: Request,
    response: Response,
    office: InOffice,
    visitor: Operator,
    workspace: InWorkspace,
    scope: Scope,
    ref: Ref,
    given: OwnersGiven,
) -> Owners:
    """In place of what stood there. `If-Match` and `If-None-Match` as for contacts."""
    return await _put_owners(request, response, office, visitor.who, (workspace, scope, ref), given)


@router.delete(
    "/owners/{workspace}/{scope}/{ref:path}",
    summary="Forget who is responsible for an account, profile or platform",
    status_code=204,
)
async def delete_owners(
    request: Request, office: InOffice, visitor: Operator, workspace: InWorkspace, scope: Scope, ref: Ref
) -> None:
    """Then whoever is responsible for what it belongs to is."""
    await office.desk.remove_owners((workspace, scope, ref), visitor.who, unless_changed(request, Owners.of))


async def _owners(office: Office, place: tuple[str, str, str]) -> StoredAssignment:
    found = await office.desk.store.browse(contacts.owned_at, place)
    if found is None:
        raise NotThere("no owners are on record there")
    return found


async def _put_owners(
    request: Request, response: Response, office: Office, who: str, place: tuple[str, str, str], given: OwnersGiven
) -> Owners:
    workspace, scope, ref = place
    entry = {"workspace": workspace, "scope": scope, "ref": ref} | given.model_dump()
    keys = {key for level in given.owners for key in level}
    known = await office.desk.store.browse(contacts.directory, keys)
    book = _read(office, {"owners": [entry]}, "owners[0]", known.contacts)
    owned = next(iter((book.owners or {}).values()))
    fresh = await office.desk.put_owners(owned, who, unless_changed(request, Owners.of))
    response.status_code = 201 if fresh else 200
    return Owners.of(await _owners(office, owned.place))


def _read(office: Office, document: dict[str, Any], within: str, known: Any = None) -> Book:
    """As a file of contacts is read, so that both say the same of the same mistake. Raises ``Problem``."""
    try:
        return read(
            [("body.json", orjson.dumps(document))],
            office.channels,
            workspaces=office.workspaces,
            known=known,
            is_language=is_language,
        )
    except ContactFileError as error:
        wrong = tuple(
            Wrong(
                *_spot(one.spot.column.removeprefix(within).lstrip(".")),
                " ".join(filter(None, (one.message, one.hint))),
            )
            for one in error.mistakes
        )
        raise Problem("invalid", " ".join(f"{one.field} {one.detail}".strip() for one in wrong[:5]), wrong) from None


def _spot(field: str) -> tuple[str, str]:
    return ("path", field) if field in {"key", "workspace", "scope", "ref"} else ("body", field)


@router.get("/addresses/bad", summary="List addresses that reach nobody")
async def list_bad_addresses(
    request: Request, response: Response, office: InOffice, _: AnyVisitor, wanted: Annotated[Paged, Query()]
) -> Page[BadAddress]:
    """Messages to them came back, so they are not written to again."""
    found = await office.desk.store.browse(views.bad_addresses_page, wanted.cursor, wanted.limit)
    page = Page[BadAddress](items=[BadAddress.of(one) for one in found.rows], next=found.after)
    return with_next(request, response, page)


@router.post("/addresses/trust", summary="Write to an address again", status_code=204)
async def trust_address(office: InOffice, visitor: Operator, given: Address) -> None:
    """In the body, since no address of a person belongs into the address of a page."""
    await office.desk.trust_address(Target(given.channel, given.address), visitor.who)
