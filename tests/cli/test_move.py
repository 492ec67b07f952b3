"""``healthd db move``: a daemon that worked with SQLite goes on with PostgreSQL as if nothing had been."""

from __future__ import annotations

from pathlib import Path

from healthd.core.model import State
from tests import postgres
from tests.cli.command import healthd
from tests.daemon.conftest import settled
from tests.daemon.rig import rig

SETTINGS = {"HEALTHD_LINK__MODE": "direct", "HEALTHD_WORKSPACES__ACME__API_KEY": "sqk_test_acme"}


async def test_nobody_is_told_anew_and_good_news_still_follow(tmp_path: Path) -> None:
    url = postgres.server().get_uri(postgres.blank())
    async with rig(tmp_path) as scene:
        await scene.start()
        await settled(scene)
        broken = scene.account("facebook")
        scene.expire(broken)
        told = await scene.mail(broken.name)
        await scene.stop()

        done = await healthd("db", "move", "healthd.db", folder=tmp_path, **SETTINGS, HEALTHD_STORE__URL=url)
        assert done.code == 0, done.err
        assert f"accounts: {len(scene.sandbox.world.accounts)} rows" in done.out
        assert "Start healthd now." in done.out

        scene.settings["store"] = f'url = "{url}"'
        await scene.start()
        await scene.until_state(broken, State.EXPIRED)
        assert [mail.identity for mail in scene.inbox.messages] == [told.identity]
        scene.repair(broken)
        good_news = await scene.mail("connected again")
        assert good_news.thread == told.identity


async def test_the_settings_name_where_it_goes(tmp_path: Path) -> None:
    done = await healthd("db", "move", "healthd.db", folder=tmp_path, **SETTINGS)
    assert done.code == 2
    assert "write postgresql://" in done.err


async def test_a_mistake_is_said_and_nothing_is_done(tmp_path: Path) -> None:
    nowhere = {"HEALTHD_STORE__URL": "postgresql://healthd@127.0.0.1:1/healthd"}
    done = await healthd("db", "move", "missing.db", folder=tmp_path, **SETTINGS, **nowhere)
    assert (done.code, done.out) == (1, "")
    assert "there is no database missing.db. Nothing was changed." in done.err
