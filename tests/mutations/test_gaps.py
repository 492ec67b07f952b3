"""Promises that no other test would have missed when they were broken on purpose."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from healthd.channels.base import Retry
from healthd.core.model import Signal
from healthd.engine import Engine
from healthd.intake import Drain
from healthd.metrics import Metrics
from healthd.providers.allowance import Allowance
from healthd.providers.base import ProviderError
from healthd.providers.smartlyq import SmartlyQ
from healthd.store import inbox, migrations
from healthd.store.database import Store
from healthd.store.inbox import Arrival
from tests.loopback import answer
from tests.outbox.surroundings import surroundings
from tests.providers.peer import ok, peer_on_loopback

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = "sqk_test_acme"


def client(base_url: str = "http://127.0.0.1:9/v1") -> SmartlyQ:
    return SmartlyQ(
        workspace="acme", api_key=KEY, allowance=Allowance(1.0, 1_000), now=lambda: NOW, base_url=base_url
    )  # fmt: skip


def expired(ref: int) -> Arrival:
    body = {
        "id": f"evt_{ref}",
        "event": "account.token_expired",
        "created_at": NOW.isoformat(),
        "data": {"account_id": ref, "platform": "facebook", "account_name": "Acme"},
    }
    return Arrival("acme", f"evt_{ref}", orjson.dumps(body), NOW)


def on_disk(connection: Connection) -> tuple[list[Any], list[Any]]:
    """What is in the inbox, and what is known of accounts."""
    webhooks = connection.execute(text("SELECT status FROM inbox ORDER BY id")).scalars().all()
    return list(webhooks), list(connection.execute(text("SELECT state FROM accounts")).scalars().all())


async def test_what_follows_from_a_webhook_and_that_it_was_seen_to_are_kept_together_or_not_at_all(
    tmp_path: Path,
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'inbox.db'}")
    try:
        await store.run(migrations.upgrade)
        await store.run(inbox.store, [expired(1), expired(2)])
        drain = Drain(
            store, Engine(rng=random.Random(1)), {"acme": client()}, Metrics("test"), lambda: NOW,
            heard=lambda _: None, doubt_key=lambda _: None,
        )  # fmt: skip
        refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON inbox BEGIN SELECT RAISE(ABORT, 'not now'); END"
        await store.run(lambda connection: connection.execute(text(refuse)))
        with pytest.raises(IntegrityError, match="not now"):
            await drain.run()
        assert await store.read(on_disk) == (["new", "new"], [])
        await store.run(lambda connection: connection.execute(text("DROP TRIGGER refuse")))
        assert await drain.run() == 2
        assert await store.read(on_disk) == (["done", "done"], ["suspect", "suspect"])
    finally:
        await store.close()


async def test_a_repeat_says_the_same_though_the_account_has_another_name_by_then(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as scene:
        scene.mail.answers = [Retry("the connection was lost after the last byte")]
        await scene.breaks()
        await scene.outbox.send_due()
        await scene.observe("1", Signal.BAD_TOKEN, name="Renamed")
        assert (await scene.account()).name == "Renamed"
        scene.travel(timedelta(seconds=10))
        assert await scene.outbox.send_due() == 1
        first, second = scene.mail.got
        assert "Account 1" in first.content["text"]
        assert second == first


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_to_another_host_never_gets_the_key_or_the_profile(status: int) -> None:
    async with peer_on_loopback() as other, peer_on_loopback() as api:
        other.says(ok({"id": 7, "status": "connected", "token_expired": False}))
        api.says(answer(status, headers={"location": f"{other.url}/social/accounts/7/reconnect-url"}))
        asking = client(api.url)
        async with asking.session():
            for call in (asking.mint, asking.pause):
                with suppress(ProviderError):
                    await call("7", "12")
        assert other.asked == []
        assert [asked.headers["authorization"] for asked in api.asked] == [f"Bearer {KEY}"] * 2
