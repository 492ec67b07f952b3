"""The API as the daemon builds it, asked in the test's own process, over a real store and a provider on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from sqlalchemy import Connection
from starlette.applications import Starlette

from healthd.api.late import ROOT, Api
from healthd.app import build_engine, build_links, build_workspaces
from healthd.config import Settings, load
from healthd.core.contacts import Contact
from healthd.core.model import NoticeKind, NoticeStatus, State, Target
from healthd.core.owners import Owned
from healthd.desk import Desk
from healthd.metrics import AllowanceReading, Metrics
from healthd.store import access, contacts, notices, profiles, storms, troubles
from healthd.store.database import Store
from healthd.store.notices import Holding
from healthd.store.storms import Storm
from healthd.store.troubles import Trouble
from healthd.web.access import Access
from tests.fresh_store import fresh_store
from tests.loopback import Answer, Asked, answer, serving
from tests.store.rows import ADA, DAY, HOUR, MINUTE, NOON, add_account, add_incident, add_notice

T = TypeVar("T")
TOKENS = {role: f"{role}-" + role[0] * 32 for role in ("viewer", "operator", "admin")}
BOB = Target("sms", "+491701234567")
CONFIG = """
public_url = "http://127.0.0.1:8080"
[server]
admin_listen = "127.0.0.1:9090"
[store]
url = "{store}"
[link]
secrets = ["a-secret-that-signs-links-in-the-tests"]
[notices]
default = ["mail:ops@acme.example"]
[channels.mail]
type = "email"
host = "127.0.0.1"
security = "none"
sender = "healthd@acme.example"
[channels.sms]
type = "apprise"
url = "json://127.0.0.1:9/{{address}}"
[workspaces.acme]
api_key = "sqk_test_acme"
webhook_secrets = ["whsec_00112233445566778899aabbccddeeff"]
base_url = "http://{provider}/v1"
rate_share = 1.0
"""


def answers_well(asked: Asked) -> Answer:
    """The provider does as it is asked."""
    data = {"reconnect_url": "https://app.smartlyq.com/connect/once"} if asked.method == "GET" else {}
    meta = {"request_id": "req_1", "timestamp": "2026-03-01T13:00:00Z"}
    return answer(200, {"success": True, "data": data, "meta": meta})


@dataclass
class Clock:
    at: datetime = NOON + HOUR

    def now(self) -> datetime:
        return self.at


@dataclass
class Place:
    """``said`` is how the provider answers; ``asked`` what it was asked."""

    app: Starlette
    store: Store
    desk: Desk
    settings: Settings
    clock: Clock
    woken: list[str]
    ids: dict[str, int] = field(default_factory=dict)
    said: Callable[[Asked], Answer] = answers_well
    asked: list[Asked] = field(default_factory=list)

    @asynccontextmanager
    async def client(self, role: str | None = "operator", **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
        if role is not None:
            headers["authorization"] = f"Bearer {TOKENS[role]}"
        transport = httpx2.ASGITransport(app=self.app, client=("127.0.0.1", 4711))
        base = f"http://127.0.0.1:9090{ROOT}"
        async with httpx2.AsyncClient(transport=transport, base_url=base, headers=headers) as http:
            yield http

    async def get(self, path: str, role: str | None = "operator", **headers: str) -> httpx2.Response:
        return await self.ask("GET", path, role, **headers)

    async def post(self, path: str, body: Any = None, role: str | None = "operator", **headers: str) -> httpx2.Response:
        return await self.ask("POST", path, role, body, **headers)

    async def ask(
        self, method: str, path: str, role: str | None = "operator", body: Any = None, **headers: str
    ) -> httpx2.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client(role) as http:
            if isinstance(body, bytes):
                return await http.request(method, path, content=body, headers=sent)
            return await http.request(method, path, json=body, headers=sent)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        return await self.store.read(fn)

    def incident(self, name: str = "expired") -> str:
        return f"i{self.ids[name]}"


@asynccontextmanager
async def place(folder: Path, *, tokens: bool = True, seed: bool = True) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        found: list[Place] = []

        def respond(asked: Asked) -> Answer:
            found[0].asked.append(asked)
            return found[0].said(asked)

        provider = await stack.enter_async_context(serving(respond))
        text = CONFIG.format(store=fresh_store(folder / "healthd.db"), provider=provider)
        if tokens:
            text += "".join(f'[access.tokens.{r}]\nrole = "{r}"\ntoken = "{t}"\n' for r, t in TOKENS.items())
        path = folder / "healthd.toml"
        path.write_text(text, "utf-8")
        made = await _built(stack, load(path, {}))
        found.append(made)
        if seed:
            made.ids = await made.store.run(fill)
        yield made


async def _built(stack: AsyncExitStack, settings: Settings) -> Place:
    store = Store(settings.store.url)
    stack.push_async_callback(store.close)
    engine, clock, woken = build_engine(settings), Clock(), list[str]()
    workspaces = build_workspaces(settings, Metrics("test"), store, clock.now)
    for workspace in workspaces.values():
        await stack.enter_async_context(workspace.provider.session())
        stack.push_async_callback(workspace.allowance.close)
    providers = {name: one.provider for name, one in workspaces.items()}
    desk = Desk(
        store,
        engine.dispatch,
        providers,
        build_links(settings),
        clock.now,
        woken.append,
        lambda: woken.append("outbox"),
    )
    readings = {"acme": AllowanceReading(600, 300, 7, {})}
    api = Api(
        desk,
        engine,
        Access(settings, store, clock.now),
        clock.now,
        settings.address_checks(),
        settings.workspaces,
        lambda: readings,
    )
    return Place(Starlette(routes=[api.route()]), store, desk, settings, clock, woken)


def fill(connection: Connection) -> dict[str, int]:
    """Some of everything. Returns the ids of accounts by what they are there for."""
    profiles.ensure_own(connection, ["acme"])
    profiles.mark_bulk(connection, "acme", "", NOON)
    ids = {}
    for number, (name, facts) in enumerate(ACCOUNTS.items(), 1):
        known = {"name": f"The {name} one", "changed_at": NOON + number * MINUTE, **facts}
        stored = add_account(connection, str(number), **known)
        ids[name] = stored.id
        if facts.get("state") in {State.EXPIRED, State.DISCONNECTED}:
            about = add_incident(connection, stored, opened_at=NOON + number * MINUTE)
            told = {"incident_id": about.id, "contact": "ada", "family": "acme//meta", "why": "route 1"}
            add_notice(connection, stored, about.id, **told)
            add_notice(connection, stored, about.id, target=BOB, **told | {"contact": "bob"})
    _settle(connection)
    stormy = f"i{ids['stormy']}"
    storms.begin(connection, STORM, NOON + DAY)
    storms.join(connection, [(STORM.id, stormy)], NOON)
    notices.hold_storm(connection, Holding("storm", STORM.id, "many broke at once"))
    troubles.begin(
        connection,
        Trouble("t1", "acme", "unauthorized", "bulk", NOON, "The key is refused.", "Put a valid one in."),
    )
    people = [Contact("ada", "Ada Lovelace", (ADA,)), Contact("bob", "Bob", (BOB,))]
    contacts.put(connection, people, contacts.API, NOON)
    contacts.assign(connection, [Owned("acme", "workspace", "", (("ada",), ("bob",)))], contacts.API, NOON)
    contacts.mark_bad(connection, Target("mail", "gone@acme.example"), NOON, "no such user", "dsn")
    access.note_audit(connection, NOON, "cli:root", "token.create", "token:ada")
    return ids


ACCOUNTS: Mapping[str, dict[str, Any]] = {
    "healthy": {"state": State.HEALTHY},
    "expired": {"state": State.EXPIRED},
    "disconnected": {"state": State.DISCONNECTED, "platform": "instagram"},
    "stormy": {"state": State.EXPIRED},
    "paused": {"state": State.HEALTHY, "paused": True, "platform": "youtube"},
    "muted": {"state": State.HEALTHY, "muted_until": NOON + DAY},
    "other": {"state": State.UNKNOWN, "workspace": "elsewhere", "profile": "p7", "username": "@other"},
}
STORM = Storm("acme-facebook-1", "acme", "facebook", NOON, NOON, NOON + HOUR, 1, 9)


def _settle(connection: Connection) -> None:
    """Of the account that was disconnected, one message was sent and the other given up."""
    sent, dead = (
        notices.get(connection, notices.notice_id("i3", target, NoticeKind.OPENED, 0)) for target in (ADA, BOB)
    )
    assert sent is not None
    assert dead is not None
    notices.keep_content(connection, [sent], {"subject": "Reconnect", "text": "Dear Ada <ada@acme.example>"}, NOON)
    notices.settle(connection, [sent], NoticeStatus.SENT, receipt={"id": "m1"}, sent_at=NOON)
    notices.settle(connection, [dead], NoticeStatus.DEAD, reason="sms: no such number")
