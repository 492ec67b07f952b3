"""The story: what breaks, who notices, who is told, who repairs it; and whether every promise in it was kept."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from healthd.demo.person import Person
from healthd.demo.stage import ACCOUNTS, BULK_INTERVAL, WORKSPACE, NotStarted, Stage, stage

HEARD_WITHIN = 4.0
"""Seconds from a token's end to the mail, where the webhook arrives: the one for which messages gather is among them,
and the machine may be busy with other things. What it took is told in any case.
"""
FOUND_WITHIN = BULK_INTERVAL + 2.0
"""Seconds to the mail where only a sweep can notice."""
REPAIRED_WITHIN = 12.0
"""Seconds from consent to the page that says so: the first look after a click comes within 5."""

console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 110)


@dataclass(frozen=True, slots=True)
class Line:
    """One promise: when it was tried, how long it took, and whether it was kept."""

    at: float
    what: str
    took: float
    kept: bool
    detail: str = ""


@dataclass
class Play:
    """The stage, the one person on it, and what has happened so far."""

    scene: Stage
    person: Person
    began: float = field(default_factory=time.monotonic)
    lines: list[Line] = field(default_factory=list)

    def note(self, what: str, started: float, kept: bool, detail: str = "") -> bool:
        now = time.monotonic()
        line = Line(now - self.began, what, now - started, kept, detail)
        self.lines.append(line)
        console.print(
            f"[dim]{line.at:6.1f} s[/]  {'✓' if kept else '[red]✗[/]'}  {escape(what)}  [dim]{escape(detail)}[/]"
        )
        return kept

    async def account(self, platform: str, number: int = 0) -> dict[str, Any]:
        found = await self.scene.look(f"/accounts?platform={platform}")
        account: dict[str, Any] = found[number]
        return account

    async def break_(self, account: dict[str, Any], what: str = "expire", **how: Any) -> int:
        """Lets an account break; returns the number of the newest message before."""
        before = self.scene.inbox.newest
        await self.scene.control(f"/accounts/{account['id']}/{what}", **how)
        return before

    async def mail_about(self, account: dict[str, Any], since: int, seconds: float, words: str = "") -> Any:
        found = await self.scene.inbox.wait(account["name"], way="mail", since=since, seconds=seconds)
        return found if found is not None and words in found.subject else None

    def told(self, account: dict[str, Any], since: int = 0, way: str = "mail") -> int:
        return len(self.scene.inbox.find(account["name"], way=way, since=since))


async def first_look(play: Play) -> None:
    started = time.monotonic()
    seen = 0.0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while seen < ACCOUNTS:
                seen = await play.scene.count("healthd_accounts", state="healthy")
                await asyncio.sleep(0.1)
    play.note(f"the first sweep sees {ACCOUNTS} healthy accounts", started, seen == ACCOUNTS, f"{seen:.0f} seen")


async def heard(play: Play) -> None:
    account = await play.account("facebook")
    started = time.monotonic()
    since = await play.break_(account)
    mail = await play.mail_about(account, since, HEARD_WITHIN)
    play.note("a token expires, its webhook arrives: Ada has a mail", started, mail is not None, account["name"])
    slack = await play.scene.inbox.wait(account["name"], way="slack", since=since, seconds=HEARD_WITHIN)
    play.note("and the team has a message in Slack", started, slack is not None)


async def found(play: Play) -> None:
    account = await play.account("instagram")
    started = time.monotonic()
    since = await play.break_(account, webhook=False)
    mail = await play.mail_about(account, since, FOUND_WITHIN)
    play.note("a token expires, its webhook is lost: the sweep finds it", started, mail is not None, account["name"])


async def said_five_times(play: Play) -> None:
    account = await play.account("linkedin")
    started = time.monotonic()
    since = await play.break_(account, duplicates=4, event_id="evt_demo_repeated")
    await play.scene.control(
        "/events",
        event="account.connected",
        data={"account_id": account["id"], "platform": account["platform"], "account_name": account["name"]},
        created_at="2026-01-01T00:00:00Z",
    )
    await play.mail_about(account, since, HEARD_WITHIN)
    await asyncio.sleep(1.0)
    mails = play.told(account, since)
    play.note("an event comes five times, out of order: one mail", started, mails == 1, f"{mails} mail")


async def cannot_look(play: Play) -> None:
    account = await play.account("twitter")
    since, started = play.scene.inbox.newest, time.monotonic()
    healthy = await play.scene.count("healthd_accounts", state="healthy")
    for kind in ("status", "garbage", "html", "wrong_shape"):
        await play.scene.heal_api()
        await play.scene.control("/faults", kind=kind, status=500)
        await asyncio.sleep(BULK_INTERVAL * 0.6)
    still = await play.scene.count("healthd_accounts", state="healthy")
    kept = play.scene.inbox.newest == since and still == healthy
    play.note(
        "the API answers 500, garbage, HTML: nobody is told, no state moves", started, kept, f"{still:.0f} healthy"
    )
    await play.scene.control(
        "/events",
        event="account.token_expired",
        data={"account_id": account["id"], "platform": "twitter", "account_name": account["name"], "reason": "?"},
    )
    await asyncio.sleep(0.5)
    await play.scene.heal_api()
    await asyncio.sleep(0.5)
    started = time.monotonic()
    cleared = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(40):
            while not cleared:
                cleared = await play.scene.count("healthd_accounts", state="suspect") == 0
                await asyncio.sleep(0.2)
    kept = cleared and play.told(account, since) == 0
    play.note("a false alarm is cleared silently once the API can be asked", started, kept, account["name"])


async def robots_and_a_person(play: Play) -> None:
    account = await play.account("facebook")
    mail = play.scene.inbox.find(account["name"], way="mail")[0]
    link, started = mail.link or "", time.monotonic()
    minted = (await play.scene.look("/state"))["links"]["minted"]
    for method in ("GET", "HEAD") * 5:
        await play.scene.http.request(method, link, headers={"user-agent": "LinkScanner/1.0"})
    after = (await play.scene.look("/state"))["links"]["minted"]
    play.note("ten robots open the link in the mail: nothing happens", started, after == minted)
    robot = await play.person.press(await play.person.open(link))
    play.note("an eleventh presses the button: it costs one link", started, robot.status == 200)
    since, started = play.scene.inbox.newest, time.monotonic()
    done = await play.person.reconnect(link)
    play.note("Ada opens the same link, approves", started, "Connected" in done.text, account["name"])
    started = time.monotonic()
    page = await play.person.watch(link, "repaired", REPAIRED_WITHIN)
    play.note("the open page says by itself that it is repaired", started, page)
    fixed = await play.mail_about(account, since, HEARD_WITHIN, "connected again")
    kept = fixed is not None and fixed.thread == mail.identity
    play.note("a mail in the same thread says that it is fixed", started, kept)
    await asyncio.sleep(0.5)
    slack = [caught for caught in play.scene.inbox.messages if caught.way == "slack" and caught.edited]
    play.note("the message in Slack was edited: fixed", started, bool(slack))


async def the_wrong_account(play: Play) -> None:
    account = await play.account("threads")
    mail = await play.mail_about(account, await play.break_(account), HEARD_WITHIN)
    link, started = (mail.link if mail else None) or "", time.monotonic()
    await play.person.reconnect(link, "other")
    told = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REPAIRED_WITHIN):
            while not told:
                told = "another account" in (await play.person.open(link)).text
                await asyncio.sleep(0.3)
    play.note("Ada chooses the wrong account: the page tells her so", started, told, account["name"])
    started = time.monotonic()
    await play.person.reconnect(link)
    kept = await play.person.watch(link, "repaired", REPAIRED_WITHIN)
    play.note("she chooses the right one: repaired", started, kept)


async def one_login(play: Play) -> None:
    first, second = await play.account("youtube"), await play.account("gmb")
    since = await play.break_(first)
    await play.break_(second)
    mail = await play.mail_about(first, since, HEARD_WITHIN)
    also = await play.mail_about(second, since, HEARD_WITHIN)
    started = time.monotonic()
    kept = mail is not None and also is not None and mail.identity == also.identity
    kept = kept and mail.to == "video@acme.example"
    play.note("two accounts behind one Google login break: one mail, to their own route", started, kept)
    if mail is None or mail.link is None:
        return
    since = play.scene.inbox.newest
    await play.person.reconnect(mail.link)
    both = [await play.mail_about(one, since, REPAIRED_WITHIN, "connected again") for one in (first, second)]
    play.note("one consent repairs both, and both are known to be fixed", started, all(both))


async def deleted(play: Play) -> None:
    account = await play.account("linkedin")
    started = time.monotonic()
    since = await play.break_(account, "delete")
    gone = 0.0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            while not gone:
                gone = await play.scene.count("healthd_incidents_resolved_total", how="removed")
                await asyncio.sleep(0.2)
    kept = gone == 1 and play.told(account, since) == 0
    play.note("an account with an incident is deleted: closed, nobody is nagged", started, kept, account["name"])


async def stopped(play: Play) -> None:
    daemon, started = play.scene.daemon, time.monotonic()
    if daemon is not None:
        daemon.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(daemon.wait(), timeout=10)
    code = None if daemon is None else daemon.returncode
    log = (play.scene.folder / "run.log").read_text("utf-8", "replace")
    clean = "Traceback" not in log and "sqk_test" not in log and "/r/" not in log and "whsec" not in log
    play.note("SIGTERM: it drains and ends; its log holds no secret and no traceback", started, code == 0 and clean)


CHAPTERS: tuple[Callable[[Play], Awaitable[None]], ...] = (
    first_look,
    heard,
    found,
    said_five_times,
    cannot_look,
    robots_and_a_person,
    the_wrong_account,
    one_login,
    deleted,
    stopped,
)


async def play(*, once: bool, host: str) -> int:
    """Plays the story. Returns the process's exit code: 0 only if every promise in it was kept."""
    try:
        async with stage(host) as scene:
            _announce(scene)
            the_play = Play(scene, Person(scene.http))
            if once:
                await perform(the_play, CHAPTERS)
                return _verdict(the_play)
            await _by_hand(the_play)
    except NotStarted as error:
        console.print(f"[red]✗[/] {escape(str(error))}")
        return 1
    return 0


async def perform(the_play: Play, chapters: Sequence[Callable[[Play], Awaitable[None]]]) -> None:
    """Plays the chapters. One that cannot be played to its end, for want of what an earlier promise should have
    brought, is a broken promise too.
    """
    for chapter in chapters:
        started = time.monotonic()
        try:
            await chapter(the_play)
        except Exception as error:  # noqa: BLE001 - whatever it is, the story goes on and tells of it
            the_play.note(
                f"the chapter “{chapter.__name__}” can be played", started, kept=False, detail=type(error).__name__
            )


def _announce(scene: Stage) -> None:
    console.print()
    console.print(f"[bold]inbox[/]     {scene.url('inbox')}  what people get: mail and Slack")
    console.print(f"[bold]sandbox[/]   {scene.url('sandbox')}  the provider: break accounts, let its API fail")
    console.print(f"[bold]healthd[/]   {scene.url('admin')}  the operator's pages; /metrics is what Prometheus sees")
    console.print(f"[dim]settings, database and logs are in {scene.folder}[/]")
    console.print()


def _verdict(the_play: Play) -> int:
    table = Table(title="what happened", title_justify="left")
    for name, justify in (("at", "right"), ("promise", "left"), ("took", "right"), ("kept", "center")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for line in the_play.lines:
        table.add_row(f"{line.at:.1f} s", line.what, f"{line.took:.2f} s", "✓" if line.kept else "[red]✗[/]")
    broken = [line for line in the_play.lines if not line.kept]
    console.print()
    console.print(table)
    if broken:
        console.print(f"[red]{len(broken)} of {len(the_play.lines)} promises were broken.[/] The daemon's log:")
        console.print(escape((the_play.scene.folder / "run.log").read_text("utf-8", "replace")[-4000:]))
        return 1
    console.print(f"[green]All {len(the_play.lines)} promises were kept.[/]")
    return 0


async def _by_hand(the_play: Play) -> None:
    """Lets a few things break, then leaves the stage to the person at the keyboard."""
    async with _interrupt() as interrupted:
        await perform(the_play, (first_look, heard, found, said_five_times))
        console.print()
        console.print(f"Now you: open the inbox, {the_play.scene.url('inbox')}, and follow the links in it.")
        console.print(f"See who was told and what became of it on the operator's pages, {the_play.scene.url('admin')}.")
        console.print(f"Break more in the sandbox; its key is sqk_test_{WORKSPACE}. Ctrl-C ends the demo.")
        await interrupted.wait()
        console.print("ending…")


@asynccontextmanager
async def _interrupt() -> AsyncIterator[asyncio.Event]:
    """Set by Ctrl-C or SIGTERM, which would otherwise cut the clean-up short."""
    interrupted, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    try:
        yield interrupted
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
