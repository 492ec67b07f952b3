"""``/contacts`` and ``/routes``: who is on record, whom messages do not reach, and who would be told of what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from healthd.core.contacts import format_days, format_quiet, format_zone
from healthd.core.duration import in_words
from healthd.core.model import Target
from healthd.core.routing import Routing
from healthd.store import contacts
from healthd.store.contacts import BadAddress, StoredAssignment, StoredContact
from healthd.telling import dry_runs, matchers
from healthd.web.operator.lists import Asked
from healthd.web.operator.site import Flash, Site

MOST_SHOWN = 500
MOST_TRIED = 20


@dataclass(frozen=True)
class People:
    contacts: Sequence[StoredContact]
    assignments: Sequence[StoredAssignment]
    bad: Sequence[BadAddress]


def _people(connection: Connection) -> People:
    return People(contacts.all_contacts(connection), contacts.all_assignments(connection), contacts.all_bad(connection))


@dataclass(frozen=True, slots=True)
class Branch:
    """A route, or what holds where none matches: when it is asked, and what happens then."""

    title: str
    when: str
    steps: Sequence[tuple[str, str]]
    goes_on: bool = False


def branches(routing: Routing) -> list[Branch]:
    """The routes in the order in which they are asked."""
    found = [
        Branch(
            f"Route {number}",
            matchers(route),
            [
                (f"after {in_words(step.after)}" if step.after else "at once", ", ".join(to.key for to in step.to))
                for step in route.steps()
            ],
            not route.stop,
        )
        for number, route in enumerate(routing.routes, 1)
    ]
    rest = [
        ("at once, and then level after level", f"its owners on record, {in_words(routing.escalate_after)} apart"),
        ("then", ", ".join(target.key for target in routing.default) or "nobody"),
    ]
    return [*found, Branch("Otherwise", "no route matches" if found else "always", rest)]


def routes(site: Site) -> list[Route]:
    async def people(request: Request, flash: Flash | None, status: int) -> Response:
        found, asked = await site.store.browse(_people), Asked(request.query_params)
        wanted = asked.text("q").casefold()
        shown = [
            one for one in found.contacts if not wanted or wanted in f"{one.contact.key} {one.contact.name}".casefold()
        ]
        facts = {
            "found": found, "shown": shown[:MOST_SHOWN], "total": len(shown), "asked": asked,
            "zone": lambda hours: format_zone(hours.zone) or "UTC",
            "quiet": lambda hours: format_quiet(hours.quiet),
            "days": lambda hours: format_days(hours.days),
        }  # fmt: skip
        return site.render(request, "contacts", flash, status, **facts)

    async def trust(request: Request, form: Mapping[str, str]) -> str:
        await site.desk.trust_address(Target.parse(form.get("address", "")), request.state.visitor.who)
        site.live.publish()
        return "/contacts?said=trust"

    async def routing(request: Request, flash: Flash | None, status: int) -> Response:
        asked = Asked(request.query_params)
        tried = []
        if asked.text("account"):
            tried = await site.store.browse(dry_runs, asked.text("account"), site.engine, site.now())
        facts = {
            "asked": asked, "tried": tried[:MOST_TRIED], "branches": branches(site.engine.dispatch.routing),
            "operators": [target.key for target in site.engine.dispatch.operators],
        }  # fmt: skip
        return site.render(request, "routes", flash, status, **facts)

    return [
        site.page("/contacts", people),
        site.act("/contacts/trust", people, trust),
        site.page("/routes", routing),
    ]
