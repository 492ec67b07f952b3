"""All of the operator's pages, for the private listener."""

from __future__ import annotations

from starlette.routing import Route

from healthd.web.operator import account, house, lists, overview, people
from healthd.web.operator.site import Site


def operator_routes(site: Site) -> list[Route]:
    return [
        *overview.routes(site),
        *lists.routes(site),
        *account.routes(site),
        *people.routes(site),
        *house.routes(site),
        *site.routes(),
    ]
