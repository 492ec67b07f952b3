"""``healthd`` as anybody runs it: a process of its own, and what it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    process = await _start(words, folder, environ, asyncio.subprocess.PIPE)
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        await _end(process)
    return Finished(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def running(*words: str, folder: Path, output: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs the command until the block ends, then sends SIGTERM. All that it says goes into one file."""
    with output.open("ab") as file:
        process = await _start(words, folder, {}, file)
    try:
        yield process
    finally:
        await _end(process)


async def _start(
    words: tuple[str, ...], folder: Path, environ: dict[str, str], output: Any
) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEALTHD_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "healthd", *words, cwd=folder, env=kept | environ, stdout=output, stderr=output
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 15)
    if process.returncode is None:
        process.kill()
        await process.wait()
