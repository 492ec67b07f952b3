"""The real daemon as a process of its own, between the rig's sandbox and mail server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson

from healthd import cli
from tests.daemon.rig import PATIENCE, Rig
from tests.processes import Process


@dataclass
class DaemonProcess:
    """``healthd run``; its log is read from a file, one JSON event a line."""

    scene: Rig
    process: Process
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8")

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (orjson.loads(line) for line in self.log.splitlines() if line.startswith("{") and line.endswith("}"))
        return [event for event in lines if event["event"] == name]

    async def until_logged(self, name: str) -> dict[str, Any]:
        await self.scene.until(lambda: bool(self.events(name)) or self.process.returncode is not None, name)
        found = self.events(name)
        assert found, f"no {name}; the process ended with {self.process.returncode}: {self.log[-2000:]}"
        return found[0]

    async def until_seen(self) -> None:
        """The first sweep has told every account's state."""
        count = len(self.scene.sandbox.world.accounts)

        async def seen() -> bool:
            return await self.scene.metric("healthd_accounts", state="healthy") == count

        await self.scene.until(seen, "the first sweep")

    async def ask(self, path: str) -> int:
        """The status of a page of the private listener."""
        return (await self.scene.http.get(self.scene.admin + path)).status_code

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@asynccontextmanager
async def daemon_process(scene: Rig, *, ready: bool = True, **environment: str) -> AsyncIterator[DaemonProcess]:
    """Starts the daemon with the rig's settings, and kills it at the end unless it has ended by then."""
    log_file = scene.folder / "run.log"
    log_file.touch()
    process = Process(
        cli.main, ["run", "--config", str(scene.write_config())], folder=Path.cwd(),
        environ=os.environ | {"HEALTHD_LOG__FORMAT": "json"} | environment, output=log_file,
    )  # fmt: skip
    made = DaemonProcess(scene, process, log_file)
    try:
        if ready:
            await made.until_logged("healthd.ready")
        yield made
    finally:
        process.kill()
        await process.wait()


async def refused_or(answer: Any) -> int | None:
    """An answer's status, or ``None`` where nobody listens any more."""
    try:
        return int((await answer).status_code)
    except httpx2.TransportError:
        return None
