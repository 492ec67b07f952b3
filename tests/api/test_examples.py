"""The commands of ``docs/api.md``, run by ``bash`` and ``curl`` against a server, answer what the page says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from healthd.api.late import ROOT
from healthd.api.problems import KINDS
from healthd.listener import Listener, bind
from tests.api.place import TOKENS, place

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
EXAMPLES = re.findall(r"```sh\n(.*?)```\n\n```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
WHATEVER = "…"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The API's address, with a store that has some of everything."""
    ports, ready, ends = list[int](), threading.Event(), threading.Event()

    async def serve() -> None:
        async with place(tmp_path) as here:
            with bind("127.0.0.1", 0) as bound:
                chosen = here.settings.server
                listening = Listener.of(
                    here.app, bound, header_timeout=chosen.header_timeout, body_timeout=chosen.body_timeout,
                    max_connections=chosen.max_connections, drain_timeout=chosen.drain_timeout,
                )  # fmt: skip
                task = asyncio.create_task(listening.run_until_exit())
                await listening.accepting.wait()
                ports.append(bound.getsockname()[1])
                ready.set()
                await asyncio.to_thread(ends.wait)
                listening.should_exit = True
                await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{ports[0]}{ROOT}"
    finally:
        ends.set()
        thread.join(30)


def documents(text: str) -> list[Any]:
    """JSON documents that stand one behind the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        one, at = decoder.raw_decode(text, at)
        found.append(one)
    return found


def says(answer: Any, excerpt: Any) -> bool:
    """Whether the answer holds all that the excerpt shows, and perhaps more."""
    if isinstance(excerpt, dict):
        return isinstance(answer, dict) and all(k in answer and says(answer[k], v) for k, v in excerpt.items())
    if isinstance(excerpt, list) and any(isinstance(one, dict) for one in excerpt):
        return isinstance(answer, list) and all(any(says(one, wanted) for one in answer) for wanted in excerpt)
    return bool(answer) if excerpt == WHATEVER else bool(answer == excerpt)


async def test_the_commands_of_the_page_answer_what_it_says(server: str) -> None:
    assert len(EXAMPLES) >= 7
    bash = shutil.which("bash") or "bash"
    for command, excerpt in EXAMPLES:
        assert command.count("curl") == len(documents(excerpt))
        process = await asyncio.create_subprocess_exec(
            bash, "-ec", command, stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HEALTHD": server, "TOKEN": TOKENS["operator"]},
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, command
        for answer, wanted in zip(documents(out.decode()), documents(excerpt), strict=True):
            assert says(answer, wanted), (command, answer)


def test_each_kind_of_problem_stands_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []
