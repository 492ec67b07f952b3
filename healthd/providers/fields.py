"""Single values of an API's answer, as what they are meant to be or as nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from healthd.core.text import clean

REF = re.compile(r"[0-9]{1,20}", re.ASCII)


def read_ref(value: object) -> str | None:
    """An id as text: a positive integer, or digits. Kept as text, since not every database holds 64 unsigned bits."""
    if type(value) is int:
        text = str(value) if 0 < value < 10**20 else ""
    else:
        text = value if isinstance(value, str) else ""
    return text if REF.fullmatch(text) and not text.startswith("0") else None


def read_text(value: object, limit: int = 80) -> str | None:
    return clean(value, limit) or None if isinstance(value, str) else None


def read_time(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
