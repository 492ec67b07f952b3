"""What all commands share: options, the settings, the store, and how an answer or a mistake is printed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from healthd.config import Settings
    from healthd.store.database import Store

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_NOT_FOUND = 3

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="HEALTHD_CONFIG", help="The settings file (default: healthd.toml, if there is one)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
WorkspaceOption = Annotated[str | None, typer.Option("--workspace", "-w", help="Only this workspace.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most this many rows.")]


def fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def show(shown: RenderableType) -> None:
    """A table as wide as the terminal, or as wide as it needs to be where the output goes into a file or a pipe."""
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)
    console.print(shown)


def one_of(what: str, wrong: str, known: Iterable[str]) -> str:
    """What is wrong with a name, and what was probably meant."""
    from healthd.config import did_you_mean  # noqa: PLC0415

    return f"✗ there is no {what} {wrong!r}; {did_you_mean(wrong, known)}"


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def settings_file(config: Path | None) -> Path | None:
    default = Path("healthd.toml")
    return config or (default if default.exists() else None)


def read_settings(config: Path | None) -> Settings:
    """The settings, or the end of the command with every mistake in them."""
    from healthd.config import ConfigError, load  # noqa: PLC0415

    try:
        return load(settings_file(config))
    except ConfigError as error:
        fail("\n".join(f"✗ {problem}" for problem in error.problems), EXIT_CONFIG)


def quiet_logs(settings: Settings) -> None:
    """For commands whose answer is their output: only what goes wrong is logged."""
    from healthd import logs  # noqa: PLC0415
    from healthd.config import secret_values  # noqa: PLC0415

    logs.configure("warning", settings.log.format, secret_values(settings))


def quietly(config: Path | None) -> Settings:
    """The settings for a command whose answer is its output. Ends the command where they hold mistakes."""
    settings = read_settings(config)
    quiet_logs(settings)
    return settings


def with_store(settings: Settings, work: Callable[[Store], Awaitable[T]]) -> T:
    from healthd.app import open_store  # noqa: PLC0415
    from healthd.store.database import StoreUnavailable  # noqa: PLC0415
    from healthd.store.migrations import WrongSchema  # noqa: PLC0415

    async def inside() -> T:
        async with open_store(settings) as store:
            return await work(store)

    try:
        return asyncio.run(inside())
    except (StoreUnavailable, WrongSchema) as error:
        fail(f"✗ {settings.store.url}: {error}")
