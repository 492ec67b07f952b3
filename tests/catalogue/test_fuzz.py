"""Any bytes at all at the public listener. `HEALTHD_FUZZ_EXAMPLES=20000` tries for as long as a night has.

The header and the body of a webhook by themselves are tried in `tests/providers/test_webhook_signature.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import socket
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from healthd import logs
from healthd.listener import HEADER_LIMIT
from healthd.sandbox.sender import signature
from tests.daemon.conftest import settled
from tests.daemon.rig import HOST, PATIENCE, WEBHOOK_SECRET, Rig, rig
from tests.daemon.test_receiver import event
from tests.logs.kept import logging_kept

EXAMPLES = int(os.environ.get("HEALTHD_FUZZ_EXAMPLES", "150"))
DEADLINE = 0.1
"""Seconds for a header and for a body: what is not finished is cut off soon, or the examples would take for ever."""

SIGNED = [event("comment.received"), event(), b"", b"\xff\0", b"[" * 5000]
"""Bodies that may come with a good signature; nothing else may be kept."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def _header(body: bytes, at: int) -> bytes:
    return b"X-SmartlyQ-Signature: " + signature(WEBHOOK_SECRET, body, at).encode()


_lines = st.sampled_from(
    [
        b"Host: h", b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: websocket",
        b"Content-Length: 2", b"Content-Length: 99", b"Content-Length: -1", b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, gzip", b"Expect: 100-continue",
        b"Cookie: pressed=1", b"X-SmartlyQ-Signature: t=1,v1=00", b"x-smartlyq-signature: \xe9", b" folded",
        b"No colon", b": no name",
        b"Content-Encoding: gzip", b"Range: bytes=0-0", b"Sec-Fetch-Site: cross-site", b"X: " + b"y" * HEADER_LIMIT,
    ]
) | st.binary(max_size=40)  # fmt: skip
_targets = st.sampled_from(
    [
        b"/webhooks/sandbox", b"/webhooks/", b"/webhooks/%00", b"/r/x", b"/r/%ff%fe", b"/r/static/../x", b"*", b"/",
        b"http://evil.example/webhooks/sandbox", b"//", b"/robots.txt", b"/r/" + b"a" * 70 + b"/state", b"/%",
    ]
) | st.binary(max_size=20)  # fmt: skip
_starts = st.tuples(
    st.sampled_from([b"POST", b"GET", b"HEAD", b"PUT", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"post", b""]),
    _targets,
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b"HTTP/1.1 x", b""]),
).map(b" ".join)
_bodies = st.sampled_from([b"", b"{}", b"2\r\nab\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"x" * 70_000]) | st.binary(
    max_size=60
)


@st.composite
def _near_requests(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]))
    head = end.join([draw(_starts), *draw(st.lists(_lines, max_size=6))])
    return head + end * 2 + draw(_bodies)


@st.composite
def _signed_requests(draw: st.DrawFn) -> bytes:
    """Well made, with ``@`` where the signature goes; then perhaps damaged."""
    body = draw(st.sampled_from(SIGNED))
    number = SIGNED.index(body)
    extra = draw(st.lists(_lines, max_size=2))
    head = [b"POST /webhooks/sandbox HTTP/1.1", b"Host: h", b"@%d" % number, b"Content-Length: %d" % len(body), *extra]
    made = b"\r\n".join(head) + b"\r\n\r\n" + body
    if draw(st.booleans()):
        at = draw(st.integers(0, len(made)))
        made = made[:at] + draw(st.binary(max_size=3)) + made[at + draw(st.integers(0, 3)) :]
    return made


_said = st.one_of(st.binary(max_size=200), _near_requests(), _signed_requests())
_examples = st.tuples(st.lists(_said, min_size=1, max_size=2), st.lists(st.integers(1, 400), max_size=2))


class _Errors(logging.Handler):
    """What the log says that should not be there."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.found.append(f"{record.name}: {record.getMessage()} {record.exc_info}")


def _converse(port: int, said: bytes, cuts: list[int]) -> bytes:
    """Says it in pieces and hears what comes back: the other side must speak or hang up by itself, and must hang up
    once this side has nothing more to say.
    """
    edges = [0, *sorted(cut for cut in cuts if cut < len(said)), len(said)]
    with socket.create_connection((HOST, port), timeout=PATIENCE) as peer:
        heard = b""
        with contextlib.suppress(ConnectionError):
            for start, end in itertools.pairwise(edges):
                peer.sendall(said[start:end])
            heard = more = peer.recv(65536)
            if more:
                with contextlib.suppress(OSError):  # the other side was faster
                    peer.shutdown(socket.SHUT_WR)
            while more:
                more = peer.recv(65536)
                heard += more
        return heard


def _try_everything(scene: Rig, errors: _Errors) -> None:
    port, at = scene.ports["public"], int(scene.now().timestamp())

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(_examples)
    def any_bytes(example: tuple[list[bytes], list[int]]) -> None:
        parts, cuts = example
        said = b"".join(parts)
        for number, body in enumerate(SIGNED):
            said = said.replace(b"@%d\r\n" % number, _header(body, at) + b"\r\n")
        answers = _STATUS.findall(_converse(port, said, cuts))
        assert [status for status in answers if not 100 <= int(status) < 500] == []
        assert errors.found == []

    any_bytes()


async def test_whatever_is_said_to_the_public_listener_it_answers_or_hangs_up_and_goes_on(tmp_path: Path) -> None:
    errors = _Errors()
    with logging_kept():
        logs.configure("debug", "json")
        logging.getLogger().addHandler(errors)
        async with rig(tmp_path) as scene:
            scene.settings["server"] = (
                f'listen = "{HOST}:{scene.ports["public"]}"\nadmin_listen = "{HOST}:{scene.ports["admin"]}"\n'
                f'header_timeout = "{DEADLINE}s"\nbody_timeout = "{DEADLINE}s"'
            )
            await scene.start()
            await settled(scene)
            await asyncio.to_thread(_try_everything, scene, errors)
            livez = await scene.http.get(f"{scene.admin}/livez")
            assert livez.status_code == 200
            await scene.until_drained()

            def kept(connection: Connection) -> list[bytes]:
                return list(connection.execute(text("select body from inbox")).scalars())

            stored = await scene.store.read(kept)
            assert set(stored) <= set(SIGNED)
            assert stored, "none of the well-signed requests came through: the examples are not what they should be"
            assert await scene.metric("healthd_jobs_failed_total") == 0
    assert errors.found == []
