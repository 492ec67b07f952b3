"""Puts the sandbox together and serves it."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from healthd.sandbox.api import Api, FaultyApi
from healthd.sandbox.control import Control, seeded
from healthd.sandbox.faults import AbortableProtocol, Faults
from healthd.sandbox.pages import Pages
from healthd.sandbox.sender import Sender
from healthd.sandbox.world import World

OF_ACCOUNTS = (
    "account.token_expired", "account.disconnected", "account.connected", "post.failed", "post.partial", "key.revoked",
)  # fmt: skip
"""The events that say how an account, or the key to it, fares."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """``accounts`` are spread over all platforms, in each of the ``workspaces``, and over so many ``profiles``, where
    that is not 0. ``webhook_url`` is registered for every workspace with ``webhook_secret``; ``{workspace}`` in it is
    replaced. Port 0 takes any that is free.
    """

    host: str = "127.0.0.1"
    port: int = 8090
    public_url: str | None = None
    workspaces: tuple[str, ...] = ("sandbox",)
    accounts: int = 32
    profiles: int = 0
    webhook_url: str | None = None
    webhook_secret: str | None = None
    time_scale: float = 1.0
    rate_limit: int | None = None
    latency: float = 0.0
    seed: int | None = None


class Sandbox:
    """One sandbox; ``app`` is what a server runs. Its parts are there for tests in the same process."""

    def __init__(self, options: SandboxOptions, world: World | None = None) -> None:
        self.options = options
        self.world = world or World()
        self.sender = Sender(self.world, options.time_scale)
        self.faults = Faults(seeded(options.seed))
        self.api = Api(self.world, self.sender, self.faults, "", options.latency)
        self.listens_on(options.port)
        self._populate()
        pages, control = Pages(self.api), Control(self.api)
        self.app = Starlette(
            routes=[*self.api.routes(), *control.routes(), *pages.routes()],
            middleware=[Middleware(FaultyApi, api=self.api)],
            lifespan=self._lifespan,
        )

    def listens_on(self, port: int) -> None:
        """The address that links carry, unless one was given."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        self.api.public_url = (self.options.public_url or f"http://{host}:{port}").rstrip("/")

    def _populate(self) -> None:
        options = self.options
        for name in options.workspaces:
            workspace = self.world.add_workspace(name)
            workspace.limit = options.rate_limit
            self.world.fill(name, options.accounts, options.profiles)
            if options.webhook_url:
                url = options.webhook_url.replace("{workspace}", name)
                self.sender.register(name, url, OF_ACCOUNTS, options.webhook_secret)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self.sender.close()


class Server(uvicorn.Server):
    """A server that tells when it is there, and on which port."""

    def __init__(self, config: uvicorn.Config, sandbox: Sandbox) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._sandbox = sandbox

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._sandbox.listens_on(self.port)
            self.ready.set()

    @property
    def port(self) -> int:
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


def server_for(sandbox: Sandbox) -> Server:
    return Server(
        uvicorn.Config(
            sandbox.app,
            host=sandbox.options.host,
            port=sandbox.options.port,
            http=AbortableProtocol,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        ),
        sandbox,
    )


def serve(options: SandboxOptions, announce: Callable[[Sandbox], None]) -> None:
    """Runs a sandbox until it is interrupted."""
    gc.disable()  # a million accounts are looked through at each collection, and none of them is garbage
    sandbox = Sandbox(options)
    gc.freeze()
    gc.enable()

    async def run() -> None:
        server = server_for(sandbox)
        serving = asyncio.create_task(server.serve())
        ready = asyncio.create_task(server.ready.wait())
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if server.started:
            announce(sandbox)
        ready.cancel()
        await serving

    asyncio.run(run())
