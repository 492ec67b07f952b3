"""What of the notices needs an operator's eye: what is held and by what, storms, and whom nobody could tell."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.core.contacts import Contact
from healthd.core.model import Signal, Target
from healthd.core.routing import Route
from healthd.core.storm import StormPolicy
from healthd.metrics import Metrics, take_snapshot
from healthd.store import contacts, inbox, storms
from healthd.store.database import Store, StoreUnavailable
from tests.metrics.exposed import samples
from tests.outbox.surroundings import Surroundings, surroundings

ADA = Target("mail", "ada@acme.example")
Shown = dict[tuple[str, ...], float]


async def shown(scene: Surroundings, name: str) -> Shown:
    """The values of one gauge, by its labels in the order of their names."""
    metrics = scene.outbox.metrics
    snapshot = await scene.store.read(take_snapshot, scene.now())
    text = "".join(metrics.exposition(snapshot, writable=scene.store.writable))
    found = [one for one in samples(text) if one.name == f"healthd_{name}"]
    return {tuple(one.labels[label] for label in sorted(one.labels)): one.value for one in found}


HELD = {"paused": 0.0, "storm": 0.0, "chronic": 0.0, "nobody": 0.0, "muted": 0.0}


def held(**counts: float) -> Shown:
    return {(by,): number for by, number in (HELD | counts).items()}


async def test_what_is_held_is_counted_by_what_holds_it(tmp_path: Path) -> None:
    routes = (Route((ADA,), platform=frozenset({"facebook", "reddit"})),)
    async with surroundings(tmp_path, routes=routes, default=(), storms=StormPolicy(least=2)) as scene:
        assert await shown(scene, "notices_held") == held()
        await scene.breaks("p", platform="reddit")
        await scene.observe("p", Signal.BAD_TOKEN, paused=True, platform="reddit")
        await scene.breaks("n", platform="youtube")
        await scene.break_together("1", "2", "3")
        await scene.outbox.send_due()
        assert await shown(scene, "notices_held") == held(paused=1, nobody=1, storm=3)
        assert await shown(scene, "storms") == {("facebook", "acme"): 1}
        [storm] = await scene.store.read(storms.all_current)
        await scene.store.run(
            lambda connection: scene.outbox.dispatch.end_storm(connection, storm, "by hand", scene.now(), "Olga")
        )
        assert await shown(scene, "notices_held") == held(paused=1, nobody=1)
        assert await shown(scene, "storms") == {}
        await scene.recovers("n")
        assert await shown(scene, "notices_held") == held(paused=1)


async def test_broken_accounts_of_which_nobody_could_be_told_are_counted_until_somebody_is(tmp_path: Path) -> None:
    async with surroundings(tmp_path, routes=(Route((Target("@ada"),)),), default=()) as scene:
        assert await shown(scene, "incidents_nobody_told") == {("acme",): 0}
        await scene.breaks()
        assert await shown(scene, "incidents_nobody_told") == {("acme",): 1}
        await scene.knows(Contact("ada", "Ada", (Target("mail", "ada@acme.example"),)))
        await scene.store.run(scene.outbox.dispatch.try_again, scene.now())
        assert await shown(scene, "incidents_nobody_told") == {("acme",): 0}
        await scene.outbox.send_due()
        assert len(scene.mail.taken) == 1


async def test_a_person_whose_mail_comes_back_leaves_an_account_that_nobody_repairs(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        dispatch = scene.outbox.dispatch
        await scene.store.run(
            lambda connection: dispatch.unreachable(connection, ADA, "no such mailbox", "dsn", scene.now())
        )
        assert await shown(scene, "incidents_nobody_told") == {("acme",): 1}
        assert await shown(scene, "bad_addresses") == {("mail",): 1}
        await scene.store.run(contacts.clear_bad, ADA)
        assert await shown(scene, "bad_addresses") == {}


async def test_the_store_is_up_as_long_as_it_can_be_written(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as scene:
        assert await shown(scene, "store_up") == {(): 1}
        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable):
                await scene.store.run(inbox.probe_write)
            assert await shown(scene, "store_up") == {(): 0}, "it can still be read"
            other.rollback()
        await scene.store.run(inbox.probe_write)
        assert await shown(scene, "store_up") == {(): 1}


def test_a_store_that_cannot_even_be_read_is_down(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'new.db'}")
    text = "".join(Metrics("test").exposition(None, writable=store.writable))
    assert [one.value for one in samples(text) if one.name == "healthd_store_up"] == [0]


async def test_a_platform_nobody_knows_is_one_storm_of_others(tmp_path: Path) -> None:
    async with surroundings(tmp_path, storms=StormPolicy(least=1)) as scene:
        for platform in ("weird-1", "weird-2"):
            await scene.break_together(f"{platform}a", f"{platform}b", platform=platform)
        scene.travel(timedelta(seconds=1))
        assert await shown(scene, "storms") == {("other", "acme"): 1}
