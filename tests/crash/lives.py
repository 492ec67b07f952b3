"""One daemon's several lives between the same surroundings, and what can be said of them afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import httpx2
import orjson
from aiosmtpd.smtp import SMTP

from healthd.demo.catchers import Inbox, MailCatcher
from healthd.sandbox.world import Account
from tests.crash import mortal
from tests.daemon.rig import HOST, PATIENCE, Rig, rig
from tests.processes import Process

HAND_OVER = "Email.send"
RECORD = "outbox.Outbox._record"


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the trace; ``life`` is the process that wrote it."""

    life: int
    name: str
    number: int
    moment: str
    about: str


class Letters(MailCatcher):
    """A mail server that also keeps each message as it came over the wire."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(inbox)
        self.by_identity: dict[str, list[bytes]] = {}

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> Any:  # noqa: N802 - aiosmtpd's name
        identity = str(BytesHeaderParser().parsebytes(envelope.content)["Message-ID"])
        self.by_identity.setdefault(identity, []).append(envelope.content)
        return await super().handle_DATA(server, session, envelope)

    def about(self, words: str) -> dict[str, list[bytes]]:
        """By identity, the messages whose subject holds these words."""
        wanted = {caught.identity for caught in self.inbox.find(words)}
        return {identity: copies for identity, copies in self.by_identity.items() if identity in wanted}


@dataclass
class Stage:
    """The surroundings that outlive every daemon."""

    scene: Rig
    letters: Letters

    @property
    def trace(self) -> list[Step]:
        path = self.scene.folder / "trace"
        lines = path.read_text().splitlines() if path.exists() else []
        words = (line.split(" ") for line in lines)
        return [Step(int(life), name, int(number), moment, about) for life, name, number, moment, about in words]

    def rows(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(f"file:{self.scene.folder / 'healthd.db'}?mode=ro", uri=True)) as base:
            return base.execute(query).fetchall()

    def value(self, query: str) -> Any:
        return self.rows(query)[0][0]

    def truth(self) -> dict[str, str]:
        """What the provider would say of each account."""
        accounts = self.scene.sandbox.world.accounts.values()
        return {str(one.id): "expired" if one.broken else "healthy" for one in accounts}

    def believed(self) -> dict[str, str]:
        return dict(self.rows("select ref, state from accounts"))

    def name_accounts(self) -> None:
        """Each a name of its own, by which its messages are found."""
        for number, account in enumerate(self.scene.sandbox.world.accounts.values()):
            account.name = f"Shop {number:04}"

    async def until_quiet(self) -> None:
        """Nothing waits any more: neither at the provider nor in the inbox nor in the outbox, nor for a look."""
        deliveries = self.scene.sandbox.sender.deliveries.values()

        def quiet() -> bool:
            return (
                all(delivery.status == "delivered" for delivery in deliveries)
                and self.value("select count(*) from inbox where status = 'new'") == 0
                and self.value(
                    "select count(*) from notices where status = 'sending' or status = 'pending' and kind != 'reminder'"
                )
                == 0
                and self.believed() == self.truth()
            )

        await self.scene.until(quiet, "quiet")

    async def until_swept(self) -> None:
        """The newest life has ended its first round of looking at everything."""

        def swept() -> bool:
            steps = self.trace
            names = {step.name for step in steps if step.life == steps[-1].life and step.moment == "after"}
            return {"profiles.mark_bulk", "profiles.mark_inventory"} <= names

        await self.scene.until(swept, "the first sweep")

    def excused(self) -> Counter[str]:
        """By notice, how often it was on its way in a life that ended before it was on record."""
        begun = {(step.life, step.about) for step in self.trace if step.name == HAND_OVER and step.moment == "before"}
        recorded = {(step.life, step.about) for step in self.trace if step.name == RECORD and step.moment == "after"}
        return Counter(notice for _, notice in begun - recorded)

    def check_letters(self) -> int:
        """Every copy is the first one byte for byte, and there are no more of them than kills in the window between
        hand-over and record explain. Returns how many repeats there were.
        """
        excused = self.excused()
        repeats = 0
        for identity, copies in self.letters.by_identity.items():
            assert set(copies) == {copies[0]}, f"{identity} was not repeated as it was"
            allowed = sum(times for notice, times in excused.items() if notice in identity)
            assert len(copies) - 1 <= allowed, f"{identity} came {len(copies)} times, and only {allowed} are excused"
            repeats += len(copies) - 1
        return repeats


@asynccontextmanager
async def stage(folder: Path, *, accounts: int = 4, **settings: str) -> AsyncIterator[Stage]:
    options = {"accounts": accounts, "time_scale": 300.0}
    # Looking after the webhook would add calls at moments of its own; the pages take time to load, and nobody looks.
    bare = {"each_workspace": 'webhooks = "off"', "access": "pages = false"}
    async with rig(folder, options=options, **bare | settings) as scene:
        letters = Letters(scene.inbox)
        async with scene.without_mail():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: SMTP(letters, loop=loop), HOST, scene.ports["mail"])
            try:
                yield Stage(scene, letters)
            finally:
                server.close()


@dataclass
class Life:
    """A daemon from its start to its death."""

    scene: Rig
    process: Process
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8") if self.log_file.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (orjson.loads(line) for line in self.log.splitlines() if line.startswith("{") and line.endswith("}"))
        return [event for event in lines if event["event"] == name]

    async def until_ready(self) -> None:
        await self.scene.until(lambda: bool(self.events("healthd.ready")) or self.over, "readiness")
        assert self.events("healthd.ready"), f"ended with {self.process.returncode}: {self.log[-2000:]}"

    @property
    def over(self) -> bool:
        return self.process.returncode is not None

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def killed(self) -> None:
        """It has died where it was told to."""
        assert await self.ended() == -signal.SIGKILL, self.log[-2000:]


@asynccontextmanager
async def life(
    stage: Stage, *, kill: str = "", since: str = "", ready: bool = True, arguments: tuple[str, ...] = ("run",),
    **environment: str,
) -> AsyncIterator[Life]:  # fmt: skip
    """``healthd`` in a process of its own, killed at the end if it still lives."""
    scene = stage.scene
    log_file = scene.folder / f"life-{len(list(scene.folder.glob('life-*')))}.log"
    told = {
        "HEALTHD_LOG__FORMAT": "json",
        "MORTAL_TRACE": str(scene.folder / "trace"),
        "MORTAL_KILL": kill,
        "MORTAL_SINCE": since,
    }
    process = Process(
        mortal.main, [*arguments, "--config", str(scene.write_config())], folder=scene.folder,
        environ=os.environ | told | environment, output=log_file,
    )  # fmt: skip
    daemon = Life(scene, process, log_file)
    try:
        if ready:
            await daemon.until_ready()
        yield daemon
    finally:
        process.kill()
        await daemon.ended()


async def repair_by_link(scene: Rig, account: Account, link: str) -> None:
    """The person, who tries again when nobody answers."""
    while account.broken:
        with contextlib.suppress(httpx2.TransportError):
            await scene.person.reconnect(link)
        await asyncio.sleep(0.05)
