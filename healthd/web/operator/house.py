"""``/workspaces``, ``/audit`` and ``/access``: what healthd stands on, who did what, and who may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from healthd.core.model import State
from healthd.core.roles import Role
from healthd.metrics import Snapshot, take_snapshot
from healthd.store import access, subscriptions
from healthd.store.subscriptions import Looked
from healthd.web.operator.lists import Asked
from healthd.web.operator.site import PAGE, Flash, NoPage, Site

MOST_PROFILES = 100


@dataclass(frozen=True)
class Workspaces:
    seen: Snapshot
    subscriptions: Mapping[str, Looked]

    def states(self, workspace: str) -> dict[State, int]:
        found = dict.fromkeys(State, 0)
        for name, _, state, _, number in self.seen.accounts:
            if name == workspace:
                found[state] += number
        return {state: number for state, number in found.items() if number}


def _workspaces(connection: Connection, now: datetime) -> Workspaces:
    return Workspaces(
        take_snapshot(connection, now), {one.workspace: one for one in subscriptions.everywhere(connection)}
    )


def routes(site: Site) -> list[Route]:
    async def workspaces(request: Request, flash: Flash | None, status: int) -> Response:
        found = await site.store.browse(_workspaces, site.now())
        facts = {
            "found": found, "names": _named(site.workspaces, found.seen), "configured": set(site.workspaces),
            "allowances": site.allowances(), "most_profiles": MOST_PROFILES,
        }  # fmt: skip
        return site.render(request, "workspaces", flash, status, **facts)

    async def audit(request: Request, flash: Flash | None, status: int) -> Response:
        asked = Asked(request.query_params)
        after = asked.text("after")
        if after and not (after.isascii() and after.isdecimal() and len(after) < 19):
            raise NoPage("This page does not exist: begin again at /audit.")
        lines = await site.store.browse(access.audit_of, int(after) if after else None, PAGE + 1)
        facts = {"lines": lines[:PAGE], "more": lines[PAGE - 1].id if len(lines) > PAGE else None}
        return site.render(request, "audit", flash, status, **facts)

    async def tokens(request: Request, flash: Flash | None, status: int) -> Response:
        found = await site.store.browse(access.tokens)
        given = site.access.settings.tokens
        return site.render(request, "access", flash, status, tokens=found, given=given, settings=site.access.settings)

    return [
        site.page("/workspaces", workspaces),
        site.page("/audit", audit, Role.ADMIN),
        site.page("/access", tokens, Role.ADMIN),
    ]


def _named(configured: Sequence[str], seen: Snapshot) -> list[str]:
    """Those of the settings first, then those of which only accounts are left."""
    return list(dict.fromkeys((*configured, *sorted({scope.workspace for scope in seen.scopes}))))
