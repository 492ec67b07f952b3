"""Sets the scene: the sandbox and the daemon as processes of their own, the catchers in this one."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from healthd.demo.catchers import Catchers, Inbox, MailCatcher, WebServer

WORKSPACE = "sandbox"
ACCOUNTS = 32
BULK_INTERVAL = 3.0
"""Seconds between two sweeps over everything: short, since nobody wants to wait for a minute in a demo."""
_USUAL_PORTS = {"sandbox": 8090, "inbox": 8091, "mail": 8025, "public": 8080, "admin": 9090}


class NotStarted(Exception):
    """A part of the demo did not come up; the message says which, and where its log is."""


@dataclass
class Stage:
    """Everything that runs, with its addresses."""

    folder: Path
    host: str
    ports: dict[str, int]
    inbox: Inbox
    http: httpx2.AsyncClient
    daemon: asyncio.subprocess.Process | None = None

    def url(self, part: str) -> str:
        return f"http://{self.host}:{self.ports[part]}"

    async def control(self, path: str, **body: Any) -> Any:
        """Asks the sandbox for something that only a sandbox can do."""
        answer = await self.http.post(f"{self.url('sandbox')}/_sandbox{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def look(self, path: str) -> Any:
        answer = await self.http.get(f"{self.url('sandbox')}/_sandbox{path}")
        answer.raise_for_status()
        return answer.json()

    async def heal_api(self) -> None:
        await self.http.delete(f"{self.url('sandbox')}/_sandbox/faults")

    async def count(self, metric: str, **labels: str) -> float:
        """The sum of a metric's series that carry these labels, from the daemon's own exposition."""
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

        text = (await self.http.get(f"{self.url('admin')}/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric and labels.items() <= sample.labels.items()
        )


def free_port(host: str, wished: int) -> int:
    """The wished port, or any other if somebody has it."""
    for port in (wished, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    raise NotStarted(f"no free port on {host}")


@asynccontextmanager
async def stage(host: str) -> AsyncIterator[Stage]:
    """Starts everything, and ends everything afterwards. Raises ``NotStarted``."""
    ports = {part: free_port(host, port) for part, port in _USUAL_PORTS.items()}
    with tempfile.TemporaryDirectory(prefix="healthd-demo-") as name:
        folder = Path(name)
        async with contextlib.AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(timeout=10, trust_env=False))
            scene = Stage(folder, host, ports, Inbox(), http)
            await _catch(stack, scene)
            secret = f"whsec_{secrets.token_hex(16)}"
            webhook = f"{scene.url('public')}/webhooks/{{workspace}}"
            await _process(
                stack, scene, "sandbox", "--host", host, "--port", str(ports["sandbox"]), "--accounts", str(ACCOUNTS),
                "--webhook", webhook, "--webhook-secret", secret, "--time-scale", "60", "--rate-limit", "1200",
            )  # fmt: skip
            await _answers(scene, "sandbox", f"{scene.url('sandbox')}/_sandbox/state")
            config = folder / "healthd.toml"
            config.write_text(_config(scene, secret), "utf-8")
            scene.daemon = await _process(stack, scene, "run", "--config", str(config))
            await _answers(scene, "run", f"{scene.url('admin')}/readyz")
            yield scene


async def _catch(stack: contextlib.AsyncExitStack, scene: Stage) -> None:
    catchers = Catchers(scene.url("sandbox"), scene.url("admin"))
    catchers.inbox = scene.inbox = catchers.inbox
    mail = await MailCatcher(scene.inbox).serve(scene.host, scene.ports["mail"])
    stack.callback(mail.close)
    web = WebServer(catchers.app, scene.host, scene.ports["inbox"])
    task = asyncio.create_task(web.serve())

    async def end() -> None:
        web.should_exit = True
        await task

    stack.push_async_callback(end)


async def _process(stack: contextlib.AsyncExitStack, scene: Stage, *words: str) -> asyncio.subprocess.Process:
    """Starts ``healthd WORDS``; its output goes into a file of the demo's folder."""
    log = stack.enter_context((scene.folder / f"{words[0]}.log").open("wb"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "healthd", *words, stdout=log, stderr=log, cwd=scene.folder, start_new_session=True
    )
    stack.push_async_callback(_end, process)
    return process


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), timeout=12)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _answers(scene: Stage, part: str, url: str, within: float = 20.0) -> None:
    """Returns once the part answers 200."""
    try:
        async with asyncio.timeout(within):
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    if (await scene.http.get(url)).status_code == 200:
                        return
                await asyncio.sleep(0.05)
    except TimeoutError:
        log = (scene.folder / f"{part}.log").read_text("utf-8", "replace")[-2000:]
        raise NotStarted(f"`healthd {part}` did not come up within {within:g} s. Its log ends:\n{log}") from None


def _config(scene: Stage, secret: str) -> str:
    """The daemon's settings, as anybody would write them."""
    ports, host = scene.ports, scene.host
    return f'''\
public_url = "{scene.url("public")}"

[server]
listen = "{host}:{ports["public"]}"
admin_listen = "{host}:{ports["admin"]}"

[store]
url = "sqlite:///{scene.folder / "healthd.db"}"

[link]
secrets = ["{secrets.token_urlsafe(32)}"]
allowed_hosts = ["{host}:{ports["sandbox"]}"]

[sweep]
bulk_interval = "{BULK_INTERVAL:g}s"
inventory_interval = "6s"
account_interval = "10m"

[workspaces.{WORKSPACE}]
api_key = "sqk_test_{WORKSPACE}"
base_url = "{scene.url("sandbox")}/v1"
webhook_secrets = ["{secret}"]

[channels.mail]
type = "email"
host = "{host}"
port = {ports["mail"]}
security = "none"
sender = "healthd <healthd@acme.example>"

[channels.slack]
type = "slack"
token = "xoxb-demo"
channel = "#social"
api_url = "{scene.url("inbox")}/slack/api/"

[notices]
default = ["mail:ada@acme.example", "slack"]
group_wait = "1s"
group_interval = "1s"

[[routes]]
platform = "youtube"
to = ["mail:video@acme.example"]

[[routes]]
platform = "gmb"
to = ["mail:video@acme.example"]
'''
