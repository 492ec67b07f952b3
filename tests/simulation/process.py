"""The daemon without its sockets, in a process that can be killed at any commit and comes up again on the same disk."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx2
from sqlalchemy import Connection
from starlette.types import ASGIApp

from healthd.app import Daemon
from healthd.channels.base import Channel
from healthd.config import Settings
from healthd.core.contacts import Contact
from healthd.engine import Change
from healthd.store import contacts, migrations, profiles
from healthd.store.database import Store, Turn

A_YEAR = timedelta(days=365)
P = ParamSpec("P")
T = TypeVar("T")

Fate = str
"""``"before"`` or ``"after"`` a commit, or ``""`` to live on."""

_INSIDE: ContextVar[Process | None] = ContextVar("process", default=None)


class Killed(BaseException):
    """SIGKILL: no handler of the daemon's may catch it, and nothing that it does afterwards reaches the disk."""


class MortalStore(Store):
    """The real store; each of its commits may be the last thing that the process did, or did not do."""

    def __init__(self, url: str, process: Process) -> None:
        super().__init__(url)
        self._process = process

    async def _write(
        self, turn: Turn, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self._process.breathe()
        fate = self._process.fate()
        if fate == "before":
            self._process.die(f"before {_name(fn)}")
        result = await super()._write(turn, fn, *args, **kwargs)
        self._process.committed(_changes(result))
        if fate == "after":
            self._process.die(f"after {_name(fn)}")
        return result

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._process.breathe()
        return await super().read(fn, *args, **kwargs)


class Process:
    """``up`` while it lives; a new one is made for each start."""

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], datetime],
        fate: Callable[[], Fate],
        committed: Callable[[Iterable[Change]], None],
        channels: dict[str, Channel],
        to_provider: httpx2.AsyncBaseTransport,
        chance: random.Random,
        people: Sequence[Contact] = (),
    ) -> None:
        self.settings = settings
        self.now = now
        self.fate = fate
        self.committed = committed
        self._channels = channels
        self._to_provider = to_provider
        self._chance = chance
        self._people = people
        self._tasks: set[asyncio.Task[Any]] = set()
        self.died = asyncio.Event()
        self.why = ""
        self.app: ASGIApp | None = None
        self.daemon: Daemon | None = None
        self.store: MortalStore | None = None

    @property
    def up(self) -> bool:
        return self.app is not None and not self.died.is_set()

    def breathe(self) -> None:
        if self.died.is_set():
            raise Killed(self.why)

    def die(self, why: str) -> None:
        """Ends everything here and now. Raises ``Killed``."""
        self.why = why
        self.died.set()
        raise Killed(why)

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that lives and dies with the process, and so does whatever it starts."""
        token = _INSIDE.set(self)
        try:
            return asyncio.get_running_loop().create_task(coroutine)
        finally:
            _INSIDE.reset(token)

    async def start(self) -> None:
        """What the daemon does at its start, but for the sockets."""
        await self.spawn(self._start())

    async def _start(self) -> None:
        self.store = MortalStore(self.settings.store.url, self)
        await self.store.run(migrations.upgrade)
        await self.store.run(profiles.ensure_own, list(self.settings.workspaces))
        await self.store.run(contacts.put, self._people, contacts.FILE, self.now())
        daemon = self.daemon = Daemon(self.settings, self.now)
        daemon._wire(self.store)
        # Nothing but the process itself writes to its store here: it need not look whether somebody else did.
        daemon.sweep.policy = replace(daemon.sweep.policy, longest_rest=A_YEAR)
        daemon.outbox.longest_rest = A_YEAR
        daemon.channels = daemon.outbox.channels = self._channels
        daemon.engine.rng.seed(self._chance.random())
        for workspace in daemon.workspaces.values():
            provider: Any = workspace.provider
            provider._rng.seed(self._chance.random())
            workspace.rng.seed(self._chance.random())
            provider._client = httpx2.AsyncClient(
                transport=self._to_provider, headers={"authorization": f"Bearer {provider._api_key}"}
            )
        self.spawn(daemon._drain_inbox())
        self.spawn(daemon.outbox.run())
        daemon.sweep.start()
        daemon._inbox.set()
        self.app = daemon.public_application()

    async def end(self) -> None:
        """After death: nothing of it goes on."""
        self.died.set()
        self.app = None
        if self.daemon is not None:
            with contextlib.suppress(Exception):
                self.daemon.sweep._scheduler.shutdown(wait=False)
        while self._tasks:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.store is not None:
            await self.store.close()

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class InProcess(httpx2.AsyncBaseTransport):
    """The way to an app in this process. ``httpx2`` has one too; it searches for a library at every single call."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url, body = request.url, await request.aread()
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw], "scheme": url.scheme,
            "path": url.path, "raw_path": url.raw_path.split(b"?")[0], "query_string": url.query,
            "server": (url.host, url.port), "client": ("127.0.0.1", 123), "root_path": "",
        }  # fmt: skip
        asked, answered = False, asyncio.Event()
        head: dict[str, Any] = {}
        parts: list[bytes] = []

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await answered.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                answered.set()

        await self._app(scope, receive, send)
        return httpx2.Response(head["status"], headers=head["headers"], content=b"".join(parts))


class ToDaemon(httpx2.AsyncBaseTransport):
    """The way to the daemon's public side, for the provider's webhooks and for people's browsers."""

    def __init__(self, process: Callable[[], Process | None]) -> None:
        self._process = process

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        process = self._process()
        if process is None or not process.up or process.app is None:
            raise httpx2.ConnectError("nobody listens")
        inside = process.spawn(InProcess(process.app).handle_async_request(request))
        try:
            return await inside
        except (asyncio.CancelledError, Killed):
            if process.up:
                raise
            raise httpx2.RemoteProtocolError("the connection was cut") from None


def own_tasks(loop: asyncio.AbstractEventLoop, coroutine: Any, context: Any = None) -> asyncio.Task[Any]:
    """The loop's task factory: whatever a process starts is known to it, and dies with it."""
    task = asyncio.Task(coroutine, loop=loop, context=context)
    inside = _INSIDE.get()
    if inside is not None:
        inside.adopt(task)
    return task


def _changes(result: object) -> list[Change]:
    found = result[0] if isinstance(result, tuple) and result else result
    return [entry for entry in found if isinstance(entry, Change)] if isinstance(found, list) else []


def _name(fn: Callable[..., Awaitable[Any] | Any]) -> str:
    return getattr(fn, "__qualname__", type(fn).__name__)
