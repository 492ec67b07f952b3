"""A message as it was sent, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from healthd.channels.base import LINK
from healthd.store.accounts import StoredAccount
from healthd.store.notices import StoredNotice

MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)
"""What a mail's HTML may do while we show it: look as it did, and nothing else."""
LEFT_OUT = "(the reader’s own link)"


@dataclass(frozen=True, slots=True)
class NoticePage:
    """``leader`` is the first notice of the message in which this one went out: it holds the content."""

    notice: StoredNotice
    leader: StoredNotice
    account: StoredAccount | None

    @property
    def has_mail(self) -> bool:
        return "html" in (self.leader.content or {})

    @property
    def subject(self) -> str:
        content = self.leader.content or {}
        return content.get("subject") or content.get("title") or ""

    def texts(self) -> list[tuple[str, str]]:
        """``(name of the part, its text)``. The links are not there: what is stored opens nothing."""
        content = dict(self.leader.content or {})
        found = []
        for name, part in content.items():
            if name in {"html", "subject", "title"}:
                continue
            found.append((PARTS.get(name, name), _readable(name, part).replace(LINK, LEFT_OUT)))
        return found


PARTS = {
    "text": "As plain text",
    "blocks": "In Slack",
    "reply": "In the thread",
    "fixed": "Once it is repaired",
    "body": "Body",
    "severity": "Severity",
    "type": "Type",
}


def _readable(name: str, part: str) -> str:
    try:
        held = orjson.loads(part)
    except orjson.JSONDecodeError:
        return part
    if name in {"blocks", "reply", "fixed"}:
        return "\n".join(_lines(held))
    return orjson.dumps(held, option=orjson.OPT_INDENT_2).decode() if isinstance(held, (dict, list)) else part


def _lines(part: Any) -> Iterator[str]:
    """Every text of Slack's blocks, and where its buttons lead."""
    if isinstance(part, list):
        for inner in part:
            yield from _lines(inner)
    elif isinstance(part, dict):
        text = part.get("text")
        if isinstance(text, str):
            yield f"[ {text} ]" if part.get("type") == "button" else text
        elif isinstance(text, dict) and part.get("type") == "button":
            yield f"[ {text.get('text', '')} ]"
        else:
            yield from _lines(text)
        for name in ("fields", "elements", "accessory"):
            yield from _lines(part.get(name))
