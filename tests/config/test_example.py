"""``config.example.toml`` works, names every key that there is, and tells the truth about defaults."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import BaseModel

from healthd.access import OidcSettings, ProxySettings, TokenSettings
from healthd.bounces import BounceSettings
from healthd.channels.anything_else import AppriseSettings
from healthd.channels.email import EmailSettings
from healthd.channels.slack import SlackSettings
from healthd.channels.webhook import WebhookSettings
from healthd.config import (
    AccessSettings,
    ContactSettings,
    LifetimeSettings,
    LinkSettings,
    LogSettings,
    NoticeSettings,
    PostSettings,
    RouteSettings,
    Server,
    Settings,
    StepSettings,
    StoreSettings,
    StormSettings,
    SweepSettings,
    TracingSettings,
    WebhookCareSettings,
    WorkspaceSettings,
    load,
)

# Apprise asks for a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

EXAMPLE = (Path(__file__).parents[2] / "config.example.toml").read_text("utf-8")

SECTIONS: dict[type[BaseModel], tuple[str, ...]] = {
    Server: ("server",),
    AccessSettings: ("access",),
    TokenSettings: ("access.tokens.prometheus",),
    OidcSettings: ("access.oidc",),
    ProxySettings: ("access.proxy",),
    StoreSettings: ("store",),
    LinkSettings: ("link",),
    SweepSettings: ("sweep",),
    NoticeSettings: ("notices",),
    StormSettings: ("storm",),
    PostSettings: ("posts",),
    WebhookCareSettings: ("webhook",),
    ContactSettings: ("contacts",),
    TracingSettings: ("tracing",),
    LogSettings: ("log",),
    WorkspaceSettings: ("workspaces.acme",),
    EmailSettings: ("channels.mail",),
    SlackSettings: ("channels.team-slack", "channels.hook"),
    AppriseSettings: ("channels.phone",),
    WebhookSettings: ("channels.app",),
    BounceSettings: ("bounces.ses",),
    RouteSettings: ("routes",),
    LifetimeSettings: ("lifetimes.linkedin",),
}
"""Where the example shows each kind of section."""

INLINE: dict[type[BaseModel], str] = {StepSettings: "then"}
"""Sections that the example writes as values of this key."""

SECRET_FILES = {
    "healthd_database": "password",
    "healthd_prometheus": "0123456789abcdef0123456789abcdef",
    "healthd_oidc": "client-secret",
    "healthd_link": "0123456789abcdef0123456789abcdef",
    "smartlyq_key": "sqk_live_key",
    "smartlyq_webhook": "whsec_key",
    "smtp_password": "password",
    "slack_token": "xoxb-token",
    "slack_signing": "8f742231b10e8888abcd99yyyzzz85a5",
    "slack_webhook": "https://hooks.slack.com/services/T0/B0/x",
    "ntfy_url": "ntfy://topic",
    "healthd_contacts": f"whsec_{'QUJD' * 8}",
    "healthd_app": f"whsec_{'REVG' * 8}",
    "healthd_bounces": "0123456789abcdef0123456789abcdef",
    "healthd_otlp": "Bearer collector",
}


@dataclass
class Shown:
    """A key of the example, whether it is commented out, and what is said above it."""

    section: str
    key: str
    said: str = ""


def shown() -> Iterator[Shown]:
    section, in_comment = "", False
    said: list[str] = []
    for line in EXAMPLE.splitlines():
        if header := re.fullmatch(r"(?:# )?\[\[?([\w.-]+)\]\]?", line):
            section, in_comment = header[1], False
        elif key := re.fullmatch(r"(?:# )?([a-z_]+) = .+", line):
            yield Shown(section, key[1], "\n".join(said))
            in_comment = False
        elif line.startswith("#"):
            said = [*said, line] if in_comment else [line]
            in_comment = True
        else:
            said, in_comment = [], False


@dataclass
class Loaded:
    settings: Settings
    sections: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The example with nothing commented out, and with its secret files in place."""
    folder = tmp_path_factory.mktemp("example")
    for name, secret in SECRET_FILES.items():
        (folder / name).write_text(f"{secret}\n", "utf-8")
    (folder / "templates").mkdir()
    trustme.CA().cert_pem.write_to_path(folder / "acme.pem")
    text = re.sub(r"^# (\[.+\]|[a-z_]+ = .+)$", r"\1", EXAMPLE, flags=re.MULTILINE)
    text = (
        text.replace("/run/secrets", str(folder))
        .replace("/etc/ssl/certs", str(folder))
        .replace("/etc/healthd", str(folder))
    )
    path = folder / "healthd.toml"
    path.write_text(text, "utf-8")
    settings = load(path, {})
    sections: dict[str, Any] = {name: getattr(settings, name) for name in Settings.model_fields}
    opened = settings.access
    sections |= {"access.tokens.prometheus": opened.tokens["prometheus"], "access.oidc": opened.oidc}
    sections |= {"access.proxy": opened.proxy}
    for group in ("workspaces", "channels", "bounces", "lifetimes"):
        sections |= {f"{group}.{name}": one for name, one in sections[group].items()}
    return Loaded(settings, sections)


def test_the_example_loads_as_it_is(tmp_path: Path) -> None:
    for name, secret in SECRET_FILES.items():
        (tmp_path / name).write_text(secret, "utf-8")
    path = tmp_path / "healthd.toml"
    path.write_text(EXAMPLE.replace("/run/secrets", str(tmp_path)), "utf-8")
    assert list(load(path, {}).channels) == ["mail", "team-slack"]


def test_the_example_loads_with_everything_that_it_mentions(example: Loaded) -> None:
    assert list(example.settings.channels) == ["mail", "team-slack", "hook", "phone", "app"]


def test_every_kind_of_section_is_shown() -> None:
    named = set(_sections(Settings))
    assert named == SECTIONS.keys() | INLINE.keys()


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    from healthd.config import _models as models_in

    for one in model.model_fields.values():
        for inner in models_in(one.annotation):
            yield inner
            yield from _sections(inner)


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_every_key_is_named_in_the_example(model: type[BaseModel]) -> None:
    named = {one.key for one in shown() if one.section in SECTIONS[model]}
    # Some keys are sections of their own below this one.
    inside = f"{SECTIONS[model][0]}."
    named |= {one.section.removeprefix(inside).split(".")[0] for one in shown() if one.section.startswith(inside)}
    assert named == set(model.model_fields)


@pytest.mark.parametrize("model", INLINE, ids=lambda model: model.__name__)
def test_every_key_of_a_section_on_one_line_is_named_in_the_example(model: type[BaseModel]) -> None:
    [line] = [line for line in EXAMPLE.splitlines() if line.startswith(f"{INLINE[model]} = ")]
    [value] = tomllib.loads(line)[INLINE[model]]
    assert value.keys() == set(model.model_fields)


def test_every_top_level_key_is_named() -> None:
    named = {one.section.split(".")[0] for one in shown()} | {one.key for one in shown() if not one.section}
    assert named - {""} == set(Settings.model_fields)


@pytest.mark.parametrize("one", list(shown()), ids=lambda one: f"{one.section}.{one.key}")
def test_a_value_in_the_example_is_the_default_unless_the_words_above_it_say_otherwise(
    example: Loaded, one: Shown
) -> None:
    models = [model for model, sections in SECTIONS.items() if one.section in sections] or [Settings]
    default = models[0].model_fields[one.key]
    value = None
    if one.section != "routes":
        holder = example.sections[one.section] if one.section else example.settings
        value = getattr(holder, one.key)
    assert default.is_required() is False or re.search(r"(?i)no defaults?\b", one.said)
    assert value == default.get_default(call_default_factory=True, validated_data={}) or re.search(
        r"(?i)\bdefaults?\b", one.said
    )
