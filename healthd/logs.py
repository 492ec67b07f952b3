"""Logs: events with fields, JSON where a machine reads them, and no secret in any of them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

_BEARER = re.compile(r"(?i)\b(bearer\s+|sqk_(?:live|test)_|whsec_|xox[a-z]-)[A-Za-z0-9._~+/=-]+")
_MAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
_LINK = re.compile(r"(/r/)[A-Za-z0-9_.-]{8,}")
_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]+")
_SHORTEST = 6
"""A shorter secret is not looked for by value: it would blank out ordinary words."""


class Redactor:
    """Masks every secret that was loaded, wherever it turns up, and whatever has the shape of one."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        known = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, value: str) -> str:
        if self._known is not None:
            value = self._known.sub("[redacted]", value)
        value = _BEARER.sub(lambda found: f"{found[1]}[redacted]", value)
        value = _LINK.sub(r"\1[redacted]", value)
        value = _QUERY.sub(r"\1?[redacted]", value)
        return _MAIL.sub("[address]", value)

    def _any(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self._any(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._any(inner) for inner in value]
        return value if isinstance(value, int | float | bool | type(None)) else self.text(str(value))

    def __call__(self, _: Any, __: str, event: EventDict) -> EventDict:
        return {key: self._any(value) for key, value in event.items()}


def configure(level: str, style: Literal["auto", "json", "pretty"], secrets: Sequence[str] = ()) -> None:
    """Sends everything to standard error, the standard library's records and uvicorn's among it."""
    pretty = style == "pretty" or (style == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Tracebacks become text before redaction, and never carry local variables: those hold keys and addresses.
        structlog.processors.format_exc_info,
        Redactor(secrets),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(ensure_ascii=True)
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
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These tell every request's full address, or every tick, at INFO.
    for noisy in (
        "httpx2",
        "httpcore2",
        "apscheduler",
        "uvicorn.error",
        "uvicorn.access",
        "apprise",
        "asyncio",
        "alembic",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
