"""An HTTP listener that a slow or silent peer cannot hold open.

uvicorn has no deadline for a request, and its httptools protocol no limit on the header's size; both are added here. A
deadline is for a whole header or body, not per byte, so dripping does not help.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_LIMIT = 32 * 1024
"""Bytes of a request's header; more is answered 431."""
BACKLOG = 2048

_log = logging.getLogger("healthd.listener")
# uvicorn warns of every malformed request, which would let anybody fill the log.
_log.setLevel(logging.ERROR)

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class CannotListen(OSError):
    """The address is taken, or is not this machine's."""


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline and a size for each request's header, and a deadline for its body."""

    header_timeout: ClassVar[timedelta] = timedelta(seconds=10)
    body_timeout: ClassVar[timedelta] = timedelta(seconds=15)
    _within: float | None = None
    """Seconds for what is awaited now; the timer for it runs only where one read has not brought all of it."""
    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _read = 0
    """Bytes that the latest read brought, and whether the request began in it."""
    _began_in_it = False
    _in_header = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.logger = _log
        super().connection_made(transport)
        self._expect_within(self.header_timeout)
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._read, self._began_in_it = len(data), False
        if self._in_header:
            if self._within is None:
                self._expect_within(self.header_timeout)
            self._header_bytes += len(data)
        super().data_received(data)
        # Counted after parsing: one read may carry a whole header and the first part of its body.
        if self._in_header and self._header_bytes > HEADER_LIMIT:
            self._refuse(_TOO_LARGE)
        self._watch()

    def on_message_begin(self) -> None:
        self._began_in_it = True
        # A pipelined request may begin at the end of a read, and nothing may follow it.
        if self._within is None:
            self._expect_within(self.header_timeout)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are dropped: nothing here reads them, and there may be any number.
        if self._in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        can_be_too_large = self._read > HEADER_LIMIT or not self._began_in_it
        if can_be_too_large and self._header_length() > HEADER_LIMIT:
            self._refuse(_TOO_LARGE)
            return
        self._in_header = False
        self._expect_within(self.body_timeout)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.cycle is not None:
            super().on_message_complete()
        # The next request on this connection starts its own header; until its first byte, keep-alive rules.
        self._in_header, self._header_bytes = True, 0
        self._expect_nothing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def _header_length(self) -> int:
        return sum(len(name) + len(value) for name, value in self.headers) + len(self.url)

    def _expect_within(self, span: timedelta) -> None:
        self._expect_nothing()
        self._within = span.total_seconds()

    def _watch(self) -> None:
        if self._within is not None and self._deadline is None:
            self._deadline = self.loop.call_later(self._within, self._refuse, _TOO_SLOW)

    def _expect_nothing(self) -> None:
        self._within = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, answer: bytes) -> None:
        """Ends the connection, with this answer unless it would be taken for that to an earlier request."""
        self._expect_nothing()
        if self.transport.is_closing():
            return
        if self._in_header:
            unanswered = self.cycle is None or self.cycle.response_complete
        else:
            unanswered = not self.cycle.response_started and not self.pipeline
        if unanswered:
            self.transport.write(answer)
        self.transport.close()


def deadline_protocol(header_timeout: timedelta, body_timeout: timedelta) -> type[DeadlineProtocol]:
    """The protocol with these deadlines, as a class: uvicorn makes the instances and hands over nothing of ours."""
    return type(
        "DeadlineProtocol", (DeadlineProtocol,), {"header_timeout": header_timeout, "body_timeout": body_timeout}
    )


def bind(host: str, port: int) -> socket.socket:
    """Takes the address; connections wait until a ``Listener`` accepts them. Raises ``CannotListen``, where uvicorn
    itself would end the process.
    """
    try:
        bound = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)
        raise CannotListen(f"cannot listen on {host}:{port}: {reason}") from None
    bound.setblocking(False)
    return bound


class Listener(uvicorn.Server):
    """One uvicorn server inside the daemon's own loop, on a socket that is bound, leaving signals to the daemon.

    ``run_until_exit`` accepts connections until ``should_exit`` is set, then ends those that are left.
    """

    bound: socket.socket
    accepting: asyncio.Event

    @classmethod
    def of(
        cls,
        app: ASGIApp,
        bound: socket.socket,
        *,
        header_timeout: timedelta,
        body_timeout: timedelta,
        max_connections: int,
        drain_timeout: timedelta,
        trusted_proxies: tuple[str, ...] = (),
    ) -> Listener:
        made = cls(
            uvicorn.Config(
                app,
                # Half as long again: an application that has a deadline of its own speaks first.
                http=deadline_protocol(header_timeout, body_timeout * 1.5),
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
                backlog=BACKLOG,
            )
        )
        made.bound, made.accepting = bound, asyncio.Event()
        return made

    async def run_until_exit(self) -> None:
        await self.serve(sockets=[self.bound])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()
