"""``healthd`` as a process of its own, and what it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from healthd import cli
from tests.processes import Process

PATIENCE = 60.0


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def healthd(*words: str, folder: Path, **environ: str) -> Finished:
    """Runs the command to its end."""
    with TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        process = _start(words, folder, environ, out, err)
        try:
            code = await asyncio.wait_for(process.wait(), PATIENCE)
        finally:
            await _end(process)
        return _finished(code, out, err)


def _finished(code: int, out: Path, err: Path) -> Finished:
    return Finished(code, out.read_text("utf-8"), err.read_text("utf-8"))


@asynccontextmanager
async def running(*words: str, folder: Path, output: Path) -> AsyncIterator[Process]:
    """Runs the command until the block ends, then sends SIGTERM. All that it says goes into one file."""
    process = _start(words, folder, {}, output, output)
    try:
        yield process
    finally:
        await _end(process)


def _start(words: tuple[str, ...], folder: Path, environ: dict[str, str], output: Path, errors: Path) -> Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEALTHD_")}
    return Process(cli.main, words, folder=folder, environ=kept | environ, output=output, errors=errors)


async def _end(process: Process) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 15)
    process.kill()
    await process.wait()
