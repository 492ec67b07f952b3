"""A kill in the middle of a migration: the database is as before or as after, and the next start goes on from there."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from healthd.store import migrations
from healthd.store.database import sqlite_engine
from tests.crash.lives import life, stage
from tests.crash.mortal import STATEMENT

UPGRADE = ("db", "upgrade")
LAST = 36
AROUND = [f"migrations.upgrade#1:{moment}" for moment in ("before", "after")]
STATEMENTS = [f"{STATEMENT}#{number}:before" for number in (1, 5, 20, LAST)]
"""In the middle: after that many statements, none of them committed."""


def schema(file: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as base:
        return base.execute("select name, sql from sqlite_master where name not like 'sqlite_%' order by 1").fetchall()


@pytest.fixture
def wanted(tmp_path: Path) -> list[tuple[str, str]]:
    """What an undisturbed migration makes."""
    file = tmp_path / "undisturbed.db"
    engine = sqlite_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        migrations.upgrade(connection)
    engine.dispose()
    return schema(file)


async def test_the_statements_that_are_killed_here_all_lie_inside_the_migration(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, life(on, arguments=UPGRADE, ready=False) as upgrade:
        assert await upgrade.ended() == 0
        assert len([step for step in on.trace if step.name == STATEMENT]) > LAST


@pytest.mark.parametrize("kill", [*STATEMENTS, *AROUND])
async def test_a_migration_that_was_killed_is_done_whole_or_not_at_all_and_the_daemon_starts(
    tmp_path: Path, wanted: list[tuple[str, str]], kill: str
) -> None:
    async with stage(tmp_path) as on:
        async with life(on, arguments=UPGRADE, ready=False, kill=kill) as upgrade:
            await upgrade.killed()
        assert schema(tmp_path / "healthd.db") == (wanted if kill.endswith(":after") else [])
        async with life(on):
            assert schema(tmp_path / "healthd.db") == wanted
            await on.until_quiet()


async def test_a_daemon_that_is_killed_while_it_makes_its_tables_starts_again(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        async with life(on, ready=False, kill=f"{STATEMENT}#20:before") as first:
            await first.killed()
        async with life(on):
            await on.until_quiet()
