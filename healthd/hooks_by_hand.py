"""The webhook by hand: registered, tested, given a new secret, repaired. What the commands do, without their words."""

from __future__ import annotations

import asyncio
import http.client
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette

from healthd.app import VERSION, build_workspaces, open_store, utc_now
from healthd.config import Settings, WorkspaceSettings, split_address
from healthd.intake import Receiver
from healthd.listener import CannotListen, Listener, bind
from healthd.metrics import Metrics
from healthd.providers.base import (
    DeliveryStatus,
    NewSubscription,
    Provider,
    ProviderError,
    Subscription,
    Subscriptions,
    SubscriptionStatus,
    Trial,
    Unavailable,
    Unprocessable,
)
from healthd.self_care import Problem, Verdict, address, elsewhere, is_callable, judge, lacking, offered, ours
from healthd.store import inbox
from healthd.store.database import Store

MOST = 10
"""Active webhooks that a workspace may have."""
PATIENCE = 30.0
"""Seconds in which a webhook that was answered must be in the store."""


class NotDone(Exception):
    """Nothing was changed, unless the message says so; it says what to do."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """One workspace's webhook at its provider."""

    workspace: str
    url: str
    provider: Provider


@asynccontextmanager
async def opened(settings: Settings, workspace: str, store: Store | None) -> AsyncIterator[Hooks]:
    """The workspace's provider, ready to be asked. Raises ``NotDone`` where no webhook can lead to us, and turns what
    the API refuses into one.
    """
    chosen = settings.workspaces[workspace]
    url = address_of(settings, workspace, chosen)
    one = build_workspaces(settings, Metrics(VERSION), store)[workspace]
    try:
        async with one.provider.session():
            yield Hooks(workspace, url, one.provider)
    except ProviderError as error:
        raise NotDone(f"{error}. {error.remedy}") from error
    finally:
        await one.allowance.close()


def address_of(settings: Settings, workspace: str, chosen: WorkspaceSettings) -> str:
    if settings.public_url is None:
        raise NotDone("public_url is not set: the provider needs an address that it can call")
    if not is_callable(settings.public_url, chosen.base_url):
        raise NotDone(
            f"the provider cannot call {settings.public_url}: it takes public https addresses only. Set public_url to "
            "the address of your proxy or tunnel"
        )
    return address(settings.public_url, workspace)


async def register(hooks: Hooks) -> NewSubscription:
    """Makes the webhook. Raises ``NotDone`` where there is one already, or no room for it."""
    found = await hooks.provider.webhooks()
    mine = ours(found, hooks.url)
    if mine:
        raise NotDone(
            f"webhook {mine[0].ref} leads to {hooks.url} already. `healthd webhook repair` mends it, `healthd webhook "
            "rotate` gives it a new secret"
        )
    return await _create(hooks, found)


async def _create(hooks: Hooks, found: Subscriptions) -> NewSubscription:
    active = [row for row in found.rows if row.status is SubscriptionStatus.ACTIVE]
    if len(active) >= MOST:
        raise NotDone(_no_room(active))
    try:
        return await hooks.provider.create_webhook(hooks.url, offered(found))
    except Unprocessable as error:
        raise NotDone(f"the provider refuses {hooks.url}: {error}. It takes public https addresses only") from error
    except Unavailable as error:
        raise NotDone(
            f"{error}: nobody knows whether the webhook was made. `healthd webhook status` shows it; if it is there, "
            "its secret is lost, and `healthd webhook rotate --again` makes another"
        ) from error


def _no_room(active: Sequence[Subscription]) -> str:
    """The one that has been silent for longest is probably the one to go."""
    silent = sorted(active, key=lambda row: (row.triggered_at is not None, row.triggered_at, row.ref))
    listed = [
        f"  {row.ref}  {without_query(row.url)}  last called {row.triggered_at:%Y-%m-%d}"
        if row.triggered_at
        else f"  {row.ref}  {without_query(row.url)}  never called"
        for row in silent
    ]
    first = f"the workspace has {len(active)} active webhooks, and more than {MOST} are not allowed. Remove one at the "
    return "\n".join([f"{first}provider that nobody needs; the most silent come first:", *listed])


def without_query(url: str) -> str:
    """An address without what may be somebody's token."""
    return urlsplit(url)._replace(query="", fragment="", netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl()


@contextmanager
def secret_file(path: Path) -> Iterator[int]:
    """A new file that nobody else can read, there before its content: a secret that is shown once must not meet a full
    disk or a missing folder. It is removed where nothing was written. Raises ``NotDone``.
    """
    try:
        opened_file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise NotDone(f"{path} exists already; name another file, or remove it") from None
    except OSError as error:
        raise NotDone(f"{path} cannot be written: {error.strerror}") from None
    try:
        yield opened_file
    finally:
        written = os.fstat(opened_file).st_size
        os.close(opened_file)
        if not written:
            path.unlink()


def put_secret(file: int, made: NewSubscription) -> None:
    """Raises ``NotDone`` where it cannot be written, which nobody can make good."""
    try:
        os.write(file, f"{made.secret.get_secret_value()}\n".encode())
        os.fsync(file)
    except OSError as error:
        raise NotDone(
            f"webhook {made.subscription.ref} is made, but its secret cannot be written: {error.strerror}. It is lost: "
            "`healthd webhook rotate` makes another"
        ) from None


@dataclass(frozen=True, slots=True)
class Status:
    """What ``healthd webhook status`` tells. Counts are ``None`` where there is nothing to count."""

    workspace: str
    url: str
    verdict: Verdict
    others: int
    """Webhooks of the workspace that are not ours."""
    pending: int | None = None
    dead_letters: int | None = None

    def as_json(self) -> dict[str, Any]:
        about = self.verdict.about
        return {
            "workspace": self.workspace,
            "url": self.url,
            "webhook": about and about.ref,
            "webhook_url": about and without_query(about.url),
            "status": about and about.status,
            "events": list(about.events) if about else [],
            "last_triggered_at": about.triggered_at.isoformat() if about and about.triggered_at else None,
            "problem": self.verdict.problem,
            "said": self.verdict.said,
            "pending": self.pending,
            "dead_letters": self.dead_letters,
            "other_webhooks": self.others,
        }


async def status(hooks: Hooks) -> Status:
    found = await hooks.provider.webhooks()
    verdict = judge(found, hooks.url)
    others = len(found.rows) - len(ours(found, hooks.url))
    if verdict.about is None:
        return Status(hooks.workspace, hooks.url, verdict, others)
    counts = [
        (await hooks.provider.deliveries(kind, webhook=verdict.about.ref)).total
        for kind in (DeliveryStatus.PENDING, DeliveryStatus.DEAD_LETTER)
    ]
    return Status(hooks.workspace, hooks.url, verdict, others, *counts)


async def send_test(settings: Settings, hooks: Hooks, store: Store, ref: str | None) -> str:
    """Has a test sent by this webhook, or by the newest of ours, and waits until it is in the store. Returns what came
    of it. Raises ``NotDone`` saying where it failed.
    """
    if ref is None:
        ref = _the_one(await hooks.provider.webhooks(), hooks).ref
    trial = await hooks.provider.test_webhook(ref)
    if not trial.delivered:
        running = await asyncio.to_thread(daemon_answers, settings)
        raise NotDone(f"the test of webhook {ref} did not arrive: {why_not(trial, hooks, running=running)}")
    await _until_stored(hooks, store, trial)
    return f"webhook {ref}: the provider sent {trial.event_id}, healthd answered {trial.code} and has it on disk"


async def _until_stored(hooks: Hooks, store: Store, trial: Trial) -> None:
    ends = asyncio.get_running_loop().time() + PATIENCE
    while await store.read(inbox.received_at, hooks.workspace, trial.event_id) is None:
        if asyncio.get_running_loop().time() >= ends:
            raise NotDone(
                f"somebody answered {trial.code} at {hooks.url}, but the webhook is not in this healthd's store: does "
                "public_url lead to another healthd, or to a proxy that answers by itself?"
            )
        await asyncio.sleep(0.25)


def _the_one(found: Subscriptions, hooks: Hooks) -> Subscription:
    """The newest of ours."""
    mine = ours(found, hooks.url)
    if not mine:
        raise NotDone(f"{judge(found, hooks.url).said}. `healthd webhook register` makes one")
    return mine[-1]


_HEALTHD_REFUSES = "invalid signature"
_WHY = {
    404: "what answers there does not know {path}: is it healthd, and does it run with these settings?",
    408: "the body did not arrive whole, or not in time: look at the proxy in front of healthd",
    413: "a proxy in front of healthd finds the body too large",
    429: "healthd, or a proxy in front of it, is too busy",
    503: "healthd is ending, cannot write its store, or a proxy in front of it does not reach it: see healthd's log",
}


def why_not(trial: Trial, hooks: Hooks, *, running: bool) -> str:
    """Where a test failed, and what to do."""
    idle = "" if running else " No healthd answers on server.admin_listen either: start it with `healthd run`."
    if trial.code is None:
        said = f" ({trial.said})" if trial.said else ""
        return f"nobody answers at {hooks.url}{said}: look at DNS, the firewall, the certificate and the proxy.{idle}"
    answered = f"HTTP {trial.code}{f' {trial.said!r}' if trial.said else ''}"
    if trial.code == 401:
        why = (
            "healthd does not know the secret that signed it: put it into webhook_secrets, and start healthd again"
            if _HEALTHD_REFUSES in trial.said
            else "something in front of healthd wants a log-in: let /webhooks/ pass without one"
        )
    elif 300 <= trial.code < 400:
        why = "the address redirects, which the provider does not follow: put where it leads into public_url"
    else:
        path = urlsplit(hooks.url).path
        why = _WHY.get(trial.code, "the server at that address fails: look at its log").format(path=path)
    return f"{answered}: {why}.{idle}"


def daemon_answers(settings: Settings) -> bool:
    """Whether the daemon of these settings runs."""
    host, port = split_address(settings.server.admin_listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - to ask, not to listen
    connection = http.client.HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def rotate(hooks: Hooks, *, again: bool) -> NewSubscription:
    """Makes a second webhook to the same address, with a secret of its own; the first goes on working. ``again`` gives
    up a second one that an earlier rotation has left.
    """
    found = await hooks.provider.webhooks()
    mine = ours(found, hooks.url)
    if not mine:
        raise NotDone(f"{judge(found, hooks.url).said}. `healthd webhook register` makes one")
    if len(mine) > 1:
        if not again:
            raise NotDone(
                f"a rotation is under way: webhook {mine[-1].ref} has the new secret. With it in webhook_secrets, run "
                "`healthd webhook rotate --finish`. If it was lost, run `healthd webhook rotate --again`"
            )
        await hooks.provider.delete_webhook(mine[-1].ref)
        found = Subscriptions(tuple(row for row in found.rows if row is not mine[-1]), found.catalogue)
    return await _create(hooks, found)


async def finish_rotation(settings: Settings, hooks: Hooks, store: Store) -> list[str]:
    """Removes the older webhooks, once the newest is known to get through. Whatever interrupts it, one that works is
    left, and to run it again does the rest.
    """
    found = await hooks.provider.webhooks()
    mine = ours(found, hooks.url)
    if len(mine) < 2:
        raise NotDone("there is nothing to finish: `healthd webhook rotate` begins a rotation")
    newest = mine[-1]
    done = [f"✓ {await send_test(settings, hooks, store, newest.ref)}"]
    lacks = lacking(newest, found)
    if newest.status is not SubscriptionStatus.ACTIVE or lacks:
        # Deliveries that were refused while its secret was not in place may have stopped it.
        await hooks.provider.update_webhook(newest.ref, status="active", events=(*newest.events, *lacks))
    for row in mine[:-1]:
        await hooks.provider.delete_webhook(row.ref)
        done.append(f"✓ webhook {row.ref} is removed; its secret may leave webhook_secrets")
    return done


async def repair(hooks: Hooks, *, move: bool) -> list[str]:
    """Mends what is wrong. Raises ``NotDone`` for what has to be decided by a person."""
    found = await hooks.provider.webhooks()
    verdict = judge(found, hooks.url)
    match verdict.problem:
        case None:
            return ["✓ nothing is wrong with it"]
        case Problem.MISSING:
            raise NotDone(f"{verdict.said}. `healthd webhook register` makes one")
        case Problem.SEVERAL:
            raise NotDone(f"{verdict.said}. `healthd webhook rotate --finish` leaves the newest")
        case Problem.WRONG_URL if not move:
            raise NotDone(_moved_away(found, hooks))
    about = verdict.about
    if about is None:
        raise NotDone(verdict.said)
    events = (*about.events, *lacking(about, found))
    url = hooks.url if verdict.problem is Problem.WRONG_URL else None
    row = await hooks.provider.update_webhook(about.ref, url=url, events=events, status="active")
    done = [f"✓ {verdict.said}: mended. Webhook {row.ref} leads to {row.url} and is {row.status}"]
    if verdict.problem is Problem.FAILING:
        done.append("It is stopped again where deliveries go on failing: `healthd webhook test` says whether they do")
    return done


def _moved_away(found: Subscriptions, hooks: Hooks) -> str:
    there = ", ".join(f"{row.ref} ({without_query(row.url)})" for row in elsewhere(found, hooks.url))
    return (
        f"no webhook leads to {hooks.url}, but {there} has the same path on another host. If that is healthd's former "
        "address, `healthd webhook repair --move` moves it here with its secret. If another healthd needs it, run "
        "`healthd webhook register`"
    )


async def receive_test(settings: Settings, workspace: str) -> str:
    """As ``send_test``, with the real receiver at work on ``server.listen`` for as long as that takes. Where something
    listens there already, that is what must take the test.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings))
        hooks = await stack.enter_async_context(opened(settings, workspace, store))
        with suppress(CannotListen):
            await stack.enter_async_context(_receiving(settings, hooks, store))
        return await send_test(settings, hooks, store, None)


@asynccontextmanager
async def _receiving(settings: Settings, hooks: Hooks, store: Store) -> AsyncIterator[None]:
    server = settings.server
    receiver = Receiver(store, {hooks.workspace: hooks.provider}, Metrics(VERSION), utc_now, lambda: None)
    with bind(*split_address(server.listen)) as bound:
        listener = Listener.of(
            receiver.before(Starlette()),
            bound,
            header_timeout=server.header_timeout,
            body_timeout=server.body_timeout,
            max_connections=server.max_connections,
            drain_timeout=server.drain_timeout,
        )
        serving = asyncio.create_task(listener.run_until_exit())
        await listener.accepting.wait()
        try:
            yield
        finally:
            listener.should_exit = True
            await serving
