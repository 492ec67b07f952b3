"""Spans of time as people write and read them."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.ASCII)
_WHOLE = re.compile(r"(?:\s*\d+(?:\.\d+)?\s*[smhdw])+\s*", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """``"90s"``, ``"5m"``, ``"1h 30m"``, ``"7d"``, ``"2w"``. Raises ``ValueError`` with an example of what is meant."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a span of time: write a number and a unit, such as 90s, 5m, 6h, 7d")
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    except OverflowError:
        raise ValueError("that is a longer span of time than any calendar holds") from None


def in_words(span: timedelta) -> str:
    """The span as a person would say it, in its largest sensible unit: ``"3 days"``, ``"an hour"``."""
    seconds = max(0, int(span.total_seconds()))
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = seconds // size
            article = "an" if name == "hour" else "a"
            return f"{article} {name}" if count == 1 else f"{count} {name}s"
    return "less than a minute"
