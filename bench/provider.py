"""An API on loopback that costs as little as it can: one answer to each question, and every account is healthy.

    python bench/provider.py PORT ACCOUNTS

The sandbox answers as the contract says and takes as long for it as the daemon that asks; beside this one the daemon is
what is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import cast

import uvloop

PLENTY = 100_000
"""Requests a minute: the highest limit that healthd believes."""
PLATFORMS = ("facebook", "instagram", "linkedin", "threads")


def answer(body: bytes) -> bytes:
    """A whole answer with a rate limit that nobody reaches."""
    lines = ["HTTP/1.1 200 OK", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"x-ratelimit-limit: {PLENTY}", f"x-ratelimit-remaining: {PLENTY - 1}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def facts(number: int) -> dict[str, object]:
    name = f"Account {number}"
    return {"id": number, "platform": PLATFORMS[number % len(PLATFORMS)], "account_name": name, "name": name}


class Api(asyncio.Protocol):
    """One connection: requests come one after the other, none has a body."""

    def __init__(self, accounts: int) -> None:
        self.accounts = accounts
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            self.transport.write(self.to(head.split(b" ", 2)[1].split(b"/")[2:]))

    def to(self, path: list[bytes]) -> bytes:
        """Path by path, what stands behind the version; what it knows nothing of is empty."""
        match path:
            case [b"social", b"accounts", b"health"]:
                data: object = {"accounts": [health(each) | {"is_active": True} for each in self.numbers]}
            case [b"social", b"accounts", number, b"health"]:
                data = health(int(number))
            case [b"social", b"accounts"]:
                data = [facts(each) for each in self.numbers]
            case _:
                data = {"profiles": [], "webhooks": []}
        meta = {"request_id": "req_bench", "timestamp": datetime.now(UTC).isoformat()}
        return answer(json.dumps({"success": True, "data": data, "meta": meta}).encode())

    @property
    def numbers(self) -> range:
        return range(1, self.accounts + 1)


def health(number: int) -> dict[str, object]:
    return {**facts(number), "status": "connected", "token_expired": False, "validity_days": 60}


async def serve(port: int, accounts: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Api(accounts), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
