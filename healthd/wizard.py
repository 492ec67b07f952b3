"""``healthd init``: asks what nobody can guess, checks each answer, writes the settings, registers the webhook."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from healthd.terminal import EXIT_CONFIG, EXIT_FAILED, fail

if TYPE_CHECKING:
    from pydantic import SecretStr

    from healthd.config import Settings
    from healthd.first_settings import Answers, Place, Way

KINDS = ("mail", "slack", "apprise", "none")
SECURITIES = ("starttls", "tls", "none")
_NO_NAME = re.compile(r"[^a-z0-9]+")


def add_to(app: typer.Typer) -> None:
    """Makes this command part of the whole."""
    app.command()(init)


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks a person, or takes what the command line gave. With ``silent`` nobody is asked."""

    silent: bool

    def ask(
        self,
        question: str,
        given: str | None,
        option: str,
        wrong: Callable[[str], list[str]],
        *,
        default: str | None = None,
        hidden: bool = False,
    ) -> str:
        """An answer with nothing wrong. A wrong one is asked for again; one of the command line ends the command."""
        if given is not None or self.silent:
            answer = given if given is not None else default
            if answer is None:
                fail(f"✗ {option} is missing", EXIT_CONFIG)
            if said := wrong(answer):
                fail(f"✗ {option}: {' '.join(said)}", EXIT_CONFIG)
            return answer
        while True:
            answer = str(typer.prompt(question, default=default, hide_input=hidden, show_default=bool(default))).strip()
            said = wrong(answer)
            if not said:
                return answer
            typer.echo(f"  ✗ {' '.join(said)}")

    def confirm(self, question: str, *, silently: bool) -> bool:
        """``silently`` is the answer where nobody is asked."""
        return silently if self.silent else typer.confirm(question, default=True)


def _with(answers: Answers, name: str, value: str) -> Answers:
    change: dict[str, Any] = {name: value}
    return replace(answers, **change)


def _one_of(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    return lambda answer: [] if answer in known else [f"is one of {', '.join(known)}"]


def _secret_from(path: Path | None, option: str) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"✗ {option}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}", EXIT_CONFIG)


@dataclass(frozen=True, slots=True)
class _Channels:
    """What the command line says of the way in which messages go out."""

    notify: str | None
    smtp_host: str | None
    smtp_port: int | None
    smtp_security: str | None
    smtp_username: str | None
    smtp_password: str | None
    sender: str | None
    slack_webhook: str | None
    apprise_url: str | None


def init(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file to write.")] = Path("healthd.toml"),
    base_url: Annotated[str | None, typer.Option(help="The API's address (default: SmartlyQ's).")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file with the API key; the variable SMARTLYQ_API_KEY does as well.")
    ] = None,
    workspace: Annotated[str | None, typer.Option("--workspace", "-w", help="A name for the workspace.")] = None,
    public_url: Annotated[
        str | None, typer.Option(help='The https address under which healthd is reached; "" for none.')
    ] = None,
    listen: Annotated[str | None, typer.Option(help="Where webhooks and the reconnect page listen.")] = None,
    admin_listen: Annotated[str | None, typer.Option(help="Where metrics and the operator's pages listen.")] = None,
    notify: Annotated[str | None, typer.Option(help=f"How messages go out: {', '.join(KINDS)}.")] = None,
    smtp_host: Annotated[str | None, typer.Option(help="The mail server.")] = None,
    smtp_port: Annotated[int | None, typer.Option(help="Its port.")] = None,
    smtp_security: Annotated[str | None, typer.Option(help=f"{', '.join(SECURITIES)}.")] = None,
    smtp_username: Annotated[str | None, typer.Option(help='Who logs in there; "" for nobody.')] = None,
    smtp_password_file: Annotated[Path | None, typer.Option(help="A file with the password.")] = None,
    sender: Annotated[str | None, typer.Option(help="The address that mails come from.")] = None,
    slack_webhook_file: Annotated[
        Path | None, typer.Option(help="A file with the URL of an incoming webhook of Slack.")
    ] = None,
    apprise_url_file: Annotated[Path | None, typer.Option(help="A file with an Apprise URL.")] = None,
    default: Annotated[str | None, typer.Option(help="The address that is told of broken accounts.")] = None,
    operator: Annotated[str | None, typer.Option(help="The address that is told when healthd needs help.")] = None,
    webhook: Annotated[
        bool | None, typer.Option("--webhook/--no-webhook", help="Whether to register the webhook.")
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Listen for as long as it takes to send and receive a test webhook.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take defaults for what is not given.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a settings file that is there.")] = False,
) -> None:
    """Write the first settings, by asking.

    It checks the API key, shows what it sees, asks whom to tell, writes the settings and the secrets beside them, and
    registers the webhook. Nothing is written before everything is answered.
    """
    from healthd.first_settings import Answers, Place, write  # noqa: PLC0415

    place = Place(config.absolute())
    if place.file.exists() and not force:
        fail(f"✗ {config} exists already: name another file with --config, or overwrite it with --force", EXIT_CONFIG)
    if not place.file.parent.is_dir():
        fail(f"✗ there is no folder {place.file.parent}", EXIT_CONFIG)
    asker = Asker(yes)
    key = _secret_from(api_key_file, "--api-key-file") or os.environ.get("SMARTLYQ_API_KEY")
    given = _Channels(
        notify, smtp_host, smtp_port, smtp_security, smtp_username,
        _secret_from(smtp_password_file, "--smtp-password-file"), sender,
        _secret_from(slack_webhook_file, "--slack-webhook-file"), _secret_from(apprise_url_file, "--apprise-url-file"),
    )  # fmt: skip
    answers, owner = _ask_key(asker, Answers("new", _secret("-")), base_url, key)
    answers = _ask_name(asker, answers, workspace, owner)
    answers = _ask_addresses(asker, answers, public_url, listen, admin_listen)
    answers = _ask_people(asker, answers, given, default, operator)
    try:
        write(answers, place)
    except OSError as error:
        fail(f"✗ {error.filename}: cannot be written: {error.strerror}")
    _load(place)
    typer.echo(f"\n✓ {place.file} is written, with its secrets in {place.folder}")
    _the_webhook(asker, answers, place, webhook, test=test)


def _secret(value: str) -> SecretStr:
    from pydantic import SecretStr as Secret  # noqa: PLC0415

    return Secret(value)


def _ask_key(asker: Asker, answers: Answers, base_url: str | None, key: str | None) -> tuple[Answers, str]:
    """The API's address and a key that it takes; and whose key it is."""
    from healthd import first_settings  # noqa: PLC0415
    from healthd.first_settings import mistakes  # noqa: PLC0415

    answers = replace(answers, base_url=asker.ask(
        "Address of the API", base_url, "--base-url",
        lambda url: mistakes(replace(answers, base_url=url), "workspaces.new.base_url"),
        default=first_settings.SMARTLYQ,
    ).rstrip("/"))  # fmt: skip
    owners: list[str] = []

    def wrong(text: str) -> list[str]:
        tried = replace(answers, api_key=_secret(text))
        return mistakes(tried, "workspaces.new.api_key") or _refused(tried, owners)

    if key is None:
        typer.echo("The API key needs the scopes social:read, social:write, webhooks:read and webhooks:write.")
    option = "--api-key-file or SMARTLYQ_API_KEY"
    answers = replace(answers, api_key=_secret(asker.ask("API key", key, option, wrong, hidden=True)))
    return answers, owners[-1]


def _refused(answers: Answers, owners: list[str]) -> list[str]:
    """Asks the API whose key it is, and shows what it sees."""
    from healthd import doctor, first_settings  # noqa: PLC0415
    from healthd.providers.base import ProviderError  # noqa: PLC0415
    from healthd.terminal import quiet_logs  # noqa: PLC0415

    async def inside(settings: Settings) -> None:
        owners.append(await first_settings.owner(settings))
        found = await doctor.online(settings)
        typer.echo("\n".join(str(one).replace("workspaces.new", "key") for one in found))
        _show_found(await first_settings.look(settings))

    settings = first_settings.checked(answers)
    quiet_logs(settings)
    try:
        asyncio.run(inside(settings))
    except ProviderError as error:
        return [f"{error}.", "Is the key right, and the address of the API?"]
    return []


def _show_found(found: object) -> None:
    from rich.text import Text  # noqa: PLC0415

    from healthd.first_settings import SHOWN_PROFILES, Found  # noqa: PLC0415
    from healthd.telling import add_row, table  # noqa: PLC0415
    from healthd.terminal import show  # noqa: PLC0415

    if not isinstance(found, Found):
        return
    shown = table("platform", "accounts", title=Text("What the key sees"))
    for platform, number in sorted(found.platforms.items()):
        add_row(shown, platform, str(number))
    add_row(shown, "all", str(found.platforms.total()))
    show(shown)
    if found.profiles:
        more = " and more" if len(found.profiles) > SHOWN_PROFILES else ""
        typer.echo(f"Profiles: {', '.join(found.profiles[:SHOWN_PROFILES])}{more}")


def _ask_name(asker: Asker, answers: Answers, workspace: str | None, owner: str) -> Answers:
    from healthd.config import NAME  # noqa: PLC0415

    def wrong(text: str) -> list[str]:
        # Two of them would be taken for a dot where a variable overrides a key of this workspace.
        good = NAME.fullmatch(text) and "__" not in text
        return [] if good else ["a name is lower-case letters, digits, - and single _"]

    name = asker.ask(
        "A short name for this workspace; it stands in the webhook's address", workspace, "--workspace", wrong,
        default=_NO_NAME.sub("-", owner.lower())[:40].strip("-") or "main",
    )  # fmt: skip
    return replace(answers, workspace=name)


def _ask_addresses(
    asker: Asker, answers: Answers, public_url: str | None, listen: str | None, admin_listen: str | None
) -> Answers:
    from healthd.first_settings import mistakes  # noqa: PLC0415

    if not asker.silent and public_url is None:
        typer.echo("\nhealthd needs an https address of its own, for webhooks and for the page behind the links in")
        typer.echo("messages. Leave it empty to go without both for now.")
    url = asker.ask(
        "Public address", public_url, "--public-url",
        lambda text: mistakes(replace(answers, public_url=text), "public_url") if text else [], default="",
    ).rstrip("/")  # fmt: skip
    answers = replace(answers, public_url=url)
    for name, given in (("listen", listen), ("admin_listen", admin_listen)):
        if given is not None:
            answers = _with(answers, name, given)
            if said := mistakes(answers, f"server.{name}"):
                fail(f"✗ --{name.replace('_', '-')}: {' '.join(said)}", EXIT_CONFIG)
    return answers


def _ask_people(asker: Asker, answers: Answers, given: _Channels, default: str | None, operator: str | None) -> Answers:
    """How messages go out, and to whom."""
    from healthd.first_settings import mistakes  # noqa: PLC0415

    kind = asker.ask(
        f"\nHow do messages go out ({', '.join(KINDS)})?", given.notify, "--notify", _one_of(KINDS),
        default="none" if asker.silent else "mail",
    )  # fmt: skip
    if kind == "none":
        typer.echo("! Nobody will be told: add a channel later, as config.example.toml shows.")
        return answers
    way = _WAYS[kind](asker, answers, given)
    answers = replace(answers, way=way)
    if not way.addressed:
        return replace(answers, default=way.name, operator=way.name)

    def wrong(key: str) -> Callable[[str], list[str]]:
        return lambda text: mistakes(_with(answers, key, f"{way.name}:{text}"), f"notices.{key}")

    first = asker.ask("Who is told of broken accounts (address)?", default, "--default", wrong("default"))
    other = asker.ask(
        "Who is told when healthd itself needs help?", operator, "--operator", wrong("operator"), default=first
    )
    return replace(answers, default=f"{way.name}:{first}", operator=f"{way.name}:{other}")


def _mail(asker: Asker, answers: Answers, given: _Channels) -> Way:
    from healthd.first_settings import Way, mistakes  # noqa: PLC0415

    way = Way("mail", {"type": "email", "host": "localhost", "sender": "healthd@example.com"}, addressed=True)

    def wrong(key: str) -> Callable[[str], list[str]]:
        return lambda text: mistakes(
            replace(answers, way=replace(way, keys={**way.keys, key: text})), f"channels.mail.{key}"
        )

    host = asker.ask("Mail server", given.smtp_host, "--smtp-host", wrong("host"))
    way.keys["host"] = host
    security = asker.ask(
        f"Its security ({', '.join(SECURITIES)})", given.smtp_security, "--smtp-security", wrong("security"),
        default="starttls",
    )  # fmt: skip
    way.keys["security"] = security
    usual = {"starttls": 587, "tls": 465, "none": 25}[security]
    port = None if given.smtp_port is None else str(given.smtp_port)
    way.keys["port"] = int(asker.ask("Its port", port, "--smtp-port", _a_port, default=str(usual)))
    name = asker.ask('Who logs in there ("" for nobody)', given.smtp_username, "--smtp-username", _anything, default="")
    if name:
        password = asker.ask("Password", given.smtp_password, "--smtp-password-file", _something, hidden=True)
        way.keys["username"] = name
        way.secrets["password"] = _secret(password)
    way.keys["sender"] = asker.ask("The address that mails come from", given.sender, "--sender", wrong("sender"))
    if said := mistakes(replace(answers, way=way), "channels.mail"):
        fail(f"✗ the mail server: {' '.join(said)}", EXIT_CONFIG)
    return way


def _anything(_: str) -> list[str]:
    return []


def _something(text: str) -> list[str]:
    return [] if text else ["is empty"]


def _a_port(text: str) -> list[str]:
    good = text.isascii() and text.isdigit() and 0 < int(text) < 65536
    return [] if good else ["is a number from 1 to 65535"]


def _slack(asker: Asker, answers: Answers, given: _Channels) -> Way:
    return _by_url(asker, answers, "slack", {"type": "slack"}, "webhook_url", "Incoming webhook URL of Slack",
                   given.slack_webhook, "--slack-webhook-file")  # fmt: skip


def _apprise(asker: Asker, answers: Answers, given: _Channels) -> Way:
    return _by_url(asker, answers, "service", {"type": "apprise"}, "url", "Apprise URL", given.apprise_url,
                   "--apprise-url-file")  # fmt: skip


def _by_url(
    asker: Asker, answers: Answers, name: str, keys: dict[str, str | int], key: str, question: str,
    given: str | None, option: str,
) -> Way:  # fmt: skip
    """A channel that is one secret URL."""
    from healthd.first_settings import Way, mistakes  # noqa: PLC0415

    def made(url: str) -> Way:
        return Way(name, keys, {key: _secret(url)}, addressed="{address}" in url)

    url = asker.ask(
        question,
        given,
        option,
        lambda text: mistakes(replace(answers, way=made(text)), f"channels.{name}"),
        hidden=True,
    )
    return made(url)


_WAYS: dict[str, Callable[[Asker, Answers, _Channels], Way]] = {"mail": _mail, "slack": _slack, "apprise": _apprise}


def _load(place: Place) -> Settings:
    """The settings as they are written; a slip of the wizard's must not be found by the daemon."""
    from healthd.config import ConfigError, load  # noqa: PLC0415
    from healthd.terminal import quiet_logs  # noqa: PLC0415

    try:
        settings = load(place.file)
    except ConfigError as error:
        fail("\n".join(f"✗ {problem}" for problem in error.problems), EXIT_CONFIG)
    quiet_logs(settings)
    return settings


def _the_webhook(asker: Asker, answers: Answers, place: Place, wanted: bool | None, *, test: bool) -> None:
    """Registers the webhook, if it can lead here and is wanted, and says what comes next."""
    from healthd.hooks_by_hand import NotDone  # noqa: PLC0415

    try:
        registered = _register(asker, answers, place, wanted)
        if test and registered:
            typer.echo(f"✓ {_test(answers, place)}")
    except NotDone as reason:
        typer.echo(f"✗ {reason}", err=True)
        _next(place, registered=False, tested=False)
        raise typer.Exit(EXIT_FAILED) from None
    _next(place, registered=registered, tested=test and registered)


def _register(asker: Asker, answers: Answers, place: Place, wanted: bool | None) -> bool:
    """Whether there is a webhook whose secret stands in the settings."""
    from healthd import hooks_by_hand  # noqa: PLC0415
    from healthd.first_settings import write  # noqa: PLC0415
    from healthd.self_care import is_callable, ours  # noqa: PLC0415

    if not answers.public_url or not is_callable(answers.public_url, answers.base_url):
        if answers.public_url or wanted:
            typer.echo("! No webhook: the provider calls public https addresses only.")
        return False
    if wanted is False or (wanted is None and not asker.confirm("Register the webhook now?", silently=True)):
        return False

    async def make() -> str:
        async with hooks_by_hand.opened(_load(place), answers.workspace, None) as hooks:
            mine = ours(await hooks.provider.webhooks(), hooks.url)
            if mine and place.webhook_secret.exists():
                return f"webhook {mine[-1].ref} leads to {hooks.url} already; its secret is kept"
            place.webhook_secret.unlink(missing_ok=True)
            with hooks_by_hand.secret_file(place.webhook_secret) as file:
                made = await hooks_by_hand.register(hooks)
                hooks_by_hand.put_secret(file, made)
            return f"webhook {made.subscription.ref} leads to {hooks.url}"

    typer.echo(f"✓ {asyncio.run(make())}")
    write(answers, place)
    return True


def _test(answers: Answers, place: Place) -> str:
    from healthd import hooks_by_hand  # noqa: PLC0415

    os.umask(0o077)
    return asyncio.run(hooks_by_hand.receive_test(_load(place), answers.workspace))


def _next(place: Place, *, registered: bool, tested: bool) -> None:
    typer.echo("\nNext:")
    config = "" if place.file == Path("healthd.toml").absolute() else f" --config {place.file}"
    steps = [f"healthd run{config}"]
    if not registered:
        steps.append(f"healthd webhook register{config}")
    if not tested:
        steps.append(f"healthd webhook test{config}")
    steps.append(f"healthd accounts{config}")
    typer.echo("\n".join(f"  {step}" for step in steps))
