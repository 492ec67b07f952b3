"""The real daemon as a process, with the settings that a measurement needs and no mail to send."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load import post
from processes import HOST, Running, free_port, python, running, until

SECRET = "whsec_bench_bench_bench_bench"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Daemon:
    """A daemon that runs."""

    running: Running
    public: int
    """The port that takes webhooks."""
    admin: int

    def scrape(self) -> tuple[str, float]:
        """What Prometheus reads, and for how many milliseconds it waited."""
        started = time.perf_counter()
        with urllib.request.urlopen(f"http://{HOST}:{self.admin}/metrics", timeout=60) as answer:
            text: str = answer.read().decode()
        return text, (time.perf_counter() - started) * 1000

    def total(self, metric: str, **labels: str) -> float:
        """The sum of a metric's series that carry these labels."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        return sum(
            float(value)
            for name, found, value in _SAMPLE.findall(self.scrape()[0])
            if name == metric and all(label in found for label in wanted)
        )

    def until_known(self, accounts: int) -> float:
        """Waits until so many accounts were seen to be healthy; returns the seconds that took."""
        return until(lambda: self.total("healthd_accounts", state="healthy") >= accounts, f"{accounts} accounts", 900)

    def until_worked_off(self) -> float:
        """Waits until no webhook is left in the inbox; returns the seconds that took."""
        return until(lambda: self.total("healthd_inbox_webhooks", status="new") == 0, "the inbox", 900, pause=0.5)


def settings(
    store: str, provider: int, workspaces: Sequence[str], public: int, admin: int, sweep: Mapping[str, str]
) -> str:
    """The daemon's settings. ``store`` is a URL, ``provider`` the port of the API, ``sweep`` what differs there."""
    lines = [
        f'[server]\nlisten = "{HOST}:{public}"\nadmin_listen = "{HOST}:{admin}"',
        f'[store]\nurl = "{store}"\n[link]\nmode = "direct"\n[log]\nlevel = "error"\n[sweep]',
        *(f'{name} = "{value}"' for name, value in sweep.items()),
    ]
    lines += [
        f'[workspaces.{name}]\napi_key = "sqk_test_{name}"\nbase_url = "http://{HOST}:{provider}/v1"\n'
        f'rate_share = 1.0\nwebhook_secrets = ["{SECRET}"]'
        for name in workspaces
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def daemon(
    folder: Path,
    *,
    provider: int = 9,
    workspaces: Sequence[str] = ("bench",),
    store: str | None = None,
    core: int | None = None,
    **sweep: str,
) -> Iterator[Daemon]:
    """A daemon in that folder from when it takes webhooks to the end of the block; on a SQLite file where no other
    store is named, and alone with its webhooks where no provider is.
    """
    folder.mkdir(exist_ok=True)
    public, admin = free_port(), free_port()
    config = folder / "healthd.toml"
    config.write_text(
        settings(store or f"sqlite:///{folder / 'healthd.db'}", provider, workspaces, public, admin, sweep), "utf-8"
    )
    with running(python("-m", "healthd", "run", "--config", str(config)), core=core, port=public) as found:
        yield Daemon(found, public, admin)


def webhook(event: str, account: int, workspace: str = "bench") -> bytes:
    """The bytes of a webhook as the provider sends it, signed now, with an id of its own."""
    data = {"account_id": account, "platform": "facebook", "account_name": "Bench", "reason": "expired"}
    created_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = json.dumps(
        {"id": f"evt_{os.urandom(8).hex()}", "event": event, "created_at": created_at, "data": data}
    ).encode()
    at = str(int(time.time()))
    digest = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return post(f"/webhooks/{workspace}", body, {"x-smartlyq-signature": f"t={at},v1={digest}"})
