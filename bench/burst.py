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
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import uvloop
from figures import Circumstance, Figure, add_option, keep, show
from load import fire
from processes import CLIENT, HOST, free_port, on_core
from subject import LONGEST, MAIL, Daemon, daemon, database, sandbox, webhook
from titles import STORES

from healthd.demo.catchers import Caught, Inbox, MailCatcher

MINUTE = 60.0
STEPS = 60
"""Parts of the burst."""
SENDERS = 16
"""Connections of the provider's for one part."""
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
    """When, in seconds after the burst began, each stage was through; a stage has its figure's name."""

    expiries: int
    began: float = field(default_factory=time.perf_counter)
    at: dict[str, float] = field(default_factory=dict)

    def note(self, stage: str, *, reached: bool) -> None:
        if reached and stage not in self.at:
            self.at[stage] = time.perf_counter() - self.began
            print(f"  {self.at[stage]:7.1f} s  {stage.partition('.')[2]}", flush=True)

    @property
    def is_over(self) -> bool:
        return "burst.digested" in self.at or time.perf_counter() - self.began > LONGEST


async def expire(api: int, healthd: int, expiries: int) -> None:
    """So many accounts, evenly over a minute, one platform after the other; and a webhook for each, which is sent until
    it is taken. It is this program that sends them: the sandbox would need more than a minute. Both are ports.
    """
    loop = asyncio.get_running_loop()
    began, left, sent = loop.time(), expiries, []
    async with httpx2.AsyncClient(trust_env=False, timeout=LONGEST) as client:
        for step in range(STEPS):
            platform, count = PLATFORMS[step % len(PLATFORMS)], left // (STEPS - step)
            left -= count
            asked = {"count": count, "platform": platform, "webhook": False}
            answer = await client.post(f"http://{HOST}:{api}/_sandbox/expire", json=asked)
            sent.append(asyncio.create_task(tell(healthd, platform, answer.json()["ids"])))
            await asyncio.sleep(max(0.0, began + (step + 1) * MINUTE / STEPS - loop.time()))
    await asyncio.gather(*sent)


async def tell(healthd: int, platform: str, accounts: Sequence[int]) -> None:
    """The webhooks of these accounts."""
    told = [webhook("account.token_expired", one, platform=platform) for one in accounts]
    await fire(HOST, healthd, told, SENDERS, again_after=1.0)


async def watch(healthd: Daemon, course: Course) -> None:
    """Until all is digested."""
    number = course.expiries
    while not course.is_over:
        total = (await asyncio.to_thread(healthd.scrape)).total
        # One whose answer came too late was sent again, and is a duplicate.
        taken = sum(total("healthd_webhooks_total", outcome=outcome) for outcome in ("accepted", "duplicate"))
        course.note("burst.acknowledged", reached=taken >= number)
        read = total("healthd_webhook_events_total") >= number and not total("healthd_inbox_webhooks", status="new")
        course.note("burst.understood", reached="burst.acknowledged" in course.at and read)
        opened = total("healthd_incidents_opened_total") >= number
        course.note("burst.incidents_open", reached=opened)
        waiting = total("healthd_outbox_oldest_due_seconds") > 0 or total("healthd_outbox_notices", status="sending")
        course.note("burst.digested", reached=opened and "burst.understood" in course.at and not waiting)
        await asyncio.sleep(1)


def told(messages: list[Caught], at: Mapping[str, Circumstance]) -> list[Figure]:
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


async def burst(healthd: Daemon, api: int, mail: int, course: Course, at: Mapping[str, Circumstance]) -> list[Figure]:
    """Everything expires, and is digested; mail goes to that port."""
    inbox = Inbox()
    server = await MailCatcher(inbox).serve(HOST, mail)
    used = healthd.running.cpu_seconds
    await asyncio.gather(expire(api, healthd.public, course.expiries), watch(healthd, course))
    used = healthd.running.cpu_seconds - used
    refused = (await asyncio.to_thread(healthd.scrape)).total("healthd_webhooks_total", outcome="not_stored")
    server.close()
    return [
        *(Figure(stage, seconds, "s", "lower", "two minutes", 120, at) for stage, seconds in course.at.items()),
        Figure("burst.cpu", used, "s", "lower", "two minutes", 120, at, "what a core to itself would have taken"),
        Figure("burst.cpu_each", used / course.expiries * 1000, "ms", "lower", at=at),
        Figure("burst.told_to_come_again", refused, "webhooks", "lower", at=at),
        Figure("burst.peak_memory", healthd.running.peak_mb, "MB", "lower", at=at),
        *told(inbox.messages, at),
    ]


def main(expiries: int, accounts: int, gate: bool, store: str) -> list[Figure]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="healthd-bench-")))
        stack.enter_context(on_core(CLIENT))
        base = stack.enter_context(database(store, folder))
        mail, public = free_port(), free_port()
        _, api = stack.enter_context(sandbox(folder, accounts, webhook=public, rate_limit=None))
        more = SETTINGS + ("" if gate else NO_GATE) + MAIL.format(host=HOST, port=mail) + routes()
        healthd = stack.enter_context(
            daemon(
                folder, store=base.url, provider=api, public=public, rate_share=0.5, level="info", more=more
            )
        )  # fmt: skip
        healthd.until_known(accounts)
        print(f"{store}, {expiries} of {accounts} accounts expire in a minute, {'a gate' if gate else 'no gate'}:")
        course = Course(expiries)
        at: dict[str, Circumstance] = {
            "accounts": accounts,
            "expiries": expiries,
            "store": store,
            "gate": "on" if gate else "off",
        }
        figures = uvloop.run(burst(healthd, api, mail, course, at))
        show(figures)
        if "burst.digested" not in course.at:
            raise TimeoutError(f"the burst was not digested within {LONGEST:.0f} s")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expiries", type=int, default=50_000)
    parser.add_argument("--accounts", type=int, default=200_000)
    parser.add_argument("--no-gate", action="store_true", help="without the gate for mass failures")
    parser.add_argument("--store", choices=tuple(STORES), default="sqlite")
    add_option(parser)
    chosen = parser.parse_args()
    keep(chosen.json, main(chosen.expiries, chosen.accounts, not chosen.no_gate, chosen.store))
