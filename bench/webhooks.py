"""How many webhooks a second healthd puts on disk and acknowledges, beside a bare Starlette route that does nothing.

    python bench/webhooks.py [--requests 20000] [--connections 64]

The daemon is the real one, as a process of its own, draining its inbox while it acknowledges. The bare route runs under
the same uvicorn, uvloop and httptools. Both are asked by the same client in the same run, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from load import Result, fire, post

HOST = "127.0.0.1"
SECRET = "whsec_bench_bench_bench_bench"
ROUNDS = 3


def signed(event: str, number: int) -> bytes:
    """A webhook as the provider sends it, each with an id of its own."""
    data = {"account_id": 1 + number % 5000, "platform": "facebook", "account_name": "Bench", "reason": "expired"}
    envelope = {"id": f"evt_{os.urandom(8).hex()}", "event": event, "created_at": "2026-11-24T00:00:00Z", "data": data}
    body = json.dumps(envelope).encode()
    at = str(int(time.time()))
    digest = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return post("/webhooks/bench", body, {"x-smartlyq-signature": f"t={at},v1={digest}", "x-smartlyq-event": event})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def serve_bare(port: int) -> None:
    """The peer: the least that answers 202 to a POST, after reading its body."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def take(request: Request) -> Response:
        await request.body()
        return Response(status_code=202)

    app = Starlette(routes=[Route("/webhooks/{workspace}", take, methods=["POST"])])
    uvicorn.run(app, host=HOST, port=port, log_level="error", access_log=False, loop="uvloop", http="httptools")


def start_healthd(folder: Path, port: int) -> subprocess.Popen[bytes]:
    config = folder / "healthd.toml"
    config.write_text(
        f'[server]\nlisten = "{HOST}:{port}"\nadmin_listen = "{HOST}:{free_port()}"\n'
        f'[store]\nurl = "sqlite:///{folder / "healthd.db"}"\n[link]\nmode = "direct"\n[log]\nlevel = "error"\n'
        f'[workspaces.bench]\napi_key = "bench"\nbase_url = "http://{HOST}:9/v1"\nwebhook_secrets = ["{SECRET}"]\n'
    )
    return subprocess.Popen([sys.executable, "-m", "healthd", "run", "--config", str(config)], cwd=folder)


async def wait_open(port: int) -> None:
    for _ in range(400):
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit(f"nothing listens on port {port}")


def show(name: str, result: Result) -> None:
    statuses = ", ".join(f"{number} x {status}" for status, number in sorted(result.statuses.items()))
    print(
        f"  {name:<34} {result.rate:8.0f} /s   p50 {result.percentile(50):6.2f} ms   "
        f"p99 {result.percentile(99):6.2f} ms   ({statuses})"
    )


async def compare(event: str, requests: int, connections: int, ours: int, bare: int) -> None:
    """The best of several rounds for each side, since a shared machine only ever slows things down."""
    best: dict[str, Result] = {}
    for _ in range(ROUNDS):
        for name, port in (("healthd", ours), ("bare route", bare)):
            result = await fire(HOST, port, [signed(event, number) for number in range(requests)], connections)
            if name not in best or result.rate > best[name].rate:
                best[name] = result
    print(f"{event}, {requests} requests over {connections} connections, best of {ROUNDS}:")
    for name, result in best.items():
        show(name, result)
    print(f"  ratio, durable to bare: {best['healthd'].rate / best['bare route'].rate:.2f}\n")


async def main(requests: int, connections: int) -> None:
    with tempfile.TemporaryDirectory(prefix="healthd-bench-") as name:
        ours, bare = free_port(), free_port()
        processes = [
            start_healthd(Path(name), ours),
            subprocess.Popen([sys.executable, __file__, "--serve-bare", str(bare)]),
        ]
        try:
            await wait_open(ours)
            await wait_open(bare)
            await compare("comment.received", requests, connections, ours, bare)
            await compare("account.token_expired", requests, connections, ours, bare)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=20)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--serve-bare", type=int, metavar="PORT")
    chosen = parser.parse_args()
    if chosen.serve_bare:
        serve_bare(chosen.serve_bare)
    else:
        uvloop.run(main(chosen.requests, chosen.connections))
