"""Logs: events with fields, JSON where a machine reads them, and no secret in any of them."""

from __future__ import annotations

import html
import json
import logging
import re
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor

_TOKENS = re.compile(r"(?i)\b(bearer\s+|basic\s+|sqk_(?:live|test)_|whsec_|xox[a-z]-|xapp-|hdt_)[A-Za-z0-9._~+/=-]+")
_LINK = re.compile(r"(/r/)[A-Za-z0-9_.~%-]{8,}")
# Of an address in the web only the host stays: a path or a query may open something, and what stands before an @ may
# be a password. Other schemes may carry a key in place of the host.
_WEB = re.compile(r"(?i)\b(https?://)(?:[^\s/?#\"'<>@]*@)?([^\s/?#\"'<>\\@]+)(?:[/?#][^\s\"'<>]*)?")
_OTHER_URL = re.compile(r"(?i)\b(?!https?:|sqlite:|file:)([a-z][a-z0-9+.-]{1,30}://)[^\s\"'<>]+")
_OUTSIDE = r"\s<>\"'(),:;@\[\]"
_MAIL = re.compile(rf"(?<![^{_OUTSIDE}])[^{_OUTSIDE}]+@[^{_OUTSIDE}]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SHORTEST = 6
"""A shorter secret is not looked for by value: it would blank out ordinary words."""


def _disguises(secret: str) -> Iterator[str]:
    """The secret as it may stand in a log: as it is, or quoted for where it was meant to go."""
    yield secret
    yield repr(secret)[1:-1]
    yield repr(secret.encode())[2:-1]
    yield json.dumps(secret)[1:-1]
    yield quote(secret)
    yield quote(secret, safe="")
    yield html.escape(secret)
    yield b64encode(secret.encode()).decode()


_WORDS, _LONGEST_WORD = 1024, 32
"""Of short texts, such as fields' names and what stands in most of them, so many are looked through once."""


class Redactor:
    """Masks every secret that was loaded, wherever it turns up, and whatever has the shape of one."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        known = {shape for secret in secrets if len(secret) >= _SHORTEST for shape in _disguises(secret)}
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None
        self._of_word = lru_cache(_WORDS)(self._redacted)

    def text(self, value: str) -> str:
        return self._of_word(value) if len(value) <= _LONGEST_WORD else self._redacted(value)

    def _redacted(self, value: str) -> str:
        if self._known is not None:
            value = self._known.sub("[redacted]", value)
        value = _TOKENS.sub(r"\1[redacted]", value)
        value = _WEB.sub(r"\1\2/…", value)
        value = _OTHER_URL.sub(r"\1[redacted]", value)
        value = _LINK.sub(r"\1[redacted]", value)
        return _MAIL.sub("[address]", value)

    def _any(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._any(key): self._any(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | Set):
            return [self._any(inner) for inner in value]
        if value is None or isinstance(value, int | float):
            return value
        return self.text(_in_words(value))

    def __call__(self, _: Any, __: str, event: EventDict) -> EventDict:
        record = {key: event.pop(key) for key in ("_record", "_from_structlog") if key in event}
        return {self.text(str(key)): self._any(value) for key, value in event.items()} | record


def _in_words(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a value that cannot be told must not stop what was to be done
        return f"{type(value).__name__} ({type(error).__name__})"


def _escape(_: Any, __: str, event: EventDict) -> EventDict:
    """On a terminal a control sequence would act. Values are quoted by the renderer, which prints these two raw."""
    shown = {"event": False, "exception": True}
    for key, keeps_lines in shown.items():
        if isinstance(text := event.get(key), str):
            text = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
            event[key] = text if keeps_lines else text.replace("\n", "\\n")
    return event


def configure(level: str, style: Literal["auto", "json", "pretty"], secrets: Sequence[str] = ()) -> None:
    """Sends everything to standard error, the standard library's records and uvicorn's among it."""
    pretty = style == "pretty" or (style == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Tracebacks become text before redaction, and never carry local variables: those hold keys and addresses.
        structlog.processors.format_exc_info,
        Redactor(secrets),
    ]
    last: list[Processor] = (
        [_escape, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if pretty
        else [structlog.processors.JSONRenderer(ensure_ascii=True)]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries tell every request's address, or every tick: of them only what went wrong is heard.
    root.setLevel(max(logging.getLevelNamesMapping()[level.upper()], logging.WARNING))
    logging.getLogger("healthd").setLevel(level.upper())
    # It warns of every sweep that begins while another is under way, which is as it should be.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
