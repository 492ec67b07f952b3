"""How long it takes from a webhook to the message that it leads to, at a calm rate.

    python bench/latency.py [--webhooks 200] [--rate 4] [--store postgresql] [--json FILE]

Webhook, commit, state, the question to the API that confirms it, incident, message, hand-over: all real, on loopback.
The sandbox tells of an account that has expired; the clock stops when the mail server has the message about it. The
waits that gather several accounts into one message are switched off, since they are meant. The peer is a bare client
that sends one such mail to the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import ExitStack
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import httpx2
import uvloop
from figures import Figure, add_option, keep, show
from processes import CLIENT, HOST, PATIENCE, Running, free_port, on_core
from subject import MAIL, daemon, database, sandbox
from titles import STORES

from healthd.demo.catchers import Inbox, MailCatcher

SETTINGS = """
[notices]
default = ["mail:team@bench.example"]
group_wait = "0s"
group_interval = "0s"
[storm]
least = 1_000_000
"""


async def measure(api: int, inbox: Inbox, webhooks: int, rate: float) -> list[float]:
    """Milliseconds from each expiry to the message about it. ``api`` is the sandbox's port."""
    base = f"http://{HOST}:{api}/_sandbox"
    began: dict[str, float] = {}
    async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        accounts = (await client.get(f"{base}/accounts", params={"limit": webhooks})).json()
        for number, account in enumerate(accounts):
            name = f"Bench {number:06d}"
            await client.patch(f"{base}/accounts/{account['id']}", json={"name": name})
            began[name] = time.time()
            await client.post(f"{base}/accounts/{account['id']}/expire", json={})
            await asyncio.sleep(1 / rate)
    took = []
    for name, at in began.items():
        caught = await inbox.wait(name, way="mail", since=0, seconds=PATIENCE)
        if caught is None:
            raise TimeoutError(f"no message about {name}")
        took.append((caught.at - at) * 1000)
    return took


async def bare(port: int, number: int) -> list[float]:
    """Milliseconds of sending one mail, over a connection of its own."""
    took = []
    for one in range(number):
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "healthd@bench.example", "team@bench.example", f"bare {one}"
        mail.set_content("Nothing is broken.")
        started = time.perf_counter()
        await aiosmtplib.send(mail, hostname=HOST, port=port, start_tls=False)
        took.append((time.perf_counter() - started) * 1000)
    return took


async def compare(process: Running, api: int, mail: int, webhooks: int, rate: float, store: str) -> list[Figure]:
    """The daemon's way to the mail server that listens on that port, and the bare client's."""
    inbox = Inbox()
    server = await MailCatcher(inbox).serve(HOST, mail)
    used = process.cpu_seconds
    took = await measure(api, inbox, webhooks, rate)
    used = process.cpu_seconds - used
    peer = statistics.median(await bare(mail, min(webhooks, 100)))
    server.close()
    cuts, at = statistics.quantiles(took, n=100), {"store": store}
    return [
        Figure("latency.p50", cuts[49], "ms", "lower", "one mail of a bare client", peer, at),
        Figure("latency.p99", cuts[98], "ms", "lower", at=at),
        Figure(
            "latency.cpu_each", used / webhooks * 1000, "ms", "lower", at=at,
            note="of the daemon, with the checks of the accounts behind the same login",
        ),
    ]  # fmt: skip


def main(webhooks: int, rate: float, store: str) -> list[Figure]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="healthd-bench-")))
        stack.enter_context(on_core(CLIENT))
        base = stack.enter_context(database(store, folder))
        mail, public = free_port(), free_port()
        _, api = stack.enter_context(sandbox(folder, webhooks, webhook=public))
        more = SETTINGS + MAIL.format(host=HOST, port=mail)
        ours = stack.enter_context(daemon(folder, store=base.url, provider=api, public=public, more=more))
        ours.until_known(webhooks)
        print(f"{store}, {webhooks} webhooks, {rate} a second:")
        figures = uvloop.run(compare(ours.running, api, mail, webhooks, rate, store))
    show(figures)
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--webhooks", type=int, default=200)
    parser.add_argument("--rate", type=float, default=4.0, help="webhooks a second")
    parser.add_argument("--store", choices=tuple(STORES), default="sqlite")
    add_option(parser)
    chosen = parser.parse_args()
    keep(chosen.json, main(chosen.webhooks, chosen.rate, chosen.store))
