"""``healthd db backup`` and ``healthd db restore``, with the daemon working, stopped, and back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.core.model import NoticeKind, NoticeStatus, State
from healthd.sandbox.world import Account
from healthd.store import backup, guard
from tests.cli.command import healthd, running
from tests.daemon.conftest import settled
from tests.daemon.rig import Rig, rig
from tests.fresh_store import fresh_store

SWEEPING = 'bulk_interval = "0.3s"\ninventory_interval = "0.5s"'
QUIET = timedelta(minutes=10)
SETTINGS = {"HEALTHD_LINK__MODE": "direct", "HEALTHD_WORKSPACES__ACME__API_KEY": "sqk_test_acme"}
ANY_PORTS = {"HEALTHD_SERVER__LISTEN": "127.0.0.1:0", "HEALTHD_SERVER__ADMIN_LISTEN": "127.0.0.1:0"}


def files(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


async def told(scene: Rig, account: Account) -> bool:
    """The end of its incident is on record as sent."""
    found = [one for one in await scene.notices(account) if one.kind is NoticeKind.RESOLVED]
    return [one.status for one in found] == [NoticeStatus.SENT]


async def tried(scene: Rig, account: Account) -> None:
    """A message could not be sent, and waits for its next attempt."""

    async def waits() -> bool:
        found = [one for one in await scene.notices(account) if one.kind is NoticeKind.OPENED]
        return bool(found) and found[0].attempts > 0 and found[0].lease is None

    await scene.until(waits, "a failed attempt")


async def test_the_world_goes_on_after_a_backup_and_healthd_finds_its_way_back(tmp_path: Path) -> None:
    """What the backup knew to be due comes again as the same message, what broke later as a second one; both only when
    the sweeps have seen what is still true.
    """
    database, copy = tmp_path / "healthd.db", tmp_path / "copy.db"
    async with rig(tmp_path, sweep=SWEEPING) as scene:
        await scene.start()
        await settled(scene)
        due, repaired, later = (scene.account(name) for name in ("facebook", "linkedin", "pinterest"))
        async with scene.without_mail():
            for account in (due, repaired):
                scene.expire(account)
                await tried(scene, account)
            await asyncio.to_thread(backup.back_up, database, copy)
        scene.travel(timedelta(hours=1))
        scene.expire(later)
        first = {account.name: await scene.mail(account.name) for account in (due, repaired, later)}
        scene.repair(repaired)
        good_news = await scene.mail("connected again")
        with pytest.raises(guard.InUse):
            backup.restore(database, copy, scene.now(), "cli:ada", QUIET)

        await scene.stop()
        backup.restore(database, copy, scene.now(), "cli:ada", QUIET)
        seen = len(scene.mails())
        await scene.start()
        repeated = await scene.mail("connected again", since=seen)
        assert repeated.identity == good_news.identity
        await scene.until_state(later, State.EXPIRED)
        assert len(scene.mails()) == seen + 1, scene.mails()

        # On record, or the leap would end the lease of an attempt that is still under way.
        await scene.until(lambda: told(scene, repaired), "the record of the good news")
        scene.travel(QUIET)
        again = {account.name: await scene.mail(account.name, since=seen) for account in (due, later)}
        assert again[due.name].identity == first[due.name].identity
        assert again[later.name].identity != first[later.name].identity
        assert again[later.name].link != first[later.name].link
        assert len(scene.mails()) == seen + 3, scene.mails()


async def test_by_the_command_line_from_the_copy_to_the_restored_database(tmp_path: Path) -> None:
    fresh_store(tmp_path / "healthd.db")
    (tmp_path / "copies").mkdir()
    for day in ("20250101", "20250102"):
        (tmp_path / "copies" / f"healthd-{day}T000000Z.db").touch()
    made = await healthd("db", "backup", "copies", "--keep", "2", folder=tmp_path, **SETTINGS)
    assert made.code == 0, made.err
    assert "checked\n  1 older deleted, 2 kept" in made.out
    [_, copy] = sorted((tmp_path / "copies").iterdir())
    done = await healthd("db", "restore", str(copy), "--quiet-for", "0s", folder=tmp_path, **SETTINGS)
    assert done.code == 0, done.err
    assert "What stood there is kept: " in done.out
    assert "Nobody is told" not in done.out
    assert [name for name in files(tmp_path) if "before-restore" in name] != []


async def test_while_a_copy_is_put_back_nothing_starts_on_the_database(tmp_path: Path) -> None:
    fresh_store(tmp_path / "healthd.db")
    with guard.alone(tmp_path / "healthd.db"):
        said = await healthd("run", folder=tmp_path, **SETTINGS, **ANY_PORTS)
    assert said.code == 1
    assert "try again when that has ended" in said.err


async def test_a_copy_goes_into_a_pipe(tmp_path: Path) -> None:
    fresh_store(tmp_path / "healthd.db")
    (tmp_path / "healthd.toml").write_text('[link]\nmode = "direct"\n[workspaces.acme]\napi_key = "sqk_test_acme"\n')
    async with running("db", "backup", "-", folder=tmp_path, output=tmp_path / "copy.db") as process:
        assert await process.wait() == 0
    assert backup.examine(tmp_path / "copy.db").revision


WRONG = {
    "a file that is there": (("backup", "healthd.db"), 1, "--force"),
    "copies to be kept without a folder": (("backup", "new.db", "--keep", "2"), 2, "--keep is for a folder"),
    "no span of time": (("restore", "healthd.db", "--quiet-for", "soon"), 2, "--quiet-for"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_mistake_is_said_and_nothing_is_done(tmp_path: Path, what: str) -> None:
    words, code, said = WRONG[what]
    fresh_store(tmp_path / "healthd.db")
    finished = await healthd("db", *words, folder=tmp_path, **SETTINGS)
    assert (finished.code, finished.out) == (code, "")
    assert said in finished.err
    assert files(tmp_path) <= {"healthd.db", "healthd.db.lock"}
