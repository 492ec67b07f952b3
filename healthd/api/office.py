"""What the routes work with, and what several of them say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path, Request, Response
from pydantic import BaseModel

from healthd.api.door import etag, names_one_of
from healthd.api.models import Number, Page
from healthd.api.problems import Problem
from healthd.core.roles import Role
from healthd.desk import Desk
from healthd.engine import Engine
from healthd.metrics import AllowanceReading
from healthd.web.access import Visitor


@dataclass(frozen=True)
class Office:
    """``channels`` are the configured ones by name, each with what it has against an address, said by a
    ``ValueError``.
    """

    desk: Desk
    engine: Engine
    channels: Mapping[str, Callable[[str], None]]
    workspaces: Collection[str]
    allowances: Callable[[], Mapping[str, AllowanceReading]]


async def _office(request: Request) -> Office:
    found: Office = request.app.state.office
    return found


async def _visitor(request: Request) -> Visitor:
    found: Visitor = request.state.visitor
    return found


def _needs(role: Role) -> Any:
    async def check(visitor: Annotated[Visitor, Depends(_visitor)]) -> Visitor:
        if not visitor.role.may(role):
            raise Problem("forbidden", f"This needs the role {role}; {visitor.who} is {visitor.role}.")
        return visitor

    return Depends(check)


InOffice = Annotated[Office, Depends(_office)]
AnyVisitor = Annotated[Visitor, _needs(Role.VIEWER)]
Operator = Annotated[Visitor, _needs(Role.OPERATOR)]
Admin = Annotated[Visitor, _needs(Role.ADMIN)]
AccountId = Annotated[Number, Path(description="`id` of the account.", examples=[17])]


def with_next(request: Request, response: Response, page: Page[Any]) -> Page[Any]:
    """The page, and where the next one is as a ``Link``."""
    if page.next is not None:
        url = request.url.include_query_params(cursor=page.next)
        response.headers["link"] = f'<{url.path}?{url.query}>; rel="next"'
    return page


def unless_changed(request: Request, shown: Callable[[Any], BaseModel]) -> Callable[[Any], None]:
    """What ``If-Match`` and ``If-None-Match`` ask of what is there before a write. ``shown`` is how it is given out."""
    must, must_not = request.headers.get("if-match"), request.headers.get("if-none-match")

    def sure(before: Any) -> None:
        tag = "" if before is None else etag(rendered(shown(before)))
        if must is not None and (before is None or not names_one_of(must, tag)):
            raise Problem("changed", "It is no longer what If-Match names: get it again, and then decide.")
        if must_not is not None and before is not None and names_one_of(must_not, tag):
            raise Problem("changed", "It is there already, which If-None-Match rules out.")

    return sure


def rendered(model: BaseModel) -> bytes:
    """As FastAPI writes it."""
    return model.__pydantic_serializer__.to_json(model, by_alias=True)
