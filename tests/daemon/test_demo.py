"""The demo: the whole story as a stranger runs it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from healthd.demo.catchers import Inbox
from healthd.demo.person import Person
from healthd.demo.stage import Stage
from healthd.demo.story import CHAPTERS, Play, _verdict, perform


@pytest.fixture
def one_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Demos take their usual ports when they are free; two that start together would want the same."""
    with (tmp_path_factory.getbasetemp().parent / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def demo(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "healthd", "demo", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


async def read_all(process: asyncio.subprocess.Process) -> str:
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    return output.decode()


def running() -> list[str]:
    """The command lines of all processes, as far as they can be read."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_text("utf-8", "replace").replace("\0", " "))
    return found


def is_there(folder: str) -> bool:
    return Path(folder).exists()


@pytest.mark.usefixtures("one_at_a_time")
async def test_the_whole_story_is_played_and_every_promise_is_kept() -> None:
    process = await demo("--once")
    told = await read_all(process)
    assert process.returncode == 0, told
    rows = [line for line in told.splitlines() if line.startswith("│") and "✓" in line]
    assert f"All {len(rows)} promises were kept." in told
    assert len(rows) >= len(CHAPTERS)
    assert "✗" not in told


@pytest.mark.usefixtures("one_at_a_time")
async def test_by_hand_it_waits_for_a_person_and_ends_with_everything_it_started() -> None:
    process = await demo()
    assert process.stdout is not None
    told = b""
    async with asyncio.timeout(60):
        while b"Now you:" not in told:
            piece = await process.stdout.read(4096)
            assert piece, told.decode()
            told += piece
    folder = next(word for word in told.decode().split() if "healthd-demo-" in word)
    assert any(" run " in command and folder in command for command in running())
    process.send_signal(signal.SIGINT)
    rest = await read_all(process)
    assert process.returncode == 0, rest
    assert not is_there(folder)
    assert not [command for command in running() if folder in command], "nothing is left running"


@pytest.mark.parametrize("kept", [True, False])
async def test_the_verdict_is_good_only_if_every_promise_was_kept(
    tmp_path: Path, kept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.log").write_text("what the daemon said")
    async with httpx2.AsyncClient() as http:
        play = Play(Stage(tmp_path, "127.0.0.1", {}, Inbox(), http), Person(http))
        play.note("the first promise", time.monotonic(), kept=True)
        play.note("the second promise", time.monotonic(), kept=kept)
        assert _verdict(play) == (0 if kept else 1)
    told = capsys.readouterr().out
    assert ("All 2 promises were kept." in told) is kept
    assert ("1 of 2 promises were broken." in told) is not kept
    assert ("what the daemon said" in told) is not kept


async def test_a_chapter_that_cannot_be_played_is_a_broken_promise_and_the_story_goes_on(tmp_path: Path) -> None:
    async def without_a_mail(play: Play) -> None:
        play.scene.inbox.find("Acme", way="mail")[0]

    async def fine(play: Play) -> None:
        play.note("something else", time.monotonic(), kept=True)

    async with httpx2.AsyncClient() as http:
        play = Play(Stage(tmp_path, "127.0.0.1", {}, Inbox(), http), Person(http))
        await perform(play, (without_a_mail, fine))
    assert [(line.kept, line.detail) for line in play.lines] == [(False, "IndexError"), (True, "")]
