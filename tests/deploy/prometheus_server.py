"""A real Prometheus on loopback, with the settings that are shipped, and in a hurry."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.deploy.grafana import Asked
from tests.deploy.promtool import PROMETHEUS, RULES, load, program
from tests.loopback import free_port

SPAN = 60.0
"""Seconds that curves are asked for."""


@dataclass
class Server:
    """Answers are those of its API."""

    url: str
    http: httpx2.AsyncClient

    async def get(self, path: str, **parameters: str | float) -> dict[str, Any]:
        answer = (await self.http.get(f"{self.url}/api/v1/{path}", params=parameters)).json()
        assert answer["status"] == "success", answer
        data = answer["data"]
        assert isinstance(data, dict)
        return data

    async def value(self, expression: str) -> float:
        """The one value of an expression; 0 where there is none."""
        found = (await self.get("query", query=expression))["result"]
        return float(found[0]["value"][1]) if found else 0.0

    async def values(self, asked: Asked) -> list[float]:
        """All that a panel would draw."""
        if asked.instant:
            found = await self.get("query", query=asked.filled)
            return [float(series["value"][1]) for series in found["result"]]
        now = datetime.now(UTC).timestamp()
        found = await self.get("query_range", query=asked.filled, start=now - SPAN, end=now, step=1)
        return [float(value) for series in found["result"] for _, value in series["values"]]


@asynccontextmanager
async def prometheus(folder: Path, admin: str, http: httpx2.AsyncClient) -> AsyncIterator[Server]:
    """Scrapes the daemon with this private listener, and evaluates the rules, every second; at first after five."""
    address = f"127.0.0.1:{free_port()}"
    settings = load(PROMETHEUS / "prometheus.yml")
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["alerting"] = {}
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [admin.removeprefix("http://")]
    (folder / "rules").mkdir()
    for path in RULES:
        hurried = re.sub(r"^    interval: .*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
        (folder / "rules" / path.name).write_text(hurried, "utf-8")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings), "utf-8")
    process = await asyncio.create_subprocess_exec(
        program("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}", "--log.level=error",
    )  # fmt: skip
    server = Server(f"http://{address}", http)
    try:
        await _ready(server, process)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _ready(server: Server, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, "Prometheus ended by itself"
            with contextlib.suppress(httpx2.TransportError):
                if (await server.http.get(f"{server.url}/-/ready")).status_code == 200:
                    return
            await asyncio.sleep(0.1)
