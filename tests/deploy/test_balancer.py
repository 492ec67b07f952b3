"""The balancer before three replicas, as it is shipped: a real Caddy, and replicas that only say what they heard."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from tests.deploy.shipped import DEPLOY
from tests.loopback import free_port

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("caddy") is None, reason="needs Caddy, and loopback addresses of one's own"
)
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
PUBLIC = ("/webhooks/acme", "/r/abc", "/slack/actions/team", "/bounces/ses", "/robots.txt")


@dataclass
class Replica:
    """What a replica has heard at its public listener, and what its private one says."""

    ready: bool = True
    heard: list[tuple[str, str]] = field(default_factory=list)

    def public(self, path: str, asked_for: str) -> int:
        self.heard.append((path, asked_for))
        return 202

    def private(self, path: str, _: str) -> int:
        return 200 if path != "/readyz" or self.ready else 503


@contextmanager
def listening(address: str, port: int, answer: Callable[[str, str], int]) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer(self.path, self.headers.get("X-Forwarded-For", "")))
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    server = ThreadingHTTPServer((address, port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Place:
    url: str
    operators: str
    replicas: list[Replica]
    http: httpx2.AsyncClient

    async def post(self, path: str, **headers: str) -> int:
        return (await self.http.post(f"{self.url}{path}", headers=headers)).status_code


@asynccontextmanager
async def balanced(folder: Path, **environ: str) -> AsyncIterator[Place]:
    ports = {"8080": free_port(), "9090": free_port()}
    url, operators = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    for name in ("Caddyfile.replicas", "Caddyfile.private"):
        text = (DEPLOY / "compose" / name).read_text("utf-8").replace("\n:9090 {", f"\n{operators} {{")
        for number, address in enumerate(ADDRESSES, 1):
            for port, own in ports.items():
                text = text.replace(f"healthd-{number}:{port}", f"{address}:{own}")
        text = text.replace("health_port 9090", f"health_port {ports['9090']}")
        (folder / name).write_text(text, "utf-8")
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\nimport Caddyfile.replicas\n", "utf-8")
    replicas = [Replica() for _ in ADDRESSES]
    with contextlib.ExitStack() as stack:
        for address, replica in zip(ADDRESSES, replicas, strict=True):
            stack.enter_context(listening(address, ports["8080"], replica.public))
            stack.enter_context(listening(address, ports["9090"], replica.private))
        log = stack.enter_context((folder / "log").open("wb"))
        process = await asyncio.create_subprocess_exec(
            "caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile"),
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "SITE": url, **environ}, cwd=folder,
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
                place = Place(url, operators, replicas, http)
                await until(lambda: _answers(place))
                for replica in replicas:
                    replica.heard.clear()
                yield place
        finally:
            process.kill()
            await process.wait()


async def _answers(place: Place) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return await place.post(PUBLIC[0]) == 202
    return False


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.1)


async def test_what_is_public_is_shared_out_and_nothing_else_is_passed_on(tmp_path: Path) -> None:
    async with balanced(tmp_path) as place:
        assert {await place.post(path) for path in PUBLIC * 6} == {202}
        for path in ("/", "/metrics", "/api/v1/accounts", "/readyz", "/webhooks", "/sign-in"):
            assert await place.post(path) == 404
        heard = Counter(path for replica in place.replicas for path, _ in replica.heard)
        assert heard == dict.fromkeys(PUBLIC, 6)
        assert all(replica.heard for replica in place.replicas)
        assert (await place.http.get(f"{place.operators}/accounts")).status_code == 200


async def test_a_replica_that_is_not_ready_gets_nothing_until_it_is_ready_again(tmp_path: Path) -> None:
    async with balanced(tmp_path) as place:
        lame, *others = place.replicas

        async def is_left_alone() -> bool:
            lame.heard.clear()
            assert {await place.post(PUBLIC[0]) for _ in range(12)} == {202}
            return not lame.heard

        async def is_asked() -> bool:
            return not await is_left_alone()

        lame.ready = False
        await until(is_left_alone)
        assert all(other.heard for other in others)
        lame.ready = True
        await until(is_asked)


async def test_while_nobody_is_ready_people_hear_that_it_will_pass(tmp_path: Path) -> None:
    async with balanced(tmp_path) as place:
        for replica in place.replicas:
            replica.ready = False

        async def is_away() -> bool:
            return await place.post(PUBLIC[0]) == 503

        await until(is_away)
        answer = await place.http.get(f"{place.url}/r/abc")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert "work again soon" in answer.text


@pytest.mark.parametrize(
    ("believed", "told"),
    {"": "127.0.0.1", "private_ranges": "203.0.113.7, 127.0.0.1"}.items(),
    ids=["a proxy that all can reach", "a balancer behind a proxy"],
)
async def test_whoever_asks_says_for_whom_only_where_it_is_believed(believed: str, told: str, tmp_path: Path) -> None:
    environ = {"BELIEVED": believed} if believed else {"BELIEVED": "192.0.2.1/32"}
    async with balanced(tmp_path, **environ) as place:
        await place.post(PUBLIC[0], **{"x-forwarded-for": "203.0.113.7"})
        [(_, asked_for)] = itertools.chain.from_iterable(replica.heard for replica in place.replicas)
        assert asked_for == told
