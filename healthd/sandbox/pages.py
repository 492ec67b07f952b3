"""What a person sees of the sandbox: the page where consent is given, and an index of everything."""

from __future__ import annotations

import hmac
import secrets
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from healthd.sandbox.api import Api
from healthd.sandbox.faults import FAULT_HINTS, KINDS
from healthd.sandbox.world import PLATFORMS, Account, Link

SHOWN = 200
_HEADERS = {"cache-control": "no-store", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}


class Pages:
    """The routes for browsers."""

    def __init__(self, api: Api) -> None:
        self.api, self.world = api, api.world
        self._templates = Environment(
            loader=PackageLoader("healthd.sandbox"), autoescape=True, undefined=StrictUndefined
        )

    def routes(self) -> list[Route]:
        return [
            Route("/", self.index, methods=["GET"]),
            Route("/connect/{platform}", self.open_link, methods=["GET"]),
            Route("/connect/{platform}", self.answer, methods=["POST"]),
        ]

    async def index(self, request: Request) -> Response:
        sender = self.api.sender
        return self._page(
            "index.html.j2",
            problem=request.query_params.get("problem"),
            world=self.world,
            accounts=list(islice(self.world.accounts.values(), SHOWN)),
            endpoints=list(sender.endpoints.values()),
            deliveries=list(sender.deliveries.values())[-20:][::-1],
            faults=list(self.api.faults.active.values()),
            platforms=sorted({*PLATFORMS, *self.world.down}),
            kinds=KINDS,
            hints=FAULT_HINTS,
        )

    async def open_link(self, request: Request) -> Response:
        """Shows the consent page, once: whoever comes after the first visitor finds the link used up."""
        link = self.world.links.get(request.query_params.get("token", ""))
        if link is None or link.platform != request.path_params["platform"] or self.world.is_over(link):
            return self._page("over.html.j2", 410)
        if request.method == "HEAD":
            return Response(headers=_HEADERS, media_type="text/html")
        link.form = secrets.token_urlsafe(16)
        account = self.world.accounts.get(link.account) if link.account else None
        siblings = self.world.siblings(account) if account else []
        return self._page("consent.html.j2", link=link, account=account, siblings=siblings)

    async def answer(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        link = self.world.links.get(form.get("token", ""))
        mine = link is not None and hmac.compare_digest(form.get("form", "").encode(), (link.form or "-").encode())
        if link is None or not mine or link.result != "pending" or self.world.is_too_old(link):
            return self._page("over.html.j2", 410)
        decision = form.get("decision", "deny")
        if form.get("platform") in link.choices:
            link.platform = form["platform"]
        if decision not in {"approve", "other"}:
            link.result = "denied"
            return self._done(link, None)
        account = self._other_account(link) if decision == "other" else self._repair(link, "siblings" in form)
        link.result, link.connected = "connected", account.id
        return self._done(link, account)

    def _repair(self, link: Link, with_siblings: bool) -> Account:
        account = self.world.accounts.get(link.account) if link.account else None
        if account is None:
            account = self.world.add_account(link.workspace, link.platform, profile=link.profile)
        for one in (account, *(self.world.siblings(account) if with_siblings else ())):
            self.world.repair(one)
            self.api.tell(one, "account.connected")
        return account

    def _other_account(self, link: Link) -> Account:
        """The person logs in as somebody else: a new account appears, and the broken one stays as it was."""
        account = self.world.add_account(link.workspace, link.platform, profile=link.profile)
        self.api.tell(account, "account.connected")
        return account

    def _done(self, link: Link, account: Account | None) -> Response:
        if link.return_url is None:
            return self._page("done.html.j2", account=account)
        parts = urlsplit(link.return_url)
        told = urlencode({"connected": int(account is not None), "platform": link.platform})
        return RedirectResponse(parts._replace(query="&".join(filter(None, (parts.query, told)))).geturl(), 303)

    def _page(self, template: str, status: int = 200, **facts: Any) -> Response:
        body = self._templates.get_template(template).render(facts)
        return Response(body, status, headers=_HEADERS, media_type="text/html")
