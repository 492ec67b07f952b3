"""People's addresses are their own: whoever only looks sees ``a…@acme.example``, and of a phone number a digit."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MAIL = re.compile(r"([^\s\"'<>@:;,()\[\]])[^\s\"'<>@:;,()\[\]]*@(?=[^\s\"'<>@:;,()\[\]])")


class Mask:
    """Knows the channels' names: in sentences an address stands behind that of its channel, as ``sms:+49…``."""

    def __init__(self, channels: Iterable[str]) -> None:
        names = "|".join(re.escape(name) for name in sorted(channels, key=len, reverse=True)) or r"(?!)"
        self._targets = re.compile(rf"(?<![\w-])({names}):(?![^\s\"',;]*@)([^\s\"',;])[^\s\"',;]*")

    def text(self, said: str) -> str:
        """A sentence without the addresses in it."""
        return self._targets.sub(r"\1:\2…", _MAIL.sub(r"\1…@", said))

    def address(self, text: str) -> str:
        """What is an address and nothing else, whatever it looks like."""
        masked = _MAIL.sub(r"\1…@", text)
        return masked if masked != text else text[:1] + "…" * bool(text)
