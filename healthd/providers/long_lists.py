"""Reading a JSON answer whose list may have a million rows, while it arrives: the rows a piece at a time, the rest at
the end.

Neither the whole text nor all rows are ever held at once, and the interpreter's lock is held for one piece at a time:
webhooks wait for it in another thread.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

PIECE = 64 * 1024
"""Bytes of a long answer that are parsed at a time."""

_GUESSES = 8
_ROW = re.compile(rb"\}[ \t\r\n]*,(?=[ \t\r\n]*\{)")
_CUT_OUT = b"0,"
"""Stands in the rest in place of the rows that were read before."""
# Pairs and other escapes are matched first, so that only what stands alone is left for ``half``.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)


def read_json(body: bytes) -> Any:
    """What the body says. Half a character in one account's name must not hide all the others' health."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        mended = _ESCAPE.sub(_whole_character, body)
        if mended == body:
            raise
        return orjson.loads(mended)


def _whole_character(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape["half"] else escape[0]


class LongList:
    """The list at ``path`` in an object, whose rows are objects. ``take`` is given them in order, some at a time.

    Text that is not as it was guessed to be is read as one at the end. Nothing of what was taken counts before ``end``
    has returned: only then is it known that the text was whole.
    """

    def __init__(self, path: Sequence[str], take: Callable[[list[Any]], None], size: int = PIECE) -> None:
        self._path = path
        self._take = take
        self._size = size
        self._opens = re.compile(rb'"%b"[ \t\r\n]*:[ \t\r\n]*\[' % path[-1].encode())
        self._closes = b"0]" + b"}" * len(path)
        self._head = b""
        self._text = bytearray()
        self._enough = 2 * size
        self._cut = self._whole = False

    def add(self, text: bytes) -> bool:
        """Keeps the next part of the text; whether there is enough of it for ``read``."""
        self._text += text
        return not self._whole and len(self._text) > self._enough

    def read(self) -> None:
        """Takes the rows of what has arrived so far, but for the last ones. Costs time: away from the event loop."""
        if not self._head and not self._open():
            self._whole = True  # read as one at the end
            return
        start = 0
        while len(self._text) - start > 2 * self._size:
            piece = _piece(self._text, start, self._size)
            if piece is None:
                break
            rows, start = piece
            self._take(rows)
            self._cut = True
        del self._text[:start]
        # A row longer than all guesses is looked at again when twice as much is there, not at every part.
        self._enough = max(2 * self._size, 2 * len(self._text) if not start else 0)

    def end(self) -> Any:
        """Takes the last rows. Returns what the text says without its list: that is empty where it was one of rows.

        Raises ``ValueError`` where the text is no JSON, or where its list is not where it seemed to be.
        """
        said = read_json(bytes(self._head + (_CUT_OUT if self._cut else b"") + self._text))
        holder = said
        for name in self._path[:-1]:
            holder = holder.get(name) if isinstance(holder, dict) else None
        rows = holder.get(self._path[-1]) if isinstance(holder, dict) else None
        if self._cut and not (isinstance(rows, list) and rows and rows[0] == 0):
            raise ValueError("the list is not where it seemed to be")
        if isinstance(rows, list):
            self._take(rows[1:] if self._cut else rows)
            rows.clear()
        return said

    def _open(self) -> bool:
        """Whether the list begins in what is there; all up to its first row becomes the head."""
        ends = [found.end() for found in itertools.islice(self._opens.finditer(self._text), _GUESSES)]
        for end in ends:
            head = bytes(self._text[:end])
            try:
                holder = read_json(head + self._closes)
            except ValueError:
                continue
            for name in self._path:
                holder = holder.get(name) if isinstance(holder, dict) else None
            if holder == [0]:
                self._head = head
                del self._text[:end]
                return True
        return False


def _piece(text: bytearray, start: int, size: int) -> tuple[list[Any], int] | None:
    """Some rows, and where the next ones begin. A guess is safe to try: text that is cut inside a row or inside a
    string is no JSON.
    """
    for cut in itertools.islice(_ROW.finditer(text, start + size), _GUESSES):
        try:
            rows = read_json(b"[%b]" % bytes(text[start : cut.start() + 1]))
        except ValueError:
            continue
        return rows, cut.end()
    return None


class Packed:
    """Rows kept for later in little room: as text, compressed. ``len`` says how many."""

    def __init__(self) -> None:
        self._packs: list[bytes] = []
        self._rows = 0

    def add(self, rows: Sequence[Any]) -> None:
        if rows:
            self._packs.append(zlib.compress(orjson.dumps(rows), 1))
            self._rows += len(rows)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Any]:
        for pack in self._packs:
            yield from orjson.loads(zlib.decompress(pack))
