"""A sandbox on a real socket. Its clock stands still until a test moves it, so nothing depends on the hour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from healthd.sandbox.app import Sandbox, SandboxOptions, server_for
from healthd.sandbox.world import Account, World
from tests.sandbox.listener import PATIENCE

START = datetime(2026, 3, 1, 16, 0, tzinfo=UTC)
SECRET = "whsec_00112233445566778899aabbccddeeff"


@dataclass
class Scene:
    sandbox: Sandbox
    http: httpx2.AsyncClient
    key: str = "sqk_test_sandbox"

    @property
    def url(self) -> str:
        return self.sandbox.api.public_url

    @property
    def world(self) -> World:
        return self.sandbox.world

    def account(self, platform: str) -> Account:
        return next(account for account in self.world.accounts.values() if account.platform == platform)

    async def api(
        self, method: str, path: str, body: object = None, *, key: str | None = None, **headers: str
    ) -> httpx2.Response:
        """Asks the API; the names of headers are written with underscores."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        names["authorization"] = f"Bearer {self.key if key is None else key}"
        given: dict[str, Any] = {} if body is None else {"json": body}
        return await self.http.request(method, f"{self.url}/v1{path}", headers=names, **given)

    async def data(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The data of an answer that must be a good one."""
        answer = await self.api(method, path, body, **headers)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    async def control(self, method: str, path: str, body: object = None) -> httpx2.Response:
        given: dict[str, Any] = {} if body is None else {"json": body}
        return await self.http.request(method, f"{self.url}/_sandbox{path}", **given)

    async def do(self, path: str, /, **body: object) -> Any:
        """Wants something of the sandbox that must work."""
        answer = await self.control("POST", path, body)
        assert answer.is_success, answer.text
        return answer.json()

    async def advance(self, span: timedelta) -> None:
        await self.do("/clock", advance=span.total_seconds())

    async def until(self, said: Callable[[], Awaitable[bool] | bool], what: str = "it") -> None:
        """Waits until something has become true."""
        ends = asyncio.get_running_loop().time() + PATIENCE
        while True:
            found = said()
            if found if isinstance(found, bool) else await found:
                return
            assert asyncio.get_running_loop().time() < ends, f"{what} did not come true"
            await asyncio.sleep(0.005)


@asynccontextmanager
async def served(*, clock: Callable[[], datetime] | None = lambda: START, **options: Any) -> AsyncIterator[Scene]:
    """A sandbox with one account on each platform, unless told otherwise. ``clock=None`` lets time run."""
    chosen = SandboxOptions(**({"port": 0, "accounts": 16, "rate_limit": 100_000} | options))
    sandbox = Sandbox(chosen, World(clock) if clock else None)
    server = server_for(sandbox)
    # The server's own ways to run and to stop sleep for tenths of a second, which a hundred tests would feel.
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        async with httpx2.AsyncClient(timeout=PATIENCE, trust_env=False, verify=False) as http:
            yield Scene(sandbox, http)
    finally:
        for part in server.servers:
            part.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        await server.lifespan.shutdown()
        async with asyncio.timeout(PATIENCE):
            while server.server_state.connections or server.server_state.tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
