"""The private listener is open to this machine alone, or to those who prove who they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection

from healthd.app import Daemon
from healthd.config import load
from healthd.core.roles import Role
from healthd.store import access
from healthd.store.database import Store
from healthd.web.access import NobodyMayEnter
from tests.daemon.rig import Rig, rig
from tests.fresh_store import fresh_store

SECRET = "hdt_" + "t" * 43
OPEN = ("/metrics", "/livez", "/readyz")


@asynccontextmanager
async def remote(folder: Path, sections: Mapping[str, str] = {}) -> AsyncIterator[Rig]:
    """A daemon, not started yet, whose private listener is on every address, as in the image."""
    async with rig(folder) as made:
        made.settings |= sections
        made.settings["server"] = (
            f'listen = "127.0.0.1:{made.ports["public"]}"\nadmin_listen = "0.0.0.0:{made.ports["admin"]}"\n'
            'drain_timeout = "5s"'
        )
        yield made


async def asked(scene: Rig, *paths: str, **headers: str) -> list[int]:
    return [(await scene.http.get(scene.admin + path, headers=headers)).status_code for path in paths]


async def test_it_does_not_start_where_others_reach_it_and_nobody_could_sign_in(tmp_path: Path) -> None:
    async with remote(tmp_path) as scene:
        daemon = Daemon(load(scene.write_config(), {}), scene.now)
        with pytest.raises(NobodyMayEnter, match=r"healthd token create NAME .* pages = false"):
            await daemon.run()


async def test_without_pages_it_starts_anywhere_and_has_nothing_but_probes_and_metrics(tmp_path: Path) -> None:
    async with remote(tmp_path, {"access": "pages = false"}) as scene:
        await scene.start()
        assert await asked(scene, *OPEN) == [200, 200, 200]
        assert await asked(scene, "/", "/sign-in", "/sign-in/style.css", "/api/v1") == [404] * 4


async def test_a_token_in_the_store_lets_it_start_and_its_owner_in(tmp_path: Path) -> None:
    async with remote(tmp_path) as scene:
        store = Store(fresh_store(tmp_path / "healthd.db"))
        await store.run(
            access.create_token, "ada", Role.VIEWER, access.digest_of(SECRET), at=datetime.now(UTC), by="cli:test"
        )
        await store.close()
        await scene.start()
        assert await asked(scene, *OPEN, "/") == [200, 200, 200, 401]
        assert await asked(scene, "/", accept="text/html") == [303]
        assert await asked(scene, "/", authorization=f"Bearer {SECRET}") == [200]
        assert await asked(scene, "/", authorization=f"Bearer {SECRET}x") == [401]
        assert await scene.metric("healthd_sign_ins_total", outcome="refused") == 1


async def test_metrics_can_be_closed_to_those_without_a_token(tmp_path: Path) -> None:
    sections = {
        "access": 'pages = false\nmetrics = "token"',
        "access.tokens.prometheus": f'role = "viewer"\ntoken = "{SECRET}"',
    }
    async with remote(tmp_path, sections) as scene:
        await scene.start()
        assert await asked(scene, *OPEN) == [401, 200, 200]
        assert await asked(scene, "/metrics", authorization=f"Bearer {SECRET}") == [200]


async def test_closed_metrics_alone_need_somebody_who_may_read_them(tmp_path: Path) -> None:
    async with remote(tmp_path, {"access": 'pages = false\nmetrics = "token"'}) as scene:
        with pytest.raises(NobodyMayEnter):
            await Daemon(load(scene.write_config(), {}), scene.now).run()


@pytest.mark.parametrize("page", ["/", "/accounts", "/workspaces", "/api/v1/accounts", "/api/v1/incidents"])
async def test_who_looks_through_a_million_accounts_keeps_no_scrape_waiting(scene: Rig, page: str) -> None:
    """Somebody's search takes its time, and another waits for it; what Prometheus and Kubernetes ask is answered."""
    await scene.until(lambda: _is_up(scene, page), "the page")
    begun, go_on = threading.Event(), threading.Event()

    def search(_: Connection) -> None:
        begun.set()
        go_on.wait()

    searching = asyncio.create_task(scene.store.browse(search))
    try:
        await asyncio.to_thread(begun.wait)
        looking = asyncio.create_task(scene.http.get(scene.admin + page))
        async with asyncio.timeout(10):
            assert await asked(scene, *OPEN) == [200, 200, 200]
        assert not (await asyncio.wait([looking], timeout=0.5))[0], "it waits for its turn behind the search"
    finally:
        go_on.set()
        await searching
    assert (await looking).status_code == 200


async def _is_up(scene: Rig, page: str) -> bool:
    return await asked(scene, page) == [200]
