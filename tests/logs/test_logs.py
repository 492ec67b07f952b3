"""No secret in any log line, wherever it was hidden, and one line of JSON for each event."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from healthd import logs

KEY = 'sqk_live_CANARY"key\\with/odd+signs€'
PASSWORD = "CANARY pässword"
SECRETS = [KEY, PASSWORD, "https://hooks.slack.com/services/T0/B0/CANARYhook", "ntfy://user:CANARYntfy@x/y", "abc"]
MINTED = "https://app.smartlyq.com/connect/facebook?token=CANARYminted"

log = structlog.get_logger("healthd.test")
library = logging.getLogger("some.library")


class Odd:
    def __str__(self) -> str:
        return f"Odd({KEY})"

    __repr__ = __str__


class Untellable:
    def __str__(self) -> str:
        raise RuntimeError(KEY)

    __repr__ = __str__


def _fail(error: Exception) -> None:
    local = KEY  # in no traceback: locals are not shown
    assert local
    raise error


def _raise_chain() -> None:
    try:
        _fail(ValueError(f"refused with {KEY}"))
    except ValueError as error:
        raise RuntimeError(f"while sending to CANARY.person@acme.example with {PASSWORD!r}") from error


def _ours_in_an_exception() -> None:
    try:
        _raise_chain()
    except RuntimeError:
        log.exception("it.failed")


def _a_librarys_exception() -> None:
    try:
        _raise_chain()
    except RuntimeError:
        library.exception("failed with %s", KEY)


def _a_group_of_exceptions() -> None:
    try:
        _fail(ExceptionGroup("some", [ValueError(KEY), OSError(f"to {MINTED}")]))
    except ExceptionGroup:
        log.exception("it.failed")


def _warn() -> None:
    warnings.warn(f"do not use {KEY}", stacklevel=1)


PLANTED: dict[str, Callable[[], Any]] = {
    "the event's name": lambda: log.info("told " + KEY),
    "a value": lambda: log.info("it", value=PASSWORD),
    "a part of a value": lambda: log.info("it", value=f"login {PASSWORD} refused"),
    "a key": lambda: log.info("it", **{KEY: 1}),
    "a nested value": lambda: log.info("it", facts={"a": [{"b": (KEY, {PASSWORD})}]}),
    "a nested key": lambda: log.info("it", facts={"a": {KEY: 1}, PASSWORD.encode(): 2}),
    "bytes": lambda: log.info("it", body=f"x{KEY}y".encode()),
    "an object": lambda: log.info("it", thing=Odd(), things=[Odd()]),
    "an object that cannot be told": lambda: log.info("it", thing=Untellable()),
    "an exception as a value": lambda: log.info("it", error=ValueError(KEY)),
    "our traceback": _ours_in_an_exception,
    "a library's traceback": _a_librarys_exception,
    "a group's traceback": _a_group_of_exceptions,
    "a library's arguments": lambda: library.warning("POST %s with %r", MINTED, {"key": KEY}),
    "a library's named arguments": lambda: library.error("with %(key)s", {"key": KEY}),
    "a warning": _warn,
    "bound context": lambda: log.bind(who=KEY).info("it"),
    "a repr": lambda: log.info("it", value=repr(KEY), bytes=repr(KEY.encode())),
    "JSON": lambda: log.info("it", value=json.dumps({"key": KEY})),
    "a query": lambda: log.info("it", value="https://x.example/?key=sqk_live_CANARY%22key%5Cwith%2Fodd%2Bsigns%E2%82%AC"),
    "a log-in": lambda: log.info("it", value="AUTH PLAIN Q0FOQVJZIHDDpHNzd29yZA=="),
    "a hook's address": lambda: log.info("it", value="POST https://hooks.slack.com/services/T0/B0/CANARYhook"),
    "a service's address": lambda: log.info("it", value="tgram://CANARYtoken/CANARYchat?x=1"),
    "a user in an address": lambda: log.info("it", value="https://ada:CANARYpw@x.example/"),
    "a minted link": lambda: log.info("it", value=f"303 to {MINTED}."),
    "a link of ours": lambda: log.info("it", value="GET /r/CANARYtoken-1.abc HTTP/1.1"),
    "a key nobody loaded": lambda: log.info("it", value="Authorization: Bearer CANARYsomeones"),
    "a webhook secret nobody loaded": lambda: log.info("it", value="whsec_CANARY"),
    "an access token": lambda: log.info("it", value="hdt_CANARY"),
    "a Slack token nobody loaded": lambda: log.info("it", value="xoxe.xoxb-1-CANARY"),
    "a mail address": lambda: log.info("it", value="<CANARY.person+tag@acme.example>: unknown user"),
    "an international mail address": lambda: log.info("it", value="to CANARYä@bücher.example, and so on"),
    "a mail address without a dot": lambda: log.info("it", value="CANARY@localhost"),
    "a target": lambda: log.info("it", target="mail:CANARY@acme.example"),
}  # fmt: skip

TRACES = ("CANARY", "pässword", "p\\u00e4ssword", "Q0FOQVJZ", "odd+signs")


@pytest.mark.parametrize("style", ["json", "pretty"])
@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_no_secret_is_in_the_log_wherever_it_was_planted(
    plant: Callable[[], Any], style: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("debug", style, SECRETS)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        plant()
    said = capsys.readouterr().err
    assert said.strip()
    assert [trace for trace in TRACES if trace in said] == []


def test_what_is_no_secret_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", SECRETS)
    facts = {
        "platform": "abc",
        "at": "2026-11-24T08:00:00+00:00",
        "account_id": "1042",
        "number": 7,
        "share": 0.5,
        "yes": True,
        "nothing": None,
        "file": "sqlite:////data/healthd.db",
        "host": "https://api.smartlyq.com",
        "list": [1, "two"],
    }
    log.info("account.expired", **facts)
    told = json.loads(capsys.readouterr().err)
    assert {key: told[key] for key in facts} == facts | {"host": "https://api.smartlyq.com/…"}
    assert told["event"] == "account.expired"
    assert told["level"] == "info"
    assert told["logger"] == "healthd.test"


HOSTILE = "a\nb\r\x1b[2J\x07\u2028\u202e\x00\ud800"


def test_each_event_is_one_line_of_ascii_json_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    log.info("it " + HOSTILE, **{f"key{HOSTILE}": HOSTILE, "deep": {HOSTILE: [HOSTILE]}})
    library.warning("it %s", HOSTILE)
    _ours_in_an_exception()
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["level"] for line in lines] == ["info", "warning", "error"]
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_on_a_terminal_no_control_sequence_acts(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "pretty")
    log.info("it " + HOSTILE[:-1], key=HOSTILE[:-1])
    library.warning("it %s", HOSTILE[:-1])
    try:
        _fail(ValueError(HOSTILE[:-1]))
    except ValueError:
        log.exception("it.failed")
    said = capsys.readouterr().err
    assert [char for char in "\x1b\x07\u2028\u202e\x00\r" if char in said] == []
    first, second, *rest = said.splitlines()
    assert "it a\\nb\\r\\x1b[2J" in first
    assert "it a\\nb" in second
    assert "Traceback (most recent call last):" in rest


def test_libraries_are_heard_only_when_something_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    log.debug("ours")
    for name in ("httpx2", "urllib3.connectionpool", "apscheduler.executors.default", "sqlalchemy.engine", "any"):
        logging.getLogger(name).debug("too much")
        logging.getLogger(name).info("too much")
    library.warning("theirs")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["ours", "theirs"]


@pytest.mark.parametrize(("level", "heard"), [("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_obeyed(level: str, heard: int, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level, "json")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    library.info("e")
    assert len(capsys.readouterr().err.splitlines()) == heard
