"""The API comes up when somebody first asks for it: it takes a third of a second and 10 MB, which most never need."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from healthd.desk import Desk
from healthd.engine import Engine
from healthd.metrics import AllowanceReading
from healthd.web.access import Access

ROOT = "/api/v1"


@dataclass
class Api:
    """As a route of the private listener. ``channels`` are the configured ones by name, each with what it has against
    an address, said by a ``ValueError``. ``on_built`` is told once it is there.
    """

    desk: Desk
    engine: Engine
    access: Access
    now: Callable[[], datetime]
    channels: Mapping[str, Callable[[str], None]]
    workspaces: Iterable[str]
    allowances: Callable[[], Mapping[str, AllowanceReading]]
    on_built: Callable[[], None] = lambda: None
    _built: asyncio.Future[ASGIApp] | None = field(default=None, init=False)

    def route(self) -> Mount:
        found = Mount(ROOT, app=self)
        # A line break in a path would be nobody's otherwise, and answered as if there were no API.
        found.path_regex = re.compile(found.path_regex.pattern, re.DOTALL)
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._built is None:
            self._built = asyncio.ensure_future(asyncio.to_thread(self._build))
        built = await asyncio.shield(self._built)
        await built(scope, receive, send)

    def _build(self) -> ASGIApp:
        """Beside the event loop: webhooks are heard meanwhile."""
        from healthd.api.app import build  # noqa: PLC0415 - this is what takes so long

        built = build(self)
        self.on_built()
        return built
