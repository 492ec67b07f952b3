"""What the page about contacts shows works as it stands there."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest

from healthd.contact_files import Stock, compare, read
from healthd.core.model import Target
from healthd.core.owners import ResolvedLevel
from healthd.resolver import Question, Resolver, ResolverUnavailable

PAGE = (Path(__file__).parents[2] / "docs" / "contacts.md").read_text("utf-8")
SECRET = "whsec_" + base64.b64encode(b"a" * 32).decode()
CHANNELS = {"mail": lambda _: None, "slack": lambda _: None}


def shown(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_files_that_are_shown_can_be_imported() -> None:
    people, owners = shown("csv")
    document = shown("json")[0]
    book = read(
        [("people.csv", people.encode()), ("owners.csv", owners.encode())], CHANNELS, workspaces=["acme"], known=[]
    )
    assert book.contacts is not None
    assert list(book.contacts) == ["ada", "bob", "office"]
    assert book.owners is not None
    assert book.owners["acme", "profile", "5512"].owners == (("ada",), ("bob",), ("office",))
    assert book.owners["acme", "profile", "5512"].labels == {"tier": "gold"}
    assert len(compare(book, Stock()).assigned) == 4
    assert read([("people.json", document.encode())], CHANNELS, workspaces=["acme"], known=["bob", "office"]).owners


@contextmanager
def the_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example's own handler, on a port of the test's own."""
    [source] = shown("python")
    monkeypatch.setenv("RESOLVER_SECRET", SECRET)
    example: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, "docs/contacts.md", "exec"), example)
    monkeypatch.setattr(example["Owners"], "log_message", lambda *_: None)
    server = HTTPServer(("127.0.0.1", 0), example["Owners"])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_the_endpoint_that_is_shown_answers_healthd_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question("acme", "1001", "youtube", "Rocket Skates", "rocketskates", "5512", "cust-17", "Wile E.")
    with the_endpoint(monkeypatch) as url:
        healthd = Resolver(url, SECRET, channels=CHANNELS)
        found = await healthd.ask(question)
        assert found.left_out == ()
        assert found.resolved.levels == (ResolvedLevel(("ada",)), ResolvedLevel(("office",), timedelta(days=1)))
        assert found.resolved.contacts["ada"].addresses == (Target("mail", "ada@acme.example"),)
        assert (await healthd.ask(Question("acme", "7", "x", "X"))).resolved.levels == ()
        stranger = Resolver(url, "whsec_" + base64.b64encode(b"b" * 32).decode(), channels=CHANNELS)
        with pytest.raises(ResolverUnavailable, match="refused the question"):
            await stranger.ask(question)
        await stranger.close()
        await healthd.close()


async def test_the_question_is_the_one_that_is_shown() -> None:
    said = json.loads(shown("json")[1])
    question = Question("acme", "1001", "youtube", "Rocket Skates", "rocketskates", "5512", "cust-17", "Wile E.")
    assert said["data"] == question.data()
    assert said["type"] == "contacts.resolve"
