"""Answers of the API without people's addresses, for whoever only looks."""

from __future__ import annotations

from typing import Any

import orjson

from healthd.core import masking

_ADDRESSES = frozenset({"address", "addresses"})


class Mask(masking.Mask):
    """Also knows its way through JSON."""

    def __call__(self, body: bytes) -> bytes:
        """A JSON document without them."""
        return orjson.dumps(self._walk(orjson.loads(body), addresses=False)) if body else body

    def _walk(self, found: Any, *, addresses: bool) -> Any:
        match found:
            case str():
                return self.address(found) if addresses else self.text(found)
            case list():
                return [self._walk(one, addresses=addresses) for one in found]
            case dict():
                return {name: self._walk(one, addresses=addresses or name in _ADDRESSES) for name, one in found.items()}
        return found
