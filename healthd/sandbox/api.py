"""The provider's contract over HTTP, under ``/v1``: https://docs.smartlyq.com"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from healthd.sandbox.faults import ANSWERED_BY_API, Faults, suffer
from healthd.sandbox.sender import EVENTS, LOGGED_FOR, Delivery, Endpoint, Sender, stamp
from healthd.sandbox.world import (
    CREDENTIALS,
    CREDENTIALS_ONLY,
    PLATFORMS,
    Account,
    Key,
    Link,
    Profile,
    Workspace,
    World,
)

PREFIX = "/v1"
MOST_WEBHOOKS = 10
ROWS_AT_ONCE = 1000
KEPT_REQUESTS = 10_000
REMEMBERED_FOR = timedelta(hours=24)
"""How long an idempotency key gets the first answer again."""
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Refusal(Exception):
    """An error as the API words it."""

    def __init__(self, status: int, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.details = status, code, details or {}


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an idempotency key got, and for which request."""

    request: tuple[str, str, str | None, bytes]
    status: int
    body: bytes
    until: datetime


@dataclass
class Api:
    """The endpoints. ``public_url`` stands in the links it hands out; ``latency`` in seconds delays every answer."""

    world: World
    sender: Sender
    faults: Faults
    public_url: str
    latency: float = 0.0
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))
    _remembered: dict[tuple[str, str], Remembered] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, str | None, Callable[[Call], Awaitable[Response]]]] = [
            ("GET", "/me", None, self.me),
            ("GET", "/social/accounts", "social:read", self.list_accounts),
            ("GET", "/social/accounts/health", "social:read", self.health_of_all),
            ("GET", "/social/accounts/{id}/health", "social:read", self.health),
            ("GET", "/social/accounts/{id}/reconnect-url", "social:write", self.reconnect_url),
            ("POST", "/social/accounts/{id}/pause", "social:write", self.pause),
            ("POST", "/social/accounts/{id}/resume", "social:write", self.resume),
            ("PATCH", "/social/accounts/{id}", "social:write", self.rename),
            ("DELETE", "/social/accounts/{id}", "social:write", self.disconnect),
            ("POST", "/social/connect/{platform}", "social:write", self.connect),
            ("GET", "/social/connect/{platform}", "social:read", self.connect_status),
            ("GET", "/webhooks", "webhooks:read", self.list_webhooks),
            ("POST", "/webhooks", "webhooks:write", self.create_webhook),
            ("GET", "/webhooks/logs", "webhooks:read", self.webhook_logs),
            ("POST", "/webhooks/deliveries/{id}/replay", "webhooks:write", self.replay),
            ("PUT", "/webhooks/{id}", "webhooks:write", self.update_webhook),
            ("DELETE", "/webhooks/{id}", "webhooks:write", self.delete_webhook),
            ("POST", "/webhooks/{id}/test", "webhooks:write", self.test_webhook),
            ("GET", "/profiles", "profiles:read", self.list_profiles),
            ("POST", "/profiles", "profiles:write", self.create_profile),
            ("GET", "/profiles/{id}", "profiles:read", self.get_profile),
            ("PATCH", "/profiles/{id}", "profiles:write", self.update_profile),
            ("DELETE", "/profiles/{id}", "profiles:write", self.delete_profile),
            ("GET", "/profiles/{id}/accounts", "profiles:read", self.profile_accounts),
            ("POST", "/profiles/{id}/connect-link", "profiles:write", self.profile_connect_link),
        ]
        offered = [
            Route(PREFIX + path, self._endpoint(scope, handler), methods=[method])
            for method, path, scope, handler in table
        ]
        anything = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return [*offered, Route(PREFIX + "/{path:path}", self._endpoint(None, self.nothing_here), methods=anything)]

    def _endpoint(
        self, scope: str | None, handler: Callable[[Call], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if self.latency:
                await asyncio.sleep(self.latency)
            call = Call(self, request)
            try:
                call.admit(scope)
                response = await self._once(call, handler)
            except Refusal as refusal:
                response = call.refuse(refusal)
            for name, value in call.rate.items():
                response.headers[name] = value
            self.requests.append(call.record(response.status_code))
            return response

        return answer

    async def _once(self, call: Call, handler: Callable[[Call], Awaitable[Response]]) -> Response:
        """Whoever repeats a change under the same idempotency key gets the first answer, and nothing happens again."""
        headers, method = call.request.headers, call.request.method
        # The documentation names the first header, the official clients send the second.
        key = headers.get("x-idempotency-key") or headers.get("idempotency-key")
        if not key or method not in {"POST", "PUT", "PATCH"}:
            return await handler(call)
        place = (call.workspace.name, key)
        asked = (method, call.request.url.path, headers.get("x-profile-id"), await call.request.body())
        before = self._remembered.get(place)
        if before is not None and self.world.now() < before.until:
            if before.request != asked:
                raise Refusal(409, "IDEMPOTENCY_CONFLICT", "This idempotency key belongs to another request.")
            return Response(before.body, before.status, media_type="application/json")
        response = await handler(call)
        until = self.world.now() + REMEMBERED_FOR
        self._remembered[place] = Remembered(asked, response.status_code, bytes(response.body), until)
        if len(self._remembered) > KEPT_REQUESTS:
            del self._remembered[next(iter(self._remembered))]
        return response

    async def nothing_here(self, call: Call) -> Response:
        what = f"{call.request.method} {call.request.url.path}"
        raise Refusal(404, "RESOURCE_NOT_FOUND", f"The sandbox does not offer {what}.")

    async def me(self, call: Call) -> Response:
        workspace = call.workspace
        return call.ok(
            {
                "id": workspace.id,
                "name": workspace.name,
                "email": f"owner@{workspace.name}.example",
                "plan": "sandbox",
                "created_at": "2026-01-01T00:00:00Z",
            }
        )

    async def list_accounts(self, call: Call) -> Response:
        rows = (account.brief() for account in list(self.world.accounts_of(call.workspace.name, call.profile())))
        return call.stream(b'{"success":true,"data":[', rows, b"]")

    async def health_of_all(self, call: Call) -> Response:
        accounts = list(self.world.accounts_of(call.workspace.name, call.profile()))
        tally: Counter[str] = Counter()
        for account in accounts:
            tally[self.world.tally(account)] += 1
        start = orjson.dumps({name: tally[name] for name in ("healthy", "expiring", "expired", "paused")})
        rows = (self.world.seen(account) for account in accounts)
        return call.stream(b'{"success":true,"data":' + start[:-1] + b',"accounts":[', rows, b"]}")

    async def health(self, call: Call) -> Response:
        row = self.world.seen(call.account())
        del row["is_active"]
        return call.ok(row)

    async def reconnect_url(self, call: Call) -> Response:
        account = call.account()
        if account.platform in CREDENTIALS_ONLY:
            raise Refusal(422, "VALIDATION_ERROR", f"{account.platform} connects with credentials, without a browser.")
        link = self.world.mint(call.workspace.name, account.platform, account=account.id, profile=account.profile)
        return call.ok({"reconnect_url": self.page(link)})

    def page(self, link: Link) -> str:
        return f"{self.public_url}/connect/{link.platform}?token={link.token}"

    async def pause(self, call: Call) -> Response:
        return self._set_active(call, active=False)

    async def resume(self, call: Call) -> Response:
        return self._set_active(call, active=True)

    def _set_active(self, call: Call, *, active: bool) -> Response:
        account = call.account()
        account.is_active = active
        return call.ok({"id": account.id, "paused": not active})

    async def rename(self, call: Call) -> Response:
        account, body = call.account(), await call.body()
        name = body.get("account_name")
        if not isinstance(name, str) or not 1 <= len(name) <= 255:
            raise Refusal(422, "VALIDATION_ERROR", "account_name is required.", {"fields": ["account_name"]})
        account.name = name
        return call.ok({"id": account.id, "platform": account.platform, "account_name": name})

    async def disconnect(self, call: Call) -> Response:
        account = call.account()
        self.world.remove_account(account)
        self.tell(account, "account.disconnected", reason="Disconnected through the API.")
        return call.ok(None)

    def tell(self, account: Account, event: str, **more: Any) -> list[Delivery]:
        """Sends an account's event; ``reason`` goes into its data, the rest is for the sender."""
        reason = more.pop("reason", None)
        data: dict[str, Any] = {
            "account_id": account.id,
            "platform": account.platform,
            "account_name": account.name,
        }
        data |= {"account_username": account.username} if event == "account.connected" else {"reason": reason}
        return self.sender.emit(account.workspace, event, data | self._where(account), **more)

    def tell_of_post(
        self, account: Account, post: int, error: dict[str, Any] | None, published: Sequence[str] = (), **more: Any
    ) -> list[Delivery]:
        """Sends the event of a post that failed here with ``error`` (``None``: it did not), and was ``published``
        elsewhere. Like the real one it does not name the account.
        """
        here: dict[str, Any] = {"platform": account.platform, "success": error is None}
        if error is not None:
            here["error"] = error
        rows = [here, *({"platform": platform, "success": True} for platform in published)]
        status = "published" if error is None else "partially_published" if published else "failed"
        event = {"published": "post.published", "partially_published": "post.partial", "failed": "post.failed"}[status]
        data = {"post_id": post, "status": status, "platforms": rows}
        return self.sender.emit(account.workspace, event, data | self._where(account), **more)

    def _where(self, account: Account) -> dict[str, Any]:
        if account.profile is None:
            return {}
        profile = self.world.profiles[account.profile]
        return {"profile_id": profile.id, "profile_workspace_id": profile.workspace_id}

    async def connect(self, call: Call) -> Response:
        platform, body = call.request.path_params["platform"], await call.body()
        if platform not in PLATFORMS:
            raise Refusal(
                422, "UNSUPPORTED_PLATFORM", f"{platform} cannot be connected.", {"supported": list(PLATFORMS)}
            )
        profile = call.profile()
        if platform in CREDENTIALS_ONLY or body.keys() & set(CREDENTIALS.get(platform, ())):
            return self._connect_with_credentials(call, platform, profile, body)
        link = self.world.mint(
            call.workspace.name, platform, profile=profile, return_url=_return_url(body.get("return_url"))
        )
        data = {
            "platform": platform,
            "connect_url": self.page(link),
            "expires_at": stamp(link.expires_at),
        }
        return call.ok(data, 201)

    def _connect_with_credentials(
        self, call: Call, platform: str, profile: int | None, body: dict[str, Any]
    ) -> Response:
        """Nothing to open: the account is there at once. Any text will do as a credential."""
        missing = [name for name in CREDENTIALS[platform] if not isinstance(body.get(name), str) or not body[name]]
        if missing:
            raise Refusal(
                422,
                "VALIDATION_ERROR",
                f"{platform} connects with credentials, without a browser. Missing: {', '.join(missing)}.",
                {"fields": missing},
            )
        account = self.world.add_account(call.workspace.name, platform, profile=profile)
        self.tell(account, "account.connected")
        return call.ok({"platform": platform, "account": _connected_row(account)}, 201)

    async def connect_status(self, call: Call) -> Response:
        call.profile()
        link = self.world.links.get(call.request.path_params["platform"])
        if link is None or link.workspace != call.workspace.name:
            raise Refusal(404, "RESOURCE_NOT_FOUND", "Connection not found.")
        late = link.result != "connected" and self.world.is_too_old(link)
        account = self.world.accounts.get(link.connected) if link.connected else None
        facts = _connected_row(account) if account else None
        status = "expired" if late else "connected" if link.result == "connected" else "pending"
        return call.ok(
            {"platform": link.platform, "status": status, "expires_at": stamp(link.expires_at), "account": facts}
        )

    async def list_webhooks(self, call: Call) -> Response:
        found = [_webhook_row(endpoint) for endpoint in self._webhooks(call)]
        return call.ok({"webhooks": found, "events": list(EVENTS)})

    def _webhooks(self, call: Call) -> list[Endpoint]:
        if "x-profile-id" in call.request.headers:
            raise Refusal(422, "VALIDATION_ERROR", "Webhooks belong to the workspace: leave X-Profile-Id away.")
        return [endpoint for endpoint in self.sender.endpoints.values() if endpoint.workspace == call.workspace.name]

    async def create_webhook(self, call: Call) -> Response:
        body = await call.body()
        url, events = _webhook_url(body.get("url")), _webhook_events(body.get("events"))
        self._leave_room(call)
        endpoint = self.sender.register(call.workspace.name, url, events)
        facts = _webhook_row(endpoint)
        return call.ok(
            {name: facts[name] for name in ("id", "url", "events", "status")} | {"secret": endpoint.secret}, 201
        )

    def _leave_room(self, call: Call) -> None:
        if sum(endpoint.status == "active" for endpoint in self._webhooks(call)) >= MOST_WEBHOOKS:
            raise Refusal(422, "VALIDATION_ERROR", f"A workspace has at most {MOST_WEBHOOKS} active webhooks.")

    async def update_webhook(self, call: Call) -> Response:
        endpoint, body = self._webhook(call), await call.body()
        status = body.get("status")
        if not body.keys() & {"url", "events", "status"} or status not in {None, "active", "paused"}:
            raise Refusal(422, "VALIDATION_ERROR", "Provide url, events or status (active, paused).")
        url = _webhook_url(body["url"]) if "url" in body else endpoint.url
        events = _webhook_events(body["events"]) if "events" in body else endpoint.events
        if status == "active" and endpoint.status != "active":
            self._leave_room(call)
        endpoint.url, endpoint.events = url, events
        if status == "active":
            self.sender.reactivate(endpoint)
        elif status == "paused":
            endpoint.status = "paused"
        return call.ok(_webhook_row(endpoint))

    async def delete_webhook(self, call: Call) -> Response:
        del self.sender.endpoints[self._webhook(call).id]
        return call.ok(None)

    def _webhook(self, call: Call) -> Endpoint:
        mine = {endpoint.id: endpoint for endpoint in self._webhooks(call)}
        endpoint = mine.get(call.number())
        if endpoint is None:
            raise Refusal(404, "RESOURCE_NOT_FOUND", "Webhook not found.")
        return endpoint

    async def test_webhook(self, call: Call) -> Response:
        delivery = await self.sender.test(self._webhook(call))
        return call.ok(
            {
                "delivered": delivery.status == "delivered",
                "event_id": delivery.event_id,
                "delivery_id": delivery.id,
                "response_code": delivery.response_code,
                "response_body": delivery.response_body,
            }
        )

    async def webhook_logs(self, call: Call) -> Response:
        asked = call.request.query_params
        mine = {endpoint.id for endpoint in self._webhooks(call)}
        since = self.world.now() - LOGGED_FOR
        found = [
            delivery
            for delivery in reversed(self.sender.deliveries.values())
            if delivery.webhook_id in mine
            and delivery.created_at >= since
            and asked.get("webhook_id", str(delivery.webhook_id)) == str(delivery.webhook_id)
            and asked.get("event", delivery.event) == delivery.event
            and asked.get("status", delivery.status) == delivery.status
        ]
        page, per_page = call.paging()
        rows = [_delivery_row(delivery) for delivery in found[(page - 1) * per_page : page * per_page]]
        pagination = {
            "total": len(found),
            "page": page,
            "per_page": per_page,
            "total_pages": -(-len(found) // per_page),
        }
        return call.ok({"deliveries": rows, "pagination": pagination})

    async def replay(self, call: Call) -> Response:
        mine = {endpoint.id: endpoint for endpoint in self._webhooks(call)}
        delivery = self.sender.deliveries.get(call.number())
        endpoint = mine.get(delivery.webhook_id) if delivery else None
        if delivery is None or endpoint is None:
            raise Refusal(404, "RESOURCE_NOT_FOUND", "Delivery not found.")
        self.sender.replay(endpoint, delivery)
        return call.ok({"delivery_id": delivery.id, "status": "pending"}, 202)

    async def list_profiles(self, call: Call) -> Response:
        profiles = self.world.profiles.values()
        mine = [p for p in profiles if p.workspace == call.workspace.name and p.status != "deleted"]
        page, per_page = call.paging()
        newest = mine[::-1][(page - 1) * per_page : page * per_page]
        return call.bare({"profiles": [_profile_row(profile) for profile in newest]})

    async def create_profile(self, call: Call) -> Response:
        body = await call.body()
        name, external_id = _profile_name(body.get("name")), _external_id(body.get("external_id"))
        return call.bare(_profile_row(self.world.add_profile(call.workspace.name, name, external_id)), 201)

    async def get_profile(self, call: Call) -> Response:
        return call.bare(_profile_row(call.own_profile(call.number())))

    async def update_profile(self, call: Call) -> Response:
        profile, body = call.own_profile(call.number()), await call.body()
        name = _profile_name(body["name"]) if "name" in body else profile.name
        external_id = _external_id(body["external_id"]) if "external_id" in body else profile.external_id
        profile.name, profile.external_id = name, external_id
        return call.bare(_profile_row(profile))

    async def delete_profile(self, call: Call) -> Response:
        profile = call.own_profile(call.number())
        if (await call.body()).get("confirm") != "DELETE":
            raise Refusal(422, "VALIDATION_ERROR", "Send confirm: DELETE.", {"fields": ["confirm"]})
        profile.status = "deleted"
        for account in list(self.world.accounts_of(call.workspace.name, profile.id)):
            self.world.remove_account(account)
        return call.ok({"profile_id": profile.id, "scheduled": True}, 202)

    async def profile_accounts(self, call: Call) -> Response:
        profile = call.own_profile(call.number())
        rows = [
            {
                "id": account.id,
                "platform": account.platform,
                "account_id": f"ext_{account.id}",
                "account_name": account.name,
                "account_username": account.username,
                "connected_at": stamp(datetime.fromtimestamp(account.connected_at, UTC)),
            }
            for account in self.world.accounts_of(call.workspace.name, profile.id)
        ]
        return call.bare({"accounts": rows})

    async def profile_connect_link(self, call: Call) -> Response:
        profile, body = call.own_profile(call.number()), await call.body()
        if profile.status == "paused":
            raise Refusal(409, "CONFLICT", "The profile is paused.")
        ttl = body.get("ttl", 86_400)
        if type(ttl) is not int or not 300 <= ttl <= 604_800:
            raise Refusal(422, "VALIDATION_ERROR", "ttl is between 300 and 604800 seconds.", {"fields": ["ttl"]})
        platforms = _platforms(body.get("platforms"))
        link = self.world.mint(
            call.workspace.name,
            platforms[0],
            profile=profile.id,
            return_url=_return_url(body.get("return_url")),
            choices=platforms if len(platforms) > 1 else (),
            life=timedelta(seconds=ttl),
        )
        facts = {"connect_url": self.page(link), "expires_at": stamp(link.expires_at), "platforms": platforms}
        return call.bare(facts, 201)


class Call:
    """One request: who asks, whether they may, and how it is answered."""

    def __init__(self, api: Api, request: Request) -> None:
        self.api, self.world, self.request = api, api.world, request
        self.request_id = f"req_{secrets.token_hex(8)}"
        self.rate: dict[str, str] = {}
        self.key: Key | None = None

    def admit(self, scope: str | None) -> None:
        """Checks key, rate and scope, in the order in which the API does. Raises ``Refusal``."""
        self.key = key = self.world.keys.get(bearer(self.request.headers.get("authorization", "")))
        if key is None or key.revoked:
            raise Refusal(401, "INVALID_API_KEY", "Missing or invalid API key.")
        limit, left, reset = self.world.spend(self.workspace)
        self.rate = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, left)),
            "X-RateLimit-Reset": str(reset),
        }
        if left < 0:
            self.rate["Retry-After"] = str(max(1, reset - int(self.world.now().timestamp())))
            raise Refusal(429, "RATE_LIMIT_EXCEEDED", "Too many requests.")
        if scope is not None and scope not in key.scopes:
            raise Refusal(
                403, "INSUFFICIENT_SCOPE", f"API key lacks required scope: {scope}", {"required_scope": scope}
            )

    @property
    def workspace(self) -> Workspace:
        if self.key is None:
            raise Refusal(401, "UNAUTHORIZED", "Missing or invalid API key.")
        return self.world.workspaces[self.key.workspace]

    def profile(self) -> int | None:
        """The profile that the call acts in. Raises ``Refusal`` where it may not."""
        text = self.request.headers.get("x-profile-id")
        if text is None:
            return None
        if self.key is not None and "profiles:manage" not in self.key.scopes:
            scope = "profiles:manage"
            raise Refusal(
                403, "INSUFFICIENT_SCOPE", f"API key lacks required scope: {scope}", {"required_scope": scope}
            )
        profile = self.own_profile(int(text) if _NUMBER.fullmatch(text) else 0)
        if profile.status == "paused":
            raise Refusal(409, "CONFLICT", "The profile is paused.")
        return profile.id

    def own_profile(self, number: int) -> Profile:
        profile = self.world.profiles.get(number)
        if profile is None or profile.workspace != self.workspace.name or profile.status == "deleted":
            raise Refusal(404, "RESOURCE_NOT_FOUND", "Profile not found.")
        return profile

    def number(self) -> int:
        text = self.request.path_params["id"]
        if not _NUMBER.fullmatch(text):
            raise Refusal(404, "RESOURCE_NOT_FOUND", "Not found.")
        return int(text)

    def account(self) -> Account:
        account = self.world.accounts.get(self.number())
        if account is None or account.workspace != self.workspace.name or account.profile != self.profile():
            raise Refusal(404, "RESOURCE_NOT_FOUND", "Account not found.")
        return account

    def paging(self) -> tuple[int, int]:
        """``page`` from 1, ``per_page`` at most 100."""
        asked = self.request.query_params
        page, per_page = asked.get("page", "1"), asked.get("per_page", "20")
        are_numbers = _NUMBER.fullmatch(page) and _NUMBER.fullmatch(per_page)
        if not are_numbers or int(page) < 1 or not 1 <= int(per_page) <= 100:
            raise Refusal(422, "VALIDATION_ERROR", "page is from 1, per_page from 1 to 100.")
        return int(page), int(per_page)

    async def body(self) -> dict[str, Any]:
        raw = await self.request.body()
        try:
            found = orjson.loads(raw) if raw else {}
        except orjson.JSONDecodeError:
            raise Refusal(422, "VALIDATION_ERROR", "The body is not JSON.") from None
        if not isinstance(found, dict):
            raise Refusal(422, "VALIDATION_ERROR", "The body is no JSON object.")
        return found

    def meta(self) -> dict[str, Any]:
        return {"request_id": self.request_id, "timestamp": stamp(self.world.now())}

    def ok(self, data: Any, status: int = 200) -> Response:
        return self.bare({"success": True, "data": data, "meta": self.meta()}, status)

    def bare(self, body: Any, status: int = 200) -> Response:
        return Response(orjson.dumps(body), status, media_type="application/json")

    def refuse(self, refusal: Refusal) -> Response:
        error = {"code": refusal.code, "message": str(refusal), "details": refusal.details}
        return self.bare({"success": False, "error": error, "meta": self.meta()}, refusal.status)

    def stream(self, head: bytes, rows: Iterable[dict[str, object]], tail: bytes) -> Response:
        """An answer with any number of rows, made while it is sent."""
        meta = self.meta()

        async def parts() -> AsyncIterator[bytes]:
            yield head
            chunk: list[bytes] = []
            first = True
            for row in rows:
                chunk.append(orjson.dumps(row))
                if len(chunk) >= ROWS_AT_ONCE:
                    yield (b"" if first else b",") + b",".join(chunk)
                    chunk, first = [], False
            if chunk:
                yield (b"" if first else b",") + b",".join(chunk)
            yield tail + b',"meta":' + orjson.dumps(meta) + b"}"

        return StreamingResponse(parts(), media_type="application/json")

    def record(self, status: int | None, fault: str | None = None) -> dict[str, Any]:
        """``status`` is ``None`` where the caller got no answer."""
        return {
            "at": self.world.now().isoformat(),
            "method": self.request.method,
            "path": self.request.url.path,
            "workspace": self.key.workspace if self.key else None,
            "status": status,
            "request_id": self.request_id,
            "fault": fault,
        }


def bearer(header: str) -> str:
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


class FaultyApi:
    """Stands before the API and lets faults strike."""

    def __init__(self, app: ASGIApp, api: Api) -> None:
        self.app, self.api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        faults = self.api.faults
        if scope["type"] == "http" and scope["path"].startswith(PREFIX) and faults.active:
            call = Call(self.api, Request(scope))
            call.key = self.api.world.keys.get(bearer(call.request.headers.get("authorization", "")))
            fault = faults.strike(scope["path"], call.key.workspace if call.key else None)
            if fault is not None:
                if fault.kind not in ANSWERED_BY_API:
                    status = {"status": fault.status, "drop": None, "redirect": 302}.get(fault.kind, 200)
                    self.api.requests.append(call.record(status, fault.kind))
                await suffer(fault, self.app, scope, receive, send, call.meta())
                return
        await self.app(scope, receive, send)


def _wrong(message: str, field_name: str) -> Refusal:
    return Refusal(422, "VALIDATION_ERROR", message, {"fields": [field_name]})


def web_address(value: object) -> SplitResult | None:
    """The parts of an http or https address, or nothing."""
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return parts if parts.scheme in {"http", "https"} and parts.hostname else None


def _return_url(value: object) -> str | None:
    if value is not None and web_address(value) is None:
        raise _wrong("return_url is no web address.", "return_url")
    return None if value is None else str(value)


def _webhook_url(value: object) -> str:
    """The provider takes https only; this machine is allowed without."""
    parts = web_address(value)
    if parts is None or not (parts.scheme == "https" or parts.hostname in _LOOPBACK):
        raise _wrong("url must be https, or on this machine.", "url")
    return str(value)


def _webhook_events(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(event in EVENTS for event in value):
        raise _wrong("events must be names of the catalogue.", "events")
    return tuple(value)


def _platforms(value: object) -> tuple[str, ...]:
    """Those that a person can connect in a browser, where none are named."""
    if value is None:
        return tuple(name for name in PLATFORMS if name not in CREDENTIALS_ONLY)
    if not isinstance(value, list) or not value or not all(name in PLATFORMS for name in value):
        raise _wrong("platforms must be names of platforms.", "platforms")
    return tuple(value)


def _profile_name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 120:
        raise _wrong("name must have 1 to 120 characters.", "name")
    return value


def _external_id(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and len(value) <= 128):
        raise _wrong("external_id must be a text of at most 128 characters.", "external_id")
    return value


def _connected_row(account: Account) -> dict[str, Any]:
    return {
        "account_id": account.id,
        "name": account.name,
        "username": account.username,
        "platform": account.platform,
    }


def _webhook_row(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": list(endpoint.events),
        "status": endpoint.status,
        "last_triggered_at": stamp(endpoint.last_triggered_at),
        "created_at": stamp(endpoint.created_at),
    }


def _delivery_row(delivery: Delivery) -> dict[str, Any]:
    try:
        payload = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        payload = {}
    return {
        "id": delivery.id,
        "webhook_id": delivery.webhook_id,
        "event": delivery.event,
        "event_id": delivery.event_id,
        "status": delivery.status,
        "attempt": delivery.attempt,
        "response_code": delivery.response_code,
        "response_body": delivery.response_body,
        "payload": payload,
        "created_at": stamp(delivery.created_at),
        "delivered_at": stamp(delivery.delivered_at),
        "next_retry_at": stamp(delivery.next_retry_at),
    }


def _profile_row(profile: Profile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "workspace_id": profile.workspace_id,
        "name": profile.name,
        "external_id": profile.external_id,
        "status": profile.status,
        "paused_for_billing": False,
        "created_at": stamp(profile.created_at),
    }
