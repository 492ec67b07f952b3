"""The long lists: ``/accounts``, ``/incidents`` and ``/notices``, each a page of rows, and where the next begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import Connection
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from healthd.core.model import PLATFORMS, Cause, NoticeKind, NoticeStatus, State
from healthd.store import accounts as stored_accounts
from healthd.store import notices, storms, views
from healthd.store.views import AccountFilter, IncidentFilter, NoticeFilter, Page, Sort
from healthd.web.guarding import HEADERS
from healthd.web.operator import parts
from healthd.web.operator.overview import Row, rows_about, rows_of
from healthd.web.operator.site import PAGE, Flash, NoPage, Site, address

E = TypeVar("E", bound=StrEnum)

LONGEST_SEARCH = 200
SORTS: Mapping[Sort, str] = {
    Sort.NAME: "By name",
    Sort.NEWEST: "Changed last",
    Sort.CHANGED: "Longest in their state",
    Sort.ID: "As they were found",
}


@dataclass(frozen=True)
class Asked:
    """What stands in the address: words that mean nothing here count for nothing."""

    given: QueryParams

    def text(self, name: str) -> str:
        return self.given.get(name, "").strip()[:LONGEST_SEARCH]

    def one(self, name: str, kind: type[E]) -> E | None:
        value = self.text(name)
        return kind(value) if value in set(kind) else None

    def many(self, name: str, kind: type[E]) -> list[E]:
        known = set(kind)
        return [kind(value) for value in dict.fromkeys(self.given.getlist(name)) if value in known]

    @property
    def after(self) -> str | None:
        return self.given.get("after") or None

    def address(self, path: str, **changed: object) -> str:
        """This address with some of it changed; without a place, since that was one of another list."""
        kept = {name: self.given.getlist(name) for name in self.given if name not in {"after", "said", *changed}}
        return address(path, **{name: [one for one in values if one] for name, values in kept.items()}, **changed)


def account_filter(asked: Asked, workspaces: Sequence[str], now: datetime) -> AccountFilter:
    """Where a state is asked for, all workspaces are named as well: that is what the index on states begins with."""
    states = asked.many("state", State)
    chosen = asked.text("workspace")
    return AccountFilter(
        workspaces=[chosen] if chosen else list(workspaces) if states else [],
        platforms=[asked.text("platform")] if asked.text("platform") else [],
        states=states,
        profile=asked.text("profile") or None,
        paused=True if asked.text("paused") else None,
        muted_at=now if asked.text("muted") else None,
        words=asked.text("q"),
    )


def _accounts(
    connection: Connection, wanted: AccountFilter, sort: Sort, after: str | None
) -> tuple[Page[Row], list[str], list[str]]:
    page = views.accounts_page(connection, wanted, sort, after, PAGE)
    counted = stored_accounts.counts(connection)
    workspaces, platforms = sorted({one[0] for one in counted}), sorted({one[1] for one in counted})
    return Page(rows_of(connection, page.rows), page.after), workspaces, platforms


def _incidents(
    connection: Connection, wanted: IncidentFilter, after: str | None
) -> tuple[Page[Row], list[storms.Storm]]:
    page = views.incidents_page(connection, wanted, after, PAGE)
    rows = rows_about(connection, [(one.account, one.incident) for one in page.rows])
    return Page(rows, page.after), storms.all_current(connection)


def _one_notice(connection: Connection, notice_id: str) -> parts.NoticePage | None:
    found = notices.get(connection, notice_id)
    if found is None:
        return None
    leader = notices.get(connection, found.message_id) or found
    account = None if found.account_id is None else stored_accounts.by_id(connection, found.account_id)
    return parts.NoticePage(found, leader, account)


def routes(site: Site) -> list[Route]:
    async def accounts(request: Request, flash: Flash | None, status: int) -> Response:
        asked, now = Asked(request.query_params), site.now()
        sort = asked.one("sort", Sort) or Sort.NAME
        wanted = account_filter(asked, site.workspaces, now)
        page, workspaces, platforms = await site.store.browse(_accounts, wanted, sort, asked.after)
        facts = {
            "page": page, "asked": asked, "wanted": wanted, "sort": sort, "sorts": SORTS, "workspaces": workspaces,
            "platforms": platforms,
        }  # fmt: skip
        return site.render(request, "accounts", flash, status, **facts)

    async def incidents(request: Request, flash: Flash | None, status: int) -> Response:
        asked = Asked(request.query_params)
        wanted = IncidentFilter(
            workspaces=[asked.text("workspace")] if asked.text("workspace") else [],
            platforms=[asked.text("platform")] if asked.text("platform") else [],
            causes=asked.many("cause", Cause),
            storm_id=asked.text("storm") or None,
            only_open=asked.text("show") != "all",
            untold=bool(asked.text("untold")),
        )
        page, lasting = await site.store.browse(_incidents, wanted, asked.after)
        facts = {
            "page": page, "asked": asked, "storms": lasting, "wanted": wanted,
            "workspaces": site.workspaces, "platforms": PLATFORMS, "causes": Cause, "ways": site.ways,
        }  # fmt: skip
        return site.render(request, "incidents", flash, status, **facts)

    async def all_notices(request: Request, flash: Flash | None, status: int) -> Response:
        asked = Asked(request.query_params)
        wanted = NoticeFilter(
            statuses=asked.many("status", NoticeStatus),
            kinds=asked.many("kind", NoticeKind),
            channels=[asked.text("channel")] if asked.text("channel") else [],
            incident_id=asked.text("incident") or None,
            contact=asked.text("contact"),
        )
        page = await site.store.browse(views.notices_page, wanted, asked.after, PAGE)
        facts = {"page": page, "asked": asked, "wanted": wanted, "channels": sorted(site.ways)}
        return site.render(request, "notices", flash, status, **facts)

    async def found_notice(request: Request) -> parts.NoticePage:
        found = await site.store.browse(_one_notice, request.path_params["notice_id"])
        if found is None:
            raise NoPage("There is no such notice: it may have been too old to keep.")
        return found

    async def notice(request: Request, flash: Flash | None, status: int) -> Response:
        found = await found_notice(request)
        page = site.render(request, "notice", flash, status, found=found, ways=site.ways)
        page.headers["content-security-policy"] = f"{HEADERS['content-security-policy']}; frame-src 'self'"
        return page

    async def mail(request: Request, _: Flash | None, __: int) -> Response:
        found = await found_notice(request)
        html = (found.leader.content or {}).get("html")
        if html is None:
            raise NoPage("This notice is no mail.")
        return site.document(site.seen_by(request)(html), parts.MAIL_POLICY)

    async def retry(request: Request, _: Mapping[str, str]) -> str:
        notice_id = request.path_params["notice_id"]
        await site.desk.retry_notice(notice_id, request.state.visitor.who)
        site.live.publish()
        return f"/notices/{notice_id}?said=retry"

    return [
        site.page("/accounts", accounts),
        site.page("/incidents", incidents),
        site.page("/notices", all_notices),
        site.page("/notices/{notice_id}", notice),
        site.page("/notices/{notice_id}/mail", mail),
        site.act("/notices/{notice_id}/retry", notice, retry),
    ]
