"""``healthd sandbox``."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer
from rich.console import Console

from healthd.sandbox.app import Sandbox, SandboxOptions, serve

console = Console()


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on. The sandbox has no secrets and no locks.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any that is free.")] = 8090,
    accounts: Annotated[int, typer.Option(min=0, help="Accounts in each workspace, over all platforms.")] = 32,
    profiles: Annotated[
        int, typer.Option(min=0, help="Profiles in each workspace that its accounts are spread over; 0: none.")
    ] = 0,
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
        profiles=profiles,
        webhook_url=webhook,
        webhook_secret=webhook_secret,
        time_scale=time_scale,
        rate_limit=rate_limit,
        latency=latency,
        seed=seed,
    )
    if not _is_loopback(host):
        console.print("[yellow]Anybody who reaches this address can do anything in the sandbox.[/]")
    serve(options, _announce)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _announce(running: Sandbox) -> None:
    base = running.api.public_url
    lines = [f"sandbox   {base}  (look, break, repair)", f"API       {base}/v1"]
    lines += [
        f"key       sqk_test_{name}  ({running.options.accounts} accounts)" for name in running.options.workspaces
    ]
    lines += [f"webhook   {e.url}  signed with {e.secret}" for e in running.sender.endpoints.values()]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
