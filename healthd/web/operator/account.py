"""``/accounts/{id}``: one account, what is wrong with it, who was told, and what an operator can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from healthd.core.duration import in_words, parse_duration
from healthd.desk import Desk, NotNow
from healthd.web.operator import words
from healthd.web.operator.lists import Asked
from healthd.web.operator.site import Flash, NoPage, Site
from healthd.web.operator.story import Teller, load
from healthd.web.operator.timeline import KINDS, Kind, Timeline

SPANS = ("1h", "4h", "1d", "3d", "7d", "30d")
"""For how long an account can be muted, or its reminders be put off, by a press."""

Act = Callable[[Desk, int, str, datetime], Awaitable[object]]
"""Told the account, who acts, and until when; the last only matters where the form holds a span."""

ACTS: Mapping[str, Act] = {
    "check": lambda desk, account, who, _: desk.check_now(account, who),
    "acknowledge": lambda desk, account, who, _: desk.acknowledge(account, who),
    "snooze": lambda desk, account, who, until: desk.snooze(account, until, who),
    "resume": lambda desk, account, who, _: desk.resume(account, who),
    "mute": lambda desk, account, who, until: desk.mute(account, until, who),
    "unmute": lambda desk, account, who, _: desk.unmute(account, who),
    "release": lambda desk, account, who, _: desk.release(account, who),
    "pause-posting": lambda desk, account, who, _: desk.pause_posting(account, who),
    "resume-posting": lambda desk, account, who, _: desk.resume_posting(account, who),
}
"""By the last part of the form's address."""


def _account_id(request: Request) -> int:
    number = int(request.path_params["account_id"])
    if number >= 1 << 63:
        raise NoPage("There is no such account.")
    return number


def routes(site: Site) -> list[Route]:
    async def show(request: Request, flash: Flash | None, status: int) -> Response:
        now = site.now()
        found = await site.store.browse(load, _account_id(request), site.engine, now)
        if found is None:
            raise NoPage("There is no such account.")
        asked = Asked(request.query_params)
        see = site.seen_by(request)
        timeline = Timeline(found, see)
        chosen = asked.one("kind", Kind)
        facts = {
            "found": found,
            "teller": Teller(found, site.ways, now, see),
            "lines": timeline.lines(chosen),
            "kinds": timeline.kinds(),
            "chosen": chosen,
            "KIND_WORDS": KINDS,
            "spans": [(text, in_words(parse_duration(text))) for text in SPANS],
            "ways": site.ways,
        }
        return site.render(request, "account", flash, status, **facts)

    async def act(request: Request, form: Mapping[str, str]) -> str:
        account_id, said = _account_id(request), request.path_params["act"]
        if said not in ACTS:
            raise NoPage("There is no such act.")
        await ACTS[said](site.desk, account_id, request.state.visitor.who, site.now() + _span(form))
        site.live.publish([account_id])
        return f"/accounts/{account_id}?said={said}"

    async def link(request: Request, _: Mapping[str, str]) -> Flash:
        made = await site.desk.repair_link(_account_id(request), request.state.visitor.who)
        until = f", until {words.moment(made.expires_at)} at the latest" if made.expires_at else ""
        text = (
            f"This link to our page works for as long as the account is broken{until}. Whoever opens it can repair the "
            "account: send it to nobody else."
            if made.lasting
            else "This is the provider’s own link: it works once, and for a quarter of an hour."
        )
        return Flash(text, link=made.url)

    return [
        site.page("/accounts/{account_id:int}", show),
        site.act("/accounts/{account_id:int}/link", show, link),
        site.act("/accounts/{account_id:int}/{act}", show, act),
    ]


def _span(form: Mapping[str, str]) -> timedelta:
    try:
        return parse_duration(form.get("for", "1d"))
    except ValueError as error:
        raise NotNow(str(error)) from None
