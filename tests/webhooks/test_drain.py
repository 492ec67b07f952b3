"""From the inbox through the engine's door: in groups, and as if each webhook had come by itself."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from healthd.core.model import Observation, Signal, Source, State
from healthd.core.post_failures import PostFailure
from healthd.engine import Change, Engine
from healthd.intake import BATCH, FEWEST, Drain, Understood, together
from healthd.metrics import Metrics
from healthd.providers.allowance import Allowance
from healthd.providers.base import Event
from healthd.providers.smartlyq import SmartlyQ
from healthd.store import accounts, inbox, incidents
from healthd.store.database import Store
from healthd.store.inbox import Arrival, Received
from tests.fresh_store import fresh_store
from tests.store.rows import NOON

FAILURE = PostFailure("7", "facebook", "TOKEN_EXPIRED", "", None, NOON)


class Door(Engine):
    """The engine, which fails on account 13 and counts who goes through together."""

    sizes: list[int]

    def apply(
        self, connection: Connection, workspace: str, observations: Sequence[Observation], now: datetime,
        profile: str = "",
    ) -> list[Change]:  # fmt: skip
        self.__dict__.setdefault("sizes", []).append(len(observations))
        if any(seen.ref == "13" for seen in observations):
            raise ZeroDivisionError
        return super().apply(connection, workspace, observations, now, profile)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    fresh_store(tmp_path / "healthd.db")
    opened = Store(f"sqlite:///{tmp_path / 'healthd.db'}")
    yield opened
    await opened.close()


def arrival(number: int, ref: int, event: str = "account.token_expired") -> Arrival:
    body = {
        "id": f"evt_{number}",
        "event": event,
        "created_at": (NOON + timedelta(seconds=number)).isoformat(),
        "data": {"account_id": ref, "platform": "facebook", "account_name": "Acme"},
    }
    return Arrival("acme", f"evt_{number}", orjson.dumps(body), NOON + timedelta(hours=1))


def drain(store: Store, engine: Engine, **more: Any) -> Drain:
    provider = SmartlyQ(
        workspace="acme", api_key="sqk_test_acme", allowance=Allowance(1.0, 1_000), now=lambda: NOON,
        base_url="http://127.0.0.1:9/v1",
    )  # fmt: skip
    facts = {"now": lambda: NOON, "heard": lambda _: None, "doubt_key": lambda _: None} | more
    return Drain(store, engine, {"acme": provider}, Metrics("test"), **facts)


async def statuses(store: Store) -> list[str]:
    return await store.read(
        lambda connection: list(connection.execute(text("SELECT status FROM inbox ORDER BY id")).scalars())
    )


async def test_one_that_we_fail_on_is_parked_and_those_beside_it_are_worked_through(store: Store) -> None:
    await store.run(inbox.store, [arrival(ref, ref) for ref in (11, 12, 13, 14)])
    with capture_logs() as said:
        assert await drain(store, Door(rng=random.Random(1))).run() == 4
    assert await statuses(store) == ["done", "done", "parked", "done"]
    known = await store.read(accounts.load, "acme", ["11", "12", "13", "14"])
    assert {ref: one.account.state for ref, one in known.items()} == dict.fromkeys(("11", "12", "14"), State.SUSPECT)
    assert [line["event"] for line in said if line["log_level"] == "error"] == ["webhook.failed"]


async def test_several_of_one_account_are_worked_through_in_the_order_of_their_arrival(store: Store) -> None:
    names = ["account.token_expired", "account.connected", "account.disconnected"]
    await store.run(inbox.store, [arrival(number, 7, name) for number, name in enumerate(names)])
    await drain(store, Engine(rng=random.Random(1))).run()
    known = await store.read(accounts.load, "acme", ["7"])
    history = await store.read(incidents.history_of, known["7"].id)
    heard = sorted((line for line in history if line.source == Source.WEBHOOK), key=lambda line: line.id)
    assert [line.signal for line in heard] == [Signal.TOKEN_EXPIRED, Signal.CONNECTED, Signal.DISCONNECTED]


@pytest.mark.parametrize("crowded", [False, True])
async def test_what_arrives_meanwhile_waits_for_few_where_each_takes_long(store: Store, crowded: bool) -> None:
    ticks = iter(range(10_000))
    engine = Door(rng=random.Random(1))
    await store.run(inbox.store, [arrival(ref, ref) for ref in range(100, 200)])
    slow = drain(store, engine, now=lambda: NOON + next(ticks) * timedelta(milliseconds=20), crowded=lambda: crowded)
    assert await slow.run() == 100
    assert max(engine.sizes) == FEWEST


async def test_many_go_through_at_once_where_that_takes_no_time(store: Store) -> None:
    engine = Door(rng=random.Random(1))
    await store.run(inbox.store, [arrival(ref, ref) for ref in range(100, 100 + FEWEST + BATCH)])
    assert await drain(store, engine).run() == FEWEST + BATCH
    assert engine.sizes == [FEWEST, BATCH]


@st.composite
def webhooks(draw: st.DrawFn) -> list[Understood]:
    def one(number: int) -> Understood:
        ref, profile = draw(st.sampled_from("abc")), draw(st.sampled_from([None, "p"]))
        trace = draw(st.sampled_from([None, None, "00-1-2-01"]))
        seen = Observation(ref, Signal.TOKEN_EXPIRED, Source.WEBHOOK, NOON)
        failed = draw(st.integers(0, 4)) == 0
        event = Event("e", str(number), None if failed else seen, profile, (FAILURE,) if failed else ())
        return Understood(Received(number, "acme", b"", NOON, trace), event)

    return [one(number) for number in range(draw(st.integers(0, 12)))]


@given(webhooks())
def test_a_group_is_in_order_of_one_profile_and_names_no_account_twice(said: list[Understood]) -> None:
    groups = list(together(said))
    assert [one for group in groups for one in group] == said
    for group in groups:
        assert len({one.event.profile for one in group}) == 1
        refs = [one.event.observation.ref for one in group if one.event.observation]
        assert len(refs) == len(set(refs))
        assert len(group) == 1 or not any(one.goes_alone for one in group)
