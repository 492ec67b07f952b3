"""The one door for text that somebody else wrote: account names, reasons, handles.

What passes it can be stored in SQLite and PostgreSQL, put into a mail header, a Slack block, a log line, a page and a
metric label without breaking any of them. Escaping for each of those is still their own work.
"""

from __future__ import annotations

import re
import unicodedata

NAME_LIMIT = 80
"""Characters of an account's name that are kept: enough to recognise it, short enough for a subject line."""

# Besides controls: zero-width and direction marks, which can make one name read as another. The joiners U+200C and
# U+200D stay, since scripts and emoji need them.
_INVISIBLE = re.compile(
    "[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff]+"
)
_SPACES = re.compile(r"\s+")
_TO_MEND = re.compile(r"^ |  | $|=\?")


def clean(text: str, limit: int = NAME_LIMIT) -> str:
    """The text in NFC, on one line, without what cannot be seen, and at most ``limit`` characters long.

    ``=?`` is broken up, because Python before 3.11.10 and 3.12.5 turns an encoded word inside a display name into real
    header lines (CVE-2024-6923). Idempotent.
    """
    if len(text) <= limit and text.isascii() and text.isprintable() and not _TO_MEND.search(text):
        return text  # as nearly all are; these come by the million
    text = _INVISIBLE.sub(" ", unicodedata.normalize("NFC", text[: limit * 8]))
    text = _SPACES.sub(" ", text).strip().replace("=?", "= ?")
    if len(text) <= limit:
        return text
    cut = limit - 1
    while cut > limit // 2 and (unicodedata.combining(text[cut]) or "\u200d" in text[cut - 1 : cut + 1]):
        cut -= 1
    return text[:cut].rstrip() + "…"
