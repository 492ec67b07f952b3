"""How the headers of our mail are written down."""

from __future__ import annotations

from email.header import Header
from email.headerregistry import HeaderRegistry, MessageIDHeader
from email.policy import EmailPolicy

LINE = 76
"""Characters of a line that holds an encoded word (RFC 2047, 2)."""


class MailPolicy(EmailPolicy):
    """The standard's, with two exceptions. Ids of other messages are never folded or encoded: a client could not match
    them then. A subject outside ASCII is encoded as a whole: piece by piece, Python 3.11 loses blanks between two
    pieces (https://github.com/python/cpython/issues/92081), and some later ones write what Yahoo refuses
    (https://github.com/python/cpython/issues/144156).
    """

    def fold(self, name: str, value: str) -> str:
        """One header as it goes over the wire."""
        if name.lower() != "subject" or value.isascii():
            folded: str = super().fold(name, value)
            return folded
        encoded = Header(str(value), "utf-8", header_name=name, maxlinelen=LINE).encode(linesep=self.linesep)
        return f"{name}: {encoded}{self.linesep}"

    def fold_binary(self, name: str, value: str) -> bytes:
        """As ``fold``."""
        if name.lower() != "subject" or value.isascii():
            return super().fold_binary(name, value)
        return self.fold(name, value).encode("ascii")


def mail_policy() -> MailPolicy:
    """For messages that go out by SMTP."""
    headers = HeaderRegistry()
    for name in ("in-reply-to", "references"):
        headers.map_to_type(name, MessageIDHeader)  # type: ignore[arg-type]
    return MailPolicy(linesep="\r\n", header_factory=headers)
