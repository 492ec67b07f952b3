"""The tokens of the reconnect page, ``/r/{token}``.

A token is a link's id and a signature over it. It is the same whenever it is made, so a repeated message carries the
same address, and the database holds nothing that opens the page. When a link expires or is revoked stands in its row.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from itsdangerous import Signer

# 43 characters hold two bits more than the signature has: the last one may only be one that leaves them zero, so that
# each link has exactly one token.
_TOKEN = re.compile(r"[0-9a-f]{16}\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII)


class Links:
    """Makes and checks tokens. ``keys`` are in order of age, the newest last: it signs, and all of them verify."""

    def __init__(self, public_url: str, keys: Sequence[str]) -> None:
        self._public_url = public_url.rstrip("/")
        self._signer = Signer(list(keys), salt="healthd.link", digest_method=hashlib.sha256)

    @property
    def secure(self) -> bool:
        return self._public_url.startswith("https:")

    def token(self, link_id: str) -> str:
        return self._signer.sign(link_id.encode()).decode()

    def url(self, link_id: str) -> str:
        """The address that goes into a message."""
        return f"{self._public_url}/r/{self.token(link_id)}"

    def check(self, token: str) -> str | None:
        """The link's id, or ``None`` for anything that we did not sign."""
        if not _TOKEN.fullmatch(token) or not self._signer.validate(token):
            return None
        return token.partition(".")[0]

    def sign(self, text: str) -> str:
        """A signature over anything else that the page hands out and gets back."""
        return self._signer.get_signature(text).decode()

    def signed(self, text: str, signature: str) -> bool:
        """Whether ``sign`` made this signature for this text, under any of the keys."""
        return signature.isascii() and self._signer.verify_signature(text, signature)


def fingerprint(token: str) -> str:
    """Tells tokens apart in logs without opening anything."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:12]
