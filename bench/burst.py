"""What becomes of tens of thousands of accounts that expire within a minute: how long it takes, and who gets what mail.

    python bench/burst.py [--expiries 50000] [--accounts 200000] [--no-gate] [--store postgresql] [--json FILE]

They expire over a minute, and a signed webhook tells of each; the API keeps to its published rate limit. Digested is
the burst once every webhook is acknowledged and seen to, every account's incident is open, and no message waits that
could go out. Each platform has a person of its own, and there is one operator. The gate for mass failures stands as it
does by default: people are not asked, and the operator is. ``--no-gate`` shows what they would get without it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import uvloop
from daemon import MAIL, Daemon, Process, cores, daemon, database, sandbox
from figures import Figure, add_option, keep, show
from load import fire
from processes import HOST, free_port
from webhooks import signed

from healthd.demo.catchers import Caught, Inbox, MailCatcher

MINUTE = 60.0
STEPS = 60
"""Parts of the burst."""
SENDERS = 16
"""Connections of the provider's for one part."""
LONGEST = 600.0
"""Seconds after which the bench gives up."""
PLATFORMS = (
    "facebook", "instagram", "twitter", "linkedin", "youtube", "tiktok", "threads", "bluesky",
    "pinterest", "reddit", "snapchat", "tumblr", "gmb", "discord", "telegram", "whatsapp",
)  # fmt: skip
OPERATOR = "operator@bench.example"
SETTINGS = f"""
[notices]
operator = ["mail:{OPERATOR}"]
default = ["mail:team@bench.example"]
"""
NO_GATE = "[storm]\nleast = 1_000_000\n"


def routes() -> str:
    """A person for each platform."""
    return "".join(f'[[routes]]\nplatform = ["{one}"]\nto = ["mail:{one}@bench.example"]\n' for one in PLATFORMS)


@dataclass
class Course:
    """When, in seconds after the burst began, each stage was through."""

    expiries: int
    began: float = field(default_factory=time.perf_counter)
    at: dict[str, float] = field(default_factory=dict)

    def note(self, stage: str, *, reached: bool) -> None:
        if reached and stage not in self.at:
            self.at[stage] = time.perf_counter() - self.began
            print(f"  {self.at[stage]:7.1f} s  {stage}", flush=True)

    @property
    def is_over(self) -> bool:
        return "digested" in self.at or time.perf_counter() - self.began > LONGEST


async def until_seen(healthd: Daemon, accounts: int) -> None:
    """The daemon knows every account, and what it is like."""
    for _ in range(int(LONGEST)):
        known = await healthd.total("healthd_accounts")
        if known >= accounts and await healthd.total("healthd_accounts", 'state="unknown"') == 0:
            return
        await asyncio.sleep(1)
    raise SystemExit("the daemon did not see all accounts")


async def expire(api: Process, healthd: Process, expiries: int) -> None:
    """So many accounts, evenly over a minute, one platform after the other; and a webhook for each, which is sent until
    it is taken. It is this program that sends them: the sandbox would need more than a minute.
    """
    loop = asyncio.get_running_loop()
    began, left, sent = loop.time(), expiries, []
    async with httpx2.AsyncClient(trust_env=False, timeout=LONGEST) as client:
        for step in range(STEPS):
            platform, count = PLATFORMS[step % len(PLATFORMS)], left // (STEPS - step)
            left -= count
            asked = {"count": count, "platform": platform, "webhook": False}
            answer = await client.post(f"http://{HOST}:{api.port}/_sandbox/expire", json=asked)
            sent.append(asyncio.create_task(tell(healthd, platform, answer.json()["ids"])))
            await asyncio.sleep(max(0.0, began + (step + 1) * MINUTE / STEPS - loop.time()))
    await asyncio.gather(*sent)


async def tell(healthd: Process, platform: str, accounts: Sequence[int]) -> None:
    """The webhooks of these accounts."""
    told = [signed("account.token_expired", one, platform=platform) for one in accounts]
    await fire(HOST, healthd.port, told, SENDERS, again_after=1.0)


async def watch(healthd: Daemon, course: Course) -> None:
    """Until all is digested."""
    number = course.expiries
    while not course.is_over:
        found = await healthd.metrics()

        def total(name: str, label: str = "", found: dict[str, float] = found) -> float:
            return sum(value for key, value in found.items() if key.partition("{")[0] == name and label in key)

        course.note("acknowledged", reached=total("healthd_webhooks_total", 'outcome="accepted"') >= number)
        read = total("healthd_webhook_events_total") >= number and not total("healthd_inbox_webhooks", 'status="new"')
        course.note("understood", reached="acknowledged" in course.at and read)
        opened = total("healthd_incidents_opened_total") >= number
        course.note("incidents open", reached=opened)
        waiting = total("healthd_outbox_oldest_due_seconds") > 0 or total("healthd_outbox_notices", 'status="sending"')
        course.note("digested", reached=opened and "understood" in course.at and not waiting)
        await asyncio.sleep(1)


def told(messages: list[Caught], at: dict[str, str | int]) -> list[Figure]:
    """How many messages the operator and the people got."""
    by_reader = Counter(one.to for one in messages)
    operator = by_reader.pop(OPERATOR, 0)
    for subject, number in Counter(re.sub("[0-9,]+", "#", one.subject) for one in messages).most_common(5):
        print(f"    {number} x {subject}")
    return [
        Figure("burst.messages_to_the_operator", operator, "messages", "lower", at=at),
        Figure("burst.messages_to_people", by_reader.total(), "messages", "lower", at=at),
        Figure("burst.most_to_one_person", max(by_reader.values(), default=0), "messages", "lower", at=at),
    ]


async def main(expiries: int, accounts: int, gate: bool, store: str) -> list[Figure]:
    os.sched_setaffinity(0, {cores()[1]})
    inbox, mail_port, port = Inbox(), free_port(), free_port()
    mail_server = await MailCatcher(inbox).serve(HOST, mail_port)
    with tempfile.TemporaryDirectory(prefix="healthd-bench-") as name:
        more = SETTINGS + ("" if gate else NO_GATE) + MAIL.format(host=HOST, port=mail_port) + routes()
        async with database(store, Path(name)) as url, sandbox(accounts, port) as api:
            base = f"http://{HOST}:{api.port}/v1"
            async with daemon(
                Path(name), url, port=port, api=base, key="sqk_test_bench", more=more, level="info"
            ) as healthd:
                await until_seen(healthd, accounts)
                print(
                    f"{store}, {expiries} of {accounts} accounts expire in a minute, {'a gate' if gate else 'no gate'}:"
                )
                used, course = healthd.process.cpu_seconds, Course(expiries)
                await asyncio.gather(expire(api, healthd.process, expiries), watch(healthd, course))
                used = healthd.process.cpu_seconds - used
                memory = healthd.process.peak_memory
                refused = await healthd.total("healthd_webhooks_total", 'outcome="not_stored"')
    mail_server.close()
    at: dict[str, str | int] = {
        "accounts": accounts,
        "expiries": expiries,
        "store": store,
        "gate": "on" if gate else "off",
    }
    figures = [
        Figure(f"burst.{stage.replace(' ', '_')}", seconds, "s", "lower", "two minutes", 120, at)
        for stage, seconds in course.at.items()
    ]
    figures += [
        Figure("burst.cpu", used, "s", "lower", "two minutes", 120, at, "what a core to itself would have taken"),
        Figure("burst.cpu_each", used / expiries * 1000, "ms", "lower", at=at),
        Figure("burst.told_to_come_again", refused, "webhooks", "lower", at=at),
        Figure("burst.peak_memory", memory, "MB", "lower", at=at),
        *told(inbox.messages, at),
    ]
    show(figures)
    if "digested" not in course.at:
        raise SystemExit("the burst was not digested in time")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expiries", type=int, default=50_000)
    parser.add_argument("--accounts", type=int, default=200_000)
    parser.add_argument("--no-gate", action="store_true", help="without the gate for mass failures")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    add_option(parser)
    chosen = parser.parse_args()
    keep(chosen.json, uvloop.run(main(chosen.expiries, chosen.accounts, not chosen.no_gate, chosen.store)))
