"""What only a sandbox has, under ``/_sandbox``: let accounts break, let the API fail, and look at what happened."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from healthd.sandbox.api import Api, Refusal, web_address
from healthd.sandbox.sender import EVENTS, stamp
from healthd.sandbox.world import PLATFORMS, SCOPES, Account, Profile, World

MOST_ROWS = 1000
MOST_AT_ONCE = 1_000_000
LONGEST = timedelta(days=3650).total_seconds()

Body = Mapping[str, Any]
Do = Callable[[Request, Body], Awaitable[Any]]

_TELLING = ("webhook", "reason", "event_id", "created_at", "delay", "duplicates")


class Control:
    """The endpoints. What they want stands in the query of a ``GET``, else in the body: JSON, or the fields of a form.
    A browser gets back to the index page.
    """

    def __init__(self, api: Api) -> None:
        self.api, self.world, self.sender, self.faults = api, api.world, api.sender, api.faults
        self._posts = itertools.count(5001)

    def routes(self) -> list[Route]:
        # The last column names what may be asked for; None leaves that to the endpoint.
        table: list[tuple[str, str, Do, tuple[str, ...] | None]] = [
            ("GET", "/state", self.state, ()),
            ("GET", "/accounts", self.list_accounts, ("workspace", "platform", "status", "limit")),
            ("POST", "/accounts", self.create_accounts,
             ("workspace", "platform", "name", "username", "profile", "count", "webhook")),
            ("GET", "/accounts/{id:int}", self.show_account, ()),
            ("PATCH", "/accounts/{id:int}", self.change_account, None),
            ("POST", "/accounts/{id:int}/fail_post", self.fail_post,
             ("post_id", "code", "message", "published", "event_id", "created_at", "delay", "duplicates")),
            ("POST", "/accounts/{id:int}/{what}", self.act, _TELLING),
            ("POST", "/expire", self.expire_many, ("count", "platform", "workspace", *_TELLING)),
            ("POST", "/platforms/{platform}/{way}", self.platform, _TELLING),
            ("POST", "/platforms", self.platform, ("platform", "way", *_TELLING)),
            ("GET", "/faults", self.list_faults, ()),
            ("POST", "/faults", self.add_fault, None),
            ("POST", "/faults/clear", self.clear_faults, ()),
            ("DELETE", "/faults", self.clear_faults, ()),
            ("DELETE", "/faults/{id:int}", self.clear_faults, ()),
            ("POST", "/events", self.emit,
             ("event", "data", "workspace", "id", "created_at", "delay", "duplicates", "raw")),
            ("GET", "/requests", self.requests, ("path", "workspace")),
            ("GET", "/deliveries", self.deliveries, ("status", "event")),
            ("POST", "/webhooks", self.add_webhook, ("workspace", "url", "events", "secret")),
            ("POST", "/keys", self.add_key, ("key", "workspace", "scopes")),
            ("DELETE", "/keys/{key}", self.revoke_key, ()),
            ("POST", "/workspaces/{name}", self.change_workspace, ("limit", "spend")),
            ("POST", "/profiles/{id:int}/{status}", self.profile_status, ()),
            ("POST", "/clock", self.clock, ("advance",)),
        ]  # fmt: skip
        return [Route("/_sandbox" + path, _endpoint(do, known), methods=[method]) for method, path, do, known in table]

    async def state(self, _: Request, __: Body) -> Any:
        statuses: dict[str, int] = {}
        for account in self.world.accounts.values():
            statuses[str(account.status)] = statuses.get(str(account.status), 0) + 1
        return {
            "now": self.world.now().isoformat(),
            "workspaces": {
                name: {
                    "accounts": len(workspace.accounts),
                    "key": f"sqk_test_{name}",
                    "limit": self.world.rate_limit(workspace),
                }
                for name, workspace in self.world.workspaces.items()
            },
            "statuses": statuses,
            "platforms_down": sorted(self.world.down),
            "webhooks": [
                {"id": e.id, "workspace": e.workspace, "url": e.url, "status": e.status, "secret": e.secret}
                for e in self.sender.endpoints.values()
            ],
            "faults": [fault.as_json() for fault in self.faults.active.values()],
            "links": {
                "minted": len(self.world.links),
                "opened": sum(link.form is not None for link in self.world.links.values()),
            },
        }

    async def list_accounts(self, _: Request, asked: Body) -> Any:
        found = (
            account
            for account in self.world.accounts.values()
            if asked.get("platform", account.platform) == account.platform
            and asked.get("workspace", account.workspace) == account.workspace
            and asked.get("status", account.status) == account.status
        )
        return [asdict(account) for account, _ in zip(found, range(_count(asked, "limit", 100)), strict=False)]

    async def create_accounts(self, _: Request, body: Body) -> Any:
        """``{workspace?, platform?, name?, username?, profile?, count?, webhook?}``; a new workspace is made."""
        workspace = _text(body, "workspace") or next(iter(self.world.workspaces))
        profile = _count(body, "profile") if body.get("profile") is not None else None
        if profile is not None and self._profile(profile).workspace != workspace:
            raise Refusal(422, "", f"profile {profile} belongs to another workspace")
        platform, name, username = _text(body, "platform"), _text(body, "name"), _text(body, "username")
        count = _count(body, "count", 1)
        self.world.add_workspace(workspace)
        made = [
            self.world.add_account(workspace, platform or PLATFORMS[number % len(PLATFORMS)], name, username, profile)
            for number in range(count)
        ]
        if _flag(body, "webhook", default=False):
            for account in made:
                self.api.tell(account, "account.connected")
        return [asdict(account) for account in made[:MOST_ROWS]]

    async def show_account(self, request: Request, _: Body) -> Any:
        return asdict(self._account(request))

    async def change_account(self, request: Request, body: Body) -> Any:
        """Sets the account's fields to anything that the sandbox itself can live with, sense or not."""
        account = self._account(request)
        changeable = [name for name in Account.__slots__ if name not in {"id", "workspace"}]
        for name, value in body.items():
            if name not in changeable:
                raise Refusal(422, "", f"an account has no {name!r} to change; it has {', '.join(changeable)}")
            if name == "platform" and not isinstance(value, str):
                raise Refusal(422, "", "platform must be a text")
            if name == "connected_at":
                _count(body, name)
            if name == "profile" and value is not None:
                self._profile(_count(body, name))
        for name, value in body.items():
            setattr(account, name, value)
        return asdict(account)

    async def act(self, request: Request, body: Body) -> Any:
        """``expire, disconnect, error, reconnect, delete, pause, resume``, with or without its webhook."""
        account, what = self._account(request), request.path_params["what"]
        if what not in _ACTS:
            raise Refusal(422, "", f"an account cannot {what!r}; it can {', '.join(_ACTS)}")
        change, event, reason = _ACTS[what]
        how = _how_to_tell(body, reason)
        change(self.world, account)
        if event is not None and _flag(body, "webhook", default=True):
            self.api.tell(account, event, **how)
        return asdict(account)

    async def fail_post(self, request: Request, body: Body) -> Any:
        """``{post_id?, code?, message?, published?}``: a post for this account fails, and is published on the platforms
        named, if any; the account stays as it is.
        """
        account, how = self._account(request), _how_to_tell(body, None)
        post, published = _count(body, "post_id", next(self._posts)), body.get("published", [])
        if not isinstance(published, list) or not all(isinstance(one, str) for one in published):
            raise Refusal(422, "", "published must be a list of platforms")
        del how["reason"]
        error = {
            "code": _text(body, "code") or "TOKEN_EXPIRED",
            "message": _text(body, "message") or "The access token has expired.",
            "retryable": False,
        }
        made = self.api.tell_of_post(account, post, error, published, **how)
        return {"post_id": post, "deliveries": [delivery.id for delivery in made]}

    async def expire_many(self, _: Request, body: Body) -> Any:
        """``{count, platform?, workspace?, webhook?, …}``: that many healthy accounts at once."""
        count, how = _count(body, "count"), _how_to_tell(body, _EXPIRED)
        platform, workspace = _text(body, "platform"), _text(body, "workspace")
        if workspace is not None:
            self._workspace(body)
        hit: list[int] = []
        for account in list(self.world.accounts.values()):
            if len(hit) >= count:
                break
            if platform in {None, account.platform} and workspace in {None, account.workspace} and not account.broken:
                self.world.break_token(account)
                hit.append(account.id)
                if _flag(body, "webhook", default=True):
                    self.api.tell(account, "account.token_expired", **how)
        return {"expired": len(hit), "ids": hit[:MOST_ROWS]}

    async def platform(self, request: Request, body: Body) -> Any:
        """A platform or its refresh worker goes down: all its accounts look expired, until it comes up."""
        asked = {**body, **request.path_params}
        platform, way = str(asked.get("platform")), asked.get("way")
        if way not in {"down", "up"}:
            raise Refusal(422, "", "a platform goes down or up")
        if platform not in {*PLATFORMS, *(account.platform for account in self.world.accounts.values())}:
            raise Refusal(422, "", f"no account is on {platform!r}; platforms are {', '.join(PLATFORMS)}")
        told, how = 0, _how_to_tell(body, _EXPIRED)
        (self.world.down.add if way == "down" else self.world.down.discard)(platform)
        if way == "down" and _flag(body, "webhook", default=True):
            for account in list(self.world.accounts.values()):
                if account.platform == platform and not account.broken:
                    self.api.tell(account, "account.token_expired", **how)
                    told += 1
        return {"down": sorted(self.world.down), "webhooks": told}

    async def list_faults(self, _: Request, __: Body) -> Any:
        return [fault.as_json() for fault in self.faults.active.values()]

    async def add_fault(self, _: Request, body: Body) -> Any:
        facts = dict(body)
        for name, number in _NUMBERS_OF_A_FAULT.items():
            if isinstance(facts.get(name), str):
                facts[name] = number(body, name)
        if facts.get("workspace") is not None:
            self._workspace(body)
        try:
            return self.faults.add(**facts).as_json()
        except ValueError as error:
            raise Refusal(422, "", str(error)) from None

    async def clear_faults(self, request: Request, _: Body) -> Any:
        number = request.path_params.get("id")
        if number is None:
            self.faults.active.clear()
        else:
            self.faults.active.pop(number, None)
        return [fault.as_json() for fault in self.faults.active.values()]

    async def emit(self, _: Request, body: Body) -> Any:
        """``{event, data?, workspace?, id?, created_at?, delay?, duplicates?}``, or ``{raw}``: any text, signed."""
        workspace = self._workspace(body)
        how = _how_to_tell(body, None)
        if "raw" in body:
            raw = str(body["raw"]).encode("utf-8", "surrogatepass")
            mine = [e for e in self.sender.endpoints.values() if e.workspace == workspace]
            return {"deliveries": [self.sender.send_raw(endpoint, raw).id for endpoint in mine]}
        event, event_id = _header_text(body, "event"), _header_text(body, "id")
        if event is None:
            raise Refusal(422, "", "event is missing, or raw")
        made = self.sender.emit(
            workspace,
            event,
            body.get("data", {}),
            event_id=event_id,
            created_at=how.get("created_at"),
            delay=how["delay"],
            duplicates=how["duplicates"],
        )
        return {"deliveries": [delivery.id for delivery in made]}

    async def requests(self, _: Request, asked: Body) -> Any:
        return [
            entry
            for entry in self.api.requests
            if asked.get("path", "") in entry["path"]
            and asked.get("workspace", entry["workspace"]) == entry["workspace"]
        ]

    async def deliveries(self, _: Request, asked: Body) -> Any:
        found = [
            d
            for d in self.sender.deliveries.values()
            if asked.get("status", d.status) == d.status and asked.get("event", d.event) == d.event
        ]
        return [
            {
                "id": d.id, "event": d.event, "event_id": d.event_id, "status": d.status, "attempt": d.attempt,
                "response_code": d.response_code, "delivered_at": stamp(d.delivered_at),
                "next_retry_at": stamp(d.next_retry_at),
            }
            for d in found[-MOST_ROWS:]
        ]  # fmt: skip

    async def add_webhook(self, _: Request, body: Body) -> Any:
        """As ``POST /v1/webhooks``, but with a secret of one's own choice, and to any address."""
        workspace, url, events = self._workspace(body), body.get("url"), body.get("events") or list(EVENTS)
        if web_address(url) is None:
            raise Refusal(422, "", "url must be an http or https address")
        if not isinstance(events, list) or not all(event in EVENTS for event in events):
            raise Refusal(422, "", f"events must be a list of {', '.join(EVENTS)}")
        endpoint = self.sender.register(workspace, str(url), events, _text(body, "secret"))
        return {"id": endpoint.id, "secret": endpoint.secret}

    async def add_key(self, _: Request, body: Body) -> Any:
        """``{key, workspace?, scopes?}``: without scopes the key may do everything."""
        key, scopes = _text(body, "key"), body.get("scopes", sorted(SCOPES))
        if key is None:
            raise Refusal(422, "", "key is missing")
        if not isinstance(scopes, list) or not all(scope in SCOPES for scope in scopes):
            raise Refusal(422, "", f"scopes must be a list of {', '.join(sorted(SCOPES))}")
        made = self.world.add_key(key, self._workspace(body), scopes)
        return {"key": made.key, "workspace": made.workspace, "scopes": sorted(made.scopes)}

    async def revoke_key(self, request: Request, _: Body) -> Any:
        key = self.world.keys.get(request.path_params["key"])
        if key is None:
            raise Refusal(404, "", "there is no such key")
        key.revoked = True
        return {"key": key.key, "revoked": True}

    async def change_workspace(self, request: Request, body: Body) -> Any:
        """``{limit?, spend?}``: another rate limit (null: the published tiers), and requests of the customer's own."""
        limit = _count(body, "limit") if body.get("limit") is not None else None
        spend = _count(body, "spend", 0)
        workspace = self.world.add_workspace(request.path_params["name"])
        if "limit" in body:
            workspace.limit = limit
        in_force, left, reset = self.world.spend(workspace, spend)
        return {"key": f"sqk_test_{workspace.name}", "limit": in_force, "remaining": max(0, left), "reset": reset}

    async def profile_status(self, request: Request, _: Body) -> Any:
        profile, status = self._profile(request.path_params["id"]), request.path_params["status"]
        if status not in {"active", "paused", "deleted"}:
            raise Refusal(422, "", "a profile can be active, paused, deleted")
        profile.status = status
        return {"id": profile.id, "status": profile.status}

    async def clock(self, _: Request, body: Body) -> Any:
        """``{advance: seconds}``: links age, rate windows pass, retries become due."""
        self.world.ahead += timedelta(seconds=_number(body, "advance"))
        self.sender.clock_moved()
        return {"now": self.world.now().isoformat()}

    def _account(self, request: Request) -> Account:
        account = self.world.accounts.get(request.path_params["id"])
        if account is None:
            raise Refusal(404, "", "there is no such account")
        return account

    def _profile(self, number: int) -> Profile:
        profile = self.world.profiles.get(number)
        if profile is None:
            raise Refusal(404, "", "there is no such profile")
        return profile

    def _workspace(self, body: Body) -> str:
        """The one that is named, or the first."""
        name = _text(body, "workspace") or next(iter(self.world.workspaces))
        if name not in self.world.workspaces:
            raise Refusal(422, "", f"there is no workspace {name!r}; there are {', '.join(self.world.workspaces)}")
        return name


def _pause(_: World, account: Account) -> None:
    account.is_active = False


def _resume(_: World, account: Account) -> None:
    account.is_active = True


_EXPIRED = "Token expired."
_ACTS: dict[str, tuple[Callable[[World, Account], None], str | None, str | None]] = {
    "expire": (World.break_token, "account.token_expired", _EXPIRED),
    "disconnect": (World.break_connection, "account.disconnected", "Access was revoked on the platform."),
    "error": (World.break_connection, None, None),
    "reconnect": (World.repair, "account.connected", None),
    "delete": (World.remove_account, "account.disconnected", "Disconnected by its owner."),
    "pause": (_pause, None, None),
    "resume": (_resume, None, None),
}


def _endpoint(do: Do, known: tuple[str, ...] | None) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        is_browser = "text/html" in request.headers.get("accept", "")
        try:
            body = dict(request.query_params) if request.method == "GET" else _body(request, await request.body())
            _refuse_strange(body, known)
            found = await do(request, body)
        except Refusal as refusal:
            if is_browser and request.method == "POST":
                return RedirectResponse(f"/?{urlencode({'problem': str(refusal)})}", 303)
            return _json({"error": str(refusal)}, refusal.status)
        return RedirectResponse("/", 303) if is_browser and request.method == "POST" else _json(found)

    return answer


def _refuse_strange(body: Body, known: tuple[str, ...] | None) -> None:
    strange = [name for name in body if known is not None and name not in known]
    if strange:
        takes = f"it takes {', '.join(known)}" if known else "it takes nothing"
        raise Refusal(422, "", f"unknown: {', '.join(strange)}; {takes}")


def _body(request: Request, raw: bytes) -> dict[str, Any]:
    # ``curl -d '{…}'`` calls its JSON a form, too.
    is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if is_form and not raw.lstrip().startswith((b"{", b"[")):
        return dict(parse_qsl(raw.decode("utf-8", "replace")))
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as error:
        raise Refusal(422, "", f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refusal(422, "", "the body must be a JSON object")
    return body


def _how_to_tell(body: Body, reason: str | None) -> dict[str, Any]:
    how: dict[str, Any] = {
        "reason": _text(body, "reason") or reason,
        "delay": _number(body, "delay", 0),
        "duplicates": _count(body, "duplicates", 0),
    }
    event_id, created_at = _header_text(body, "event_id"), _text(body, "created_at")
    return how | ({"event_id": event_id} if event_id else {}) | ({"created_at": created_at} if created_at else {})


def _number(body: Body, name: str, default: float | None = None) -> float:
    value = body.get(name, default)
    if value is None:
        raise Refusal(422, "", f"{name} is missing")
    try:
        found = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        found = -1.0
    if not 0 <= found <= LONGEST:
        raise Refusal(422, "", f"{name} must be a number from 0 to {LONGEST:.0f}")
    return found


def _count(body: Body, name: str, default: int | None = None) -> int:
    found = body.get(name, default)
    if found is None:
        raise Refusal(422, "", f"{name} is missing")
    if isinstance(found, str) and found.isascii() and found.isdecimal():
        found = int(found[:20])
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= MOST_AT_ONCE:
        raise Refusal(422, "", f"{name} must be a whole number from 0 to {MOST_AT_ONCE}")
    return found


def _text(body: Body, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not (isinstance(value, str) and value):
        raise Refusal(422, "", f"{name} must be a text")
    return value


def _header_text(body: Body, name: str) -> str | None:
    """What goes into a header as well."""
    value = _text(body, name)
    if value is not None and not (value.isascii() and value.isprintable()):
        raise Refusal(422, "", f"{name} must be plain ASCII, since it is sent as a header")
    return value


def _flag(body: Body, name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    return value if isinstance(value, bool) else str(value).lower() in {"1", "true", "on", "yes"}


_NUMBERS_OF_A_FAULT: dict[str, Callable[[Body, str], float]] = {
    "status": _count, "times": _count, "seconds": _number, "share": _number,
}  # fmt: skip


def _json(found: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(found, default=str), status, media_type="application/json")


def seeded(seed: int | None) -> random.Random:
    """Chance for faults, repeatable where a seed is given."""
    return random.Random(seed)  # noqa: S311 - chance, not secrecy
