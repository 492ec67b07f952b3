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
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].removeprefix(b"/v1/social/accounts").strip(b"/").split(b"/")
            self.transport.write(self.to(path))

    def to(self, path: list[bytes]) -> bytes:
        """``[b""]`` asks for the list, ``[b"health"]`` for all accounts' health, ``[b"17", b"health"]`` for one's."""
        number = int(path[0]) if path[0].isdigit() else None
        if number is not None:
            data: object = health(number)
        elif path == [b"health"]:
            data = {"accounts": [health(each) | {"is_active": True} for each in self.numbers]}
        else:
            data = [facts(each) for each in self.numbers]
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
