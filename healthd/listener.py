"""An HTTP listener that a slow or silent peer cannot hold open.

uvicorn has no deadline for a request's header, and its httptools protocol no limit on the header's size; both are added
here. The deadline is for the whole header, not per byte, so dripping does not help.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_LIMIT = 32 * 1024
"""Bytes of a request's header; more is answered 431."""

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline and a size for each request's header."""

    header_timeout: ClassVar[timedelta] = timedelta(seconds=10)
    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_header = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_header()

    def data_received(self, data: bytes) -> None:
        if self._in_header:
            if self._deadline is None:
                self._await_header()
            self._header_bytes += len(data)
        super().data_received(data)
        # Counted after parsing: one read may carry a whole header and the first part of its body.
        if self._in_header and self._header_bytes > HEADER_LIMIT:
            self._refuse(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._header_arrived()
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > HEADER_LIMIT:
            self._refuse(_TOO_LARGE)
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self.cycle is not None:
            super().on_message_complete()
        # The next request on this connection starts its own header; until its first byte, keep-alive rules.
        self._in_header, self._header_bytes = True, 0

    def on_body(self, body: bytes) -> None:
        if self.cycle is not None:
            super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_arrived()
        super().connection_lost(exc)

    def _await_header(self) -> None:
        self._deadline = self.loop.call_later(self.header_timeout.total_seconds(), self._refuse, _TOO_SLOW)

    def _header_arrived(self) -> None:
        self._in_header = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, answer: bytes) -> None:
        self._header_arrived()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def deadline_protocol(header_timeout: timedelta) -> type[DeadlineProtocol]:
    """The protocol with this deadline, as a class: uvicorn makes the instances and hands over nothing of ours."""
    return type("DeadlineProtocol", (DeadlineProtocol,), {"header_timeout": header_timeout})


class Listener(uvicorn.Server):
    """One uvicorn server inside the daemon's own loop, which handles the signals itself."""

    @classmethod
    def of(
        cls,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        header_timeout: timedelta,
        max_connections: int,
        drain_timeout: timedelta,
        trusted_proxies: tuple[str, ...] = (),
    ) -> Listener:
        return cls(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=deadline_protocol(header_timeout),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(trusted_proxies),
                forwarded_allow_ips=list(trusted_proxies),
                limit_concurrency=max_connections,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=max(1, int(drain_timeout.total_seconds() * 0.6)),
                backlog=2048,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def port(self) -> int:
        """The port that was bound, which differs from the one asked for where that was 0."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    async def wait_started(self, task: asyncio.Task[None]) -> None:
        """Returns once the listener accepts connections. Raises ``OSError`` when it could not."""
        while not self.started:
            if task.done():
                raise OSError(f"cannot listen on {self.config.host}:{self.config.port}; is another process there?")
            await asyncio.sleep(0.005)
