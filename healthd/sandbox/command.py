"""``healthd sandbox``."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer
from rich.console import Console

from healthd.sandbox.app import SandboxOptions, serve

console = Console()


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on. The sandbox has no secrets and no locks.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8090,
    accounts: Annotated[int, typer.Option(min=0, help="Accounts in each workspace, over all platforms.")] = 32,
    workspace: Annotated[
        list[str] | None, typer.Option(help="A workspace's name; its key is sqk_test_NAME. Repeat for more.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(help="Where to send webhooks; {workspace} stands for the workspace's name.")
    ] = None,
    webhook_secret: Annotated[str | None, typer.Option(help="What to sign them with; made up if not given.")] = None,
    time_scale: Annotated[
        float, typer.Option(min=0.001, help="How many times faster than in life webhooks are retried.")
    ] = 1.0,
    rate_limit: Annotated[
        int | None, typer.Option(min=1, help="Requests a minute, instead of the published tiers.")
    ] = None,
    latency: Annotated[float, typer.Option(min=0, help="Seconds by which each answer is late.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes chance repeatable.")] = None,
    public_url: Annotated[str | None, typer.Option(help="The address that links carry, behind a proxy.")] = None,
) -> None:
    """Run a SmartlyQ on this machine: the same API, and accounts that break when you say so."""
    options = SandboxOptions(
        host=host,
        port=port,
        public_url=public_url,
        workspaces=tuple(workspace or ("sandbox",)),
        accounts=accounts,
        webhook_url=webhook,
        webhook_secret=webhook_secret,
        time_scale=time_scale,
        rate_limit=rate_limit,
        latency=latency,
        seed=seed,
    )
    if not _is_loopback(host):
        console.print("[yellow]Anybody who reaches this address can do anything in the sandbox.[/]")
    serve(options, lambda: _announce(options))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _announce(options: SandboxOptions) -> None:
    base = options.public_url or f"http://{options.host}:{options.port}"
    console.print(f"sandbox   {base}  (look, break, repair)")
    console.print(f"API       {base}/v1")
    for name in options.workspaces:
        console.print(f"key       sqk_test_{name}  ({options.accounts} accounts)")
