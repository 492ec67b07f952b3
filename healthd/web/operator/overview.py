"""``/``: whether all is well, and where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from healthd.core.model import BROKEN, State
from healthd.metrics import Snapshot, take_snapshot
from healthd.store import contacts, pages, views
from healthd.store.accounts import StoredAccount
from healthd.store.incidents import Incident
from healthd.store.notices import StoredNotice
from healthd.web.operator.site import Flash, Site

DAYS = 14
LONGEST_BROKEN = 10
DEAD_SINCE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Tile:
    """One platform: its accounts by state, and how many broke on each of the last days, the oldest first."""

    platform: str
    states: Mapping[State, int]
    paused: int
    days: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def broken(self) -> int:
        return sum(self.states[state] for state in BROKEN)

    def segments(self, width: float = 100.0, least: float = 1.5) -> list[tuple[State, float, float]]:
        """``(state, x, width)`` of the state bar. What is there is seen, however little of a million it is."""
        there = [(state, number) for state, number in self.states.items() if number]
        shares = [max(least, width * number / self.total) for _, number in there]
        scale, x, found = width / sum(shares), 0.0, []
        for (state, _), share in zip(there, shares, strict=True):
            found.append((state, round(x, 2), round(share * scale, 2)))
            x += share * scale
        return found

    def bars(self, height: float = 20.0) -> list[tuple[int, float, float]]:
        """``(x, y, height)`` of the days' bars, 7 apart."""
        most = max(*self.days, 1)
        tall = [max(1.0, height * number / most) if number else 0.75 for number in self.days]
        return [(place * 7, round(height - one, 2), round(one, 2)) for place, one in enumerate(tall)]


@dataclass(frozen=True, slots=True)
class Row:
    """A broken account, who was told of it, and when one of them pressed the button."""

    stored: StoredAccount
    incident: Incident | None
    told: Sequence[StoredNotice]
    clicked_at: datetime | None
    first_told: str = ""
    """The name, where there is one, of who of them heard of it first."""


@dataclass(frozen=True)
class Overview:
    seen: Snapshot
    tiles: Sequence[Tile]
    rows: Sequence[Row]
    dead: int

    @property
    def total(self) -> int:
        return sum(tile.total for tile in self.tiles)

    @property
    def broken(self) -> int:
        return sum(tile.broken for tile in self.tiles)

    @property
    def untold(self) -> bool:
        return any(number for _, number in self.seen.nobody_told)

    @property
    def suspect(self) -> int:
        return sum(tile.states[State.SUSPECT] for tile in self.tiles)

    def taken_on(self, now: datetime) -> int:
        """How many of the rows somebody is on."""
        until = (row.incident.acknowledged_until for row in self.rows if row.incident is not None)
        return sum(at is not None and at > now for at in until)

    def oldest_sweep(self, workspace: str) -> datetime | None:
        """When the workspace was last swept whole; ``None`` where a part of it never was."""
        swept = [scope.bulk_at for scope in self.seen.scopes if scope.workspace == workspace and scope.active]
        return min((at for at in swept if at is not None), default=None) if all(swept) else None


def load(connection: Connection, workspaces: Sequence[str], now: datetime) -> Overview:
    """All that the overview shows, in a fixed number of queries."""
    seen = take_snapshot(connection, now)
    everywhere = sorted({*workspaces, *(one[0] for one in seen.accounts)})
    first = (now - timedelta(days=DAYS - 1)).date()
    since = datetime.combine(first, datetime.min.time(), now.tzinfo)
    by_day = views.broken_by_day(connection, since, everywhere)
    return Overview(
        seen=seen,
        tiles=_tiles(seen, by_day, [first + timedelta(days=number) for number in range(DAYS)]),
        rows=rows_of(connection, views.longest_broken(connection, everywhere, LONGEST_BROKEN)),
        dead=pages.dead_count(connection, now - DEAD_SINCE),
    )


def rows_of(connection: Connection, found: Sequence[StoredAccount]) -> list[Row]:
    """These accounts, each with its open incident."""
    open_now = pages.open_incidents(connection, [one.id for one in found])
    return rows_about(connection, [(one, open_now.get(one.id)) for one in found])


def rows_about(connection: Connection, found: Sequence[tuple[StoredAccount, Incident | None]]) -> list[Row]:
    ids = [incident.id for _, incident in found if incident is not None]
    told, clicked = pages.told_of(connection, ids), pages.clicked_incidents(connection, ids)
    first = {about: sent[-1] for about, sent in told.items()}
    people = contacts.directory(connection, {one.contact for one in first.values() if one.contact}).contacts
    names = {about: people[one.contact].name for about, one in first.items() if one.contact in people}
    rows = []
    for account, incident in found:
        about = incident.id if incident else ""
        rows.append(Row(account, incident, told.get(about, []), clicked.get(about), names.get(about, "")))
    return rows


def _tiles(seen: Snapshot, by_day: Mapping[str, Counter[date]], days: Sequence[date]) -> list[Tile]:
    states: dict[str, dict[State, int]] = {}
    paused: Counter[str] = Counter()
    for _, platform, state, is_paused, number in seen.accounts:
        if state is not State.REMOVED:
            states.setdefault(platform, dict.fromkeys(State, 0))[state] += number
            paused[platform] += number * is_paused
    found = [
        Tile(platform, counts, paused[platform], tuple(by_day.get(platform, Counter())[day] for day in days))
        for platform, counts in states.items()
    ]
    return sorted(found, key=lambda tile: (-tile.broken, -tile.total, tile.platform))


def routes(site: Site) -> list[Route]:
    async def show(request: Request, flash: Flash | None, status: int) -> Response:
        found = await site.store.browse(load, site.workspaces, site.now())
        facts = {"found": found, "allowances": site.allowances(), "workspaces": site.workspaces, "ways": site.ways}
        return site.render(request, "overview", flash, status, **facts)

    async def end_storm(request: Request, form: Mapping[str, str]) -> str:
        cancel = form.get("do") == "cancel"
        await site.desk.end_storm(request.path_params["storm_id"], request.state.visitor.who, cancel=cancel)
        site.live.publish()
        return f"/?said=storm-{'cancel' if cancel else 'release'}"

    return [site.page("/", show), site.act("/storms/{storm_id}", show, end_storm)]
