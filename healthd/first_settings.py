"""A first settings file, from the few things that nobody can guess; secrets go into files of their own beside it."""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from healthd.app import VERSION, build_workspaces
from healthd.config import ENV_PREFIX, ConfigError, Settings, load
from healthd.core.model import Lane
from healthd.metrics import Metrics
from healthd.providers.base import ProviderError
from healthd.self_care import LOOPBACK

SMARTLYQ = "https://api.smartlyq.com/v1"
SHOWN_PROFILES = 20


@dataclass(frozen=True, slots=True)
class Way:
    """How messages go out: a channel's name, its plain keys and its secret ones. ``addressed`` ones want an address."""

    name: str
    keys: dict[str, str | int]
    secrets: dict[str, SecretStr] = field(default_factory=dict)
    addressed: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked. ``default`` and ``operator`` are targets, such as ``mail:ada@example.com``."""

    workspace: str
    api_key: SecretStr
    base_url: str = SMARTLYQ
    public_url: str = ""
    listen: str = "0.0.0.0:8080"
    admin_listen: str = "127.0.0.1:9090"
    way: Way | None = None
    default: str = ""
    operator: str = ""

    def items(self) -> Iterator[tuple[tuple[str, ...], object]]:
        """Everything as dotted keys and values, secrets in clear."""
        here = ("workspaces", self.workspace)
        yield (*here, "api_key"), self.api_key.get_secret_value()
        yield (*here, "base_url"), self.base_url
        yield ("server", "listen"), self.listen
        yield ("server", "admin_listen"), self.admin_listen
        if self.public_url:
            yield ("public_url",), self.public_url
            yield ("link", "secrets"), ["-" * 32]
        else:
            yield ("link", "mode"), "direct"
        if self.way is not None:
            for name, value in self.way.keys.items():
                yield ("channels", self.way.name, name), value
            for name, secret in self.way.secrets.items():
                yield ("channels", self.way.name, name), secret.get_secret_value()
        for name, target in (("default", self.default), ("operator", self.operator)):
            if target:
                yield ("notices", name), [target]


def checked(answers: Answers) -> Settings:
    """The settings that the answers amount to, without a file. Raises ``ConfigError``."""
    environ = {
        ENV_PREFIX + "__".join(place).upper(): value if isinstance(value, str) else json.dumps(value)
        for place, value in answers.items()
    }
    return load(None, environ)


def mistakes(answers: Answers, *keys: str) -> list[str]:
    """What is wrong with the answers at these dotted keys, or anywhere below."""
    try:
        checked(answers)
    except ConfigError as error:
        return [
            f"{problem.message} {problem.hint}".strip()
            for problem in error.problems
            if any(problem.key == key or problem.key.startswith(f"{key}.") for key in keys)
        ]
    return []


@dataclass(frozen=True, slots=True)
class Place:
    """Where the settings go. Secrets lie in a folder beside them."""

    file: Path

    @property
    def folder(self) -> Path:
        return self.file.parent / f"{self.file.stem}-secrets"

    @property
    def webhook_secret(self) -> Path:
        return self.folder / "webhook"

    @property
    def store(self) -> Path:
        return self.file.parent / "healthd.db"


def write(answers: Answers, place: Place) -> None:
    """Writes secrets and settings, readable by nobody else. What signs links and webhooks already stays: messages that
    were sent carry links. Raises ``OSError``.
    """
    place.folder.mkdir(mode=0o700, exist_ok=True)
    _private(place.folder / "api_key", answers.api_key.get_secret_value())
    if answers.public_url and not (place.folder / "link").exists():
        _private(place.folder / "link", secrets.token_urlsafe(32))
    for name, secret in (answers.way.secrets if answers.way else {}).items():
        _private(place.folder / name, secret.get_secret_value())
    _private(place.file, text(answers, place))


def _private(path: Path, content: str) -> None:
    """All of it or nothing, and never readable by others in between."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content if content.endswith("\n") else f"{content}\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def text(answers: Answers, place: Place) -> str:
    """The settings, with what a newcomer has to know about each key."""
    return "\n".join(
        [
            *_head(answers, place),
            *_workspace(answers, place),
            *_channel(answers, place),
            *_notices(answers),
        ]
    )


def _head(answers: Answers, place: Place) -> Iterator[str]:
    yield "# Made by `healthd init`. Every other key, with its default, stands in config.example.toml."
    yield f"# After a change: healthd check-config --config {place.file}"
    yield ""
    if answers.public_url:
        yield "# Where people and the provider reach healthd, by a TLS proxy. Links in messages lead here."
        yield f"public_url = {_quoted(answers.public_url)}"
        yield ""
    yield "[server]"
    yield "# Public: webhooks and the reconnect page."
    yield f"listen = {_quoted(answers.listen)}"
    yield "# Private: metrics and the operator's pages."
    yield f"admin_listen = {_quoted(answers.admin_listen)}"
    yield ""
    yield "[store]"
    yield "# One file on a local disk. Back it up."
    yield f"url = {_quoted(f'sqlite:///{place.store.absolute()}')}"
    yield ""
    yield "[link]"
    if answers.public_url:
        yield "# Signs the links in messages."
        yield f"secrets = [{_in_file(place.folder / 'link')}]"
    else:
        yield "# Without a public_url messages carry the provider's links, which work once and for 15 minutes."
        yield 'mode = "direct"'
    if (urlsplit(answers.base_url).hostname or "") in LOOPBACK:
        yield "# The sandbox on this machine."
        yield f"allowed_hosts = [{_quoted(urlsplit(answers.base_url).netloc)}]"
    yield ""


def _workspace(answers: Answers, place: Place) -> Iterator[str]:
    yield "# Its name stands in the webhook's address."
    yield f"[workspaces.{answers.workspace}]"
    yield f"api_key = {_in_file(place.folder / 'api_key')}"
    if answers.base_url != SMARTLYQ:
        yield f"base_url = {_quoted(answers.base_url)}"
    if place.webhook_secret.exists():
        yield "# Proves that a webhook comes from the provider. `healthd webhook rotate` changes it without a gap."
        yield f"webhook_secrets = [{_in_file(place.webhook_secret)}]"
    else:
        yield "# `healthd webhook register` gives one. Without it trouble is found by the sweep alone, a minute later."
        yield "webhook_secrets = []"
    yield ""


def _channel(answers: Answers, place: Place) -> Iterator[str]:
    way = answers.way
    if way is None:
        return
    yield "# How messages go out. `healthd notify-test` sends one."
    yield f"[channels.{way.name}]"
    for name, value in way.keys.items():
        yield f"{name} = {value if isinstance(value, int) else _quoted(value)}"
    for name in way.secrets:
        yield f"{name} = {_in_file(place.folder / name)}"
    yield ""


def _notices(answers: Answers) -> Iterator[str]:
    yield "[notices]"
    yield "# Who is told of a broken account that has no owner on record: see docs/contacts.md."
    yield f"default = [{_quoted(answers.default) if answers.default else ''}]"
    yield "# Who is told, once, when healthd itself needs help: a revoked key, a silent API, a webhook that is gone."
    yield f"operator = [{_quoted(answers.operator) if answers.operator else ''}]"
    yield ""


def _in_file(path: Path) -> str:
    return f"{{ file = {_quoted(str(path.absolute()))} }}"


def _quoted(value: str) -> str:
    """As TOML writes it, whose strings are those of JSON."""
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Found:
    """What a key sees: accounts by platform, and the names of some profiles."""

    platforms: Counter[str]
    profiles: list[str]


async def look(settings: Settings) -> Found:
    """Raises ``ProviderError`` where the key may not even list accounts; profiles are no must."""
    [one] = build_workspaces(settings, Metrics(VERSION)).values()
    async with one.provider.session():
        listed = await one.provider.list_accounts(None, Lane.CLICK)
        names: list[str] = []
        try:
            async for profile in one.provider.profiles():
                names.append(profile.name)
                if len(names) > SHOWN_PROFILES:
                    break
        except ProviderError:
            names = []
        return Found(Counter(account.platform for account in listed.entries), names)


async def owner(settings: Settings) -> str:
    """Whose key it is. Raises ``ProviderError``."""
    [one] = build_workspaces(settings, Metrics(VERSION)).values()
    async with one.provider.session():
        return await one.provider.identity()
