"""What only a sandbox has, under ``/_sandbox``: let accounts break, let the API fail, and look at what happened."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from healthd.sandbox.api import Api, Refusal
from healthd.sandbox.sender import EVENTS, stamp
from healthd.sandbox.world import PLATFORMS, Account, World

MOST_ROWS = 1000


class Control:
    """The endpoints. Bodies are JSON, or the fields of a form; a form gets back to the index page."""

    def __init__(self, api: Api) -> None:
        self.api, self.world, self.sender, self.faults = api, api.world, api.sender, api.faults

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Callable[[Request, dict[str, Any]], Awaitable[Any]]]] = [
            ("GET", "/state", self.state),
            ("GET", "/accounts", self.list_accounts),
            ("POST", "/accounts", self.create_accounts),
            ("GET", "/accounts/{id:int}", self.show_account),
            ("PATCH", "/accounts/{id:int}", self.change_account),
            ("POST", "/accounts/{id:int}/{what}", self.act),
            ("POST", "/expire", self.expire_many),
            ("POST", "/platforms/{platform}/{way}", self.platform),
            ("GET", "/faults", self.list_faults),
            ("POST", "/faults", self.add_fault),
            ("DELETE", "/faults", self.clear_faults),
            ("DELETE", "/faults/{id:int}", self.clear_faults),
            ("POST", "/events", self.emit),
            ("GET", "/requests", self.requests),
            ("GET", "/deliveries", self.deliveries),
            ("POST", "/webhooks", self.add_webhook),
            ("POST", "/keys", self.add_key),
            ("DELETE", "/keys/{key}", self.revoke_key),
            ("POST", "/workspaces/{name}", self.change_workspace),
            ("POST", "/profiles/{id:int}/{status}", self.profile_status),
            ("POST", "/clock", self.clock),
        ]
        return [Route("/_sandbox" + path, self._endpoint(do), methods=[method]) for method, path, do in table]

    def _endpoint(
        self, do: Callable[[Request, dict[str, Any]], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            raw = await request.body()
            kind = request.headers.get("content-type", "")
            # ``curl -d '{…}'`` calls its JSON a form, too.
            is_form = kind.startswith("application/x-www-form-urlencoded") and not raw.lstrip().startswith(b"{")
            try:
                body: dict[str, Any] = dict(parse_qsl(raw.decode())) if is_form else orjson.loads(raw or b"{}")
                found = await do(request, body)
            except orjson.JSONDecodeError:
                return _json({"error": "the body is not JSON"}, 422)
            except Refusal as refusal:
                return _json({"error": str(refusal)}, refusal.status)
            except (ValueError, TypeError, KeyError) as error:
                return _json({"error": f"{type(error).__name__}: {error}"}, 422)
            return RedirectResponse("/", 303) if is_form else _json(found)

        return answer

    async def state(self, _: Request, __: dict[str, Any]) -> Any:
        statuses: dict[str, int] = {}
        for account in self.world.accounts.values():
            statuses[account.status] = statuses.get(account.status, 0) + 1
        return {
            "now": self.world.now().isoformat(),
            "workspaces": {
                name: {"accounts": len(workspace.accounts), "key": f"sqk_test_{name}"}
                for name, workspace in self.world.workspaces.items()
            },
            "statuses": statuses,
            "platforms_down": sorted(self.world.down),
            "webhooks": [
                {"id": e.id, "workspace": e.workspace, "url": e.url, "status": e.status}
                for e in self.sender.endpoints.values()
            ],
            "faults": [fault.as_json() for fault in self.faults.active.values()],
            "links": {
                "minted": len(self.world.links),
                "opened": sum(link.form is not None for link in self.world.links.values()),
            },
        }

    async def list_accounts(self, request: Request, _: dict[str, Any]) -> Any:
        asked = request.query_params
        found = (
            account
            for account in self.world.accounts.values()
            if asked.get("platform", account.platform) == account.platform
            and asked.get("workspace", account.workspace) == account.workspace
            and asked.get("status", account.status) == account.status
        )
        return [asdict(account) for account, _ in zip(found, range(int(asked.get("limit", "100"))), strict=False)]

    async def create_accounts(self, _: Request, body: dict[str, Any]) -> Any:
        """``{workspace, platform, name?, username?, profile?, count?, webhook?}``."""
        workspace = str(body.get("workspace") or next(iter(self.world.workspaces)))
        self.world.add_workspace(workspace)
        made = [
            self.world.add_account(
                workspace,
                str(body.get("platform") or PLATFORMS[number % len(PLATFORMS)]),
                body.get("name"),
                body.get("username"),
                int(body["profile"]) if body.get("profile") else None,
            )
            for number in range(int(body.get("count", 1)))
        ]
        if _flag(body, "webhook", default=False):
            for account in made:
                self.api.tell(account, "account.connected")
        return [asdict(account) for account in made[:MOST_ROWS]]

    async def show_account(self, request: Request, _: dict[str, Any]) -> Any:
        return asdict(self._account(request))

    async def change_account(self, request: Request, body: dict[str, Any]) -> Any:
        """Sets any of the account's fields to anything, sense or not."""
        account = self._account(request)
        for name, value in body.items():
            if name not in Account.__slots__ or name in {"id", "workspace"}:
                raise Refusal(422, "", f"an account has no field {name!r} that can be changed")
            setattr(account, name, value)
        return asdict(account)

    async def act(self, request: Request, body: dict[str, Any]) -> Any:
        """``expire, disconnect, error, reconnect, delete, pause, resume``, with or without its webhook."""
        account, what = self._account(request), request.path_params["what"]
        if what not in _ACTS:
            raise Refusal(422, "", f"accounts can {', '.join(_ACTS)}")
        change, event, reason = _ACTS[what]
        change(self.world, account)
        if event is not None and _flag(body, "webhook", default=True):
            self._tell(account, event, reason, body)
        return asdict(account)

    def _tell(self, account: Account, event: str, reason: str, body: dict[str, Any]) -> None:
        more: dict[str, Any] = {"reason": body.get("reason") or reason}
        for name in ("event_id", "created_at"):
            if body.get(name):
                more[name] = body[name]
        delay, duplicates = float(body.get("delay") or 0), int(body.get("duplicates") or 0)
        self.api.tell(account, event, delay=delay, duplicates=duplicates, **more)

    async def expire_many(self, _: Request, body: dict[str, Any]) -> Any:
        """``{count, platform?, workspace?, webhook?, delay?}``: that many healthy accounts at once."""
        hit: list[int] = []
        for account in list(self.world.accounts.values()):
            if len(hit) >= int(body["count"]):
                break
            wanted = body.get("platform") in {None, account.platform}
            if wanted and body.get("workspace") in {None, account.workspace} and not account.broken:
                self.world.break_token(account)
                hit.append(account.id)
                if _flag(body, "webhook", default=True):
                    self._tell(account, "account.token_expired", "Token expired.", body)
        return {"expired": len(hit), "ids": hit[:MOST_ROWS]}

    async def platform(self, request: Request, body: dict[str, Any]) -> Any:
        """A platform or its refresh worker goes down: all its accounts look expired, until it comes up."""
        platform, way = request.path_params["platform"], request.path_params["way"]
        if way not in {"down", "up"}:
            raise Refusal(422, "", "a platform goes down or up")
        told = 0
        (self.world.down.add if way == "down" else self.world.down.discard)(platform)
        if way == "down" and _flag(body, "webhook", default=True):
            for account in list(self.world.accounts.values()):
                if account.platform == platform and not account.broken:
                    self._tell(account, "account.token_expired", "Token expired.", body)
                    told += 1
        return {"down": sorted(self.world.down), "webhooks": told}

    async def list_faults(self, _: Request, __: dict[str, Any]) -> Any:
        return [fault.as_json() for fault in self.faults.active.values()]

    async def add_fault(self, _: Request, body: dict[str, Any]) -> Any:
        facts = {
            name: (_NUMBERS.get(name, str)(value) if isinstance(value, str) else value)
            for name, value in body.items()
            if value != ""
        }
        return self.faults.add(**facts).as_json()

    async def clear_faults(self, request: Request, _: dict[str, Any]) -> Any:
        number = request.path_params.get("id")
        if number is None:
            self.faults.active.clear()
        else:
            self.faults.active.pop(number, None)
        return []

    async def emit(self, _: Request, body: dict[str, Any]) -> Any:
        """``{event, data, workspace?, id?, created_at?, delay?, duplicates?}``, or ``{raw}``: any text, well signed."""
        workspace = body.get("workspace") or next(iter(self.world.workspaces))
        if "raw" in body:
            raw = str(body["raw"]).encode("utf-8", "surrogatepass")
            mine = [e for e in self.sender.endpoints.values() if e.workspace == workspace]
            return {"deliveries": [self.sender.send_raw(endpoint, raw).id for endpoint in mine]}
        made = self.sender.emit(
            workspace,
            body["event"],
            body.get("data", {}),
            event_id=body.get("id"),
            created_at=body.get("created_at"),
            delay=float(body.get("delay", 0)),
            duplicates=int(body.get("duplicates", 0)),
        )
        return {"deliveries": [delivery.id for delivery in made]}

    async def requests(self, request: Request, _: dict[str, Any]) -> Any:
        part = request.query_params.get("path", "")
        return [entry for entry in self.api.requests if part in entry["path"]]

    async def deliveries(self, _: Request, __: dict[str, Any]) -> Any:
        return [
            {
                "id": d.id, "event": d.event, "event_id": d.event_id, "status": d.status, "attempt": d.attempt,
                "response_code": d.response_code, "delivered_at": stamp(d.delivered_at),
            }
            for d in list(self.sender.deliveries.values())[-MOST_ROWS:]
        ]  # fmt: skip

    async def add_webhook(self, _: Request, body: dict[str, Any]) -> Any:
        """As ``POST /v1/webhooks``, but with a secret of one's own choice."""
        workspace = str(body.get("workspace") or next(iter(self.world.workspaces)))
        endpoint = self.sender.register(workspace, body["url"], body.get("events") or EVENTS, body.get("secret"))
        return {"id": endpoint.id, "secret": endpoint.secret}

    async def add_key(self, _: Request, body: dict[str, Any]) -> Any:
        key = self.world.add_key(str(body["key"]), str(body["workspace"]), body.get("scopes", ()))
        return {"key": key.key, "scopes": sorted(key.scopes)}

    async def revoke_key(self, request: Request, _: dict[str, Any]) -> Any:
        self.world.keys[request.path_params["key"]].revoked = True
        return {}

    async def change_workspace(self, request: Request, body: dict[str, Any]) -> Any:
        """``{limit?, spend?}``: another rate limit, and requests of the customer's own."""
        workspace = self.world.add_workspace(request.path_params["name"])
        if "limit" in body:
            workspace.limit = body["limit"]
        limit, left, _reset = self.world.spend(workspace, int(body.get("spend", 0)))
        return {"limit": limit, "remaining": max(0, left)}

    async def profile_status(self, request: Request, _: dict[str, Any]) -> Any:
        profile = self.world.profiles[request.path_params["id"]]
        profile.status = request.path_params["status"]
        return {"id": profile.id, "status": profile.status}

    async def clock(self, _: Request, body: dict[str, Any]) -> Any:
        """``{advance: seconds}``: links age, rate windows pass."""
        self.world.ahead += timedelta(seconds=float(body["advance"]))
        return {"now": self.world.now().isoformat()}

    def _account(self, request: Request) -> Account:
        account = self.world.accounts.get(request.path_params["id"])
        if account is None:
            raise Refusal(404, "", "there is no such account")
        return account


def _pause(_: World, account: Account) -> None:
    account.is_active = False


def _resume(_: World, account: Account) -> None:
    account.is_active = True


_ACTS: dict[str, tuple[Callable[[World, Account], None], str | None, str]] = {
    "expire": (World.break_token, "account.token_expired", "Token expired."),
    "disconnect": (World.break_connection, "account.disconnected", "Access was revoked on the platform."),
    "error": (World.break_connection, None, ""),
    "reconnect": (World.repair, "account.connected", ""),
    "delete": (World.remove_account, "account.disconnected", "Disconnected by its owner."),
    "pause": (_pause, None, ""),
    "resume": (_resume, None, ""),
}
_NUMBERS: dict[str, Callable[[str], Any]] = {"status": int, "times": int, "seconds": float, "share": float}


def _flag(body: dict[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    return value if isinstance(value, bool) else str(value).lower() in {"1", "true", "on", "yes"}


def _json(found: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(found, default=str), status, media_type="application/json")


def seeded(seed: int | None) -> random.Random:
    """Chance for faults, repeatable where a seed is given."""
    return random.Random(seed)  # noqa: S311 - chance, not secrecy
