"""The value of a secret is in no message and in no representation, however wrongly it was written."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr

from healthd.config import ConfigError, Settings, load, secret_values
from tests.config.written import GOOD, loaded, written

# Apprise asks for a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

CANARY = "CANARY5cbf1f"
"""Fits into base64 as well."""
NUMBER = "48151623420"

SECRETS = {
    "store.password": ("store", 'url = "postgresql://healthd@x.example/healthd"\npassword = {}'),
    "link.secrets": ("link", "secrets = {}"),
    "workspaces.api_key": ("workspaces.acme", "api_key = {}"),
    "workspaces.webhook_secrets": ("workspaces.acme", 'api_key = "sqk_live_key"\nwebhook_secrets = {}'),
    "channels.password": (
        "channels.mail",
        'type = "email"\nhost = "x.example"\nsender = "a@x.example"\nusername = "a"\npassword = {}',
    ),
    "channels.token": ("channels.chat", 'type = "slack"\nchannel = "#x"\ntoken = {}'),
    "channels.webhook_url": ("channels.chat", 'type = "slack"\nwebhook_url = {}'),
    "channels.signing_secret": (
        "channels.buttons",
        'type = "slack"\nchannel = "#x"\ntoken = "xoxb-token"\nsigning_secret = {}',
    ),
    "channels.url": ("channels.phone", 'type = "apprise"\nurl = {}'),
    "channels.secrets": ("channels.app", 'type = "webhook"\nurl = "https://x.example/"\nsecrets = {}'),
    "contacts.resolver_secret": ("contacts", 'resolver_url = "https://x.example/"\nresolver_secret = {}'),
    "access.token": ("access.tokens.ada", 'role = "viewer"\ntoken = {}'),
    "access.client_secret": (
        "access.oidc",
        'issuer = "https://x.example"\nclient_id = "healthd"\nusers = {{ a = "admin" }}\nclient_secret = {}',
    ),
    "tracing.headers": ("tracing", 'endpoint = "https://x.example/v1/traces"\nheaders = {{ authorization = {} }}'),
    "bounces.token": ("bounces.ses", 'provider = "ses"\ntoken = {}'),
    "bounces.secrets": (
        "bounces.mailgun",
        'provider = "mailgun"\ntoken = "0123456789abcdef0123456789abcdef"\nsecrets = {}',
    ),
}

WRITTEN = {
    "text": f'"{CANARY}"',
    "a URL": f'"https://{CANARY}.example/{CANARY}"',
    "text of two lines": f'"{CANARY}\\n{CANARY}"',
    "a number": NUMBER,
    "a list": f'["{CANARY}", 1]',
    "a list of lists": f'[["{CANARY}"]]',
    "a table": f'{{ {CANARY} = "{CANARY}" }}',
    "a list of tables": f'[{{ value = "{CANARY}" }}]',
    "in place of a file's name": f'{{ file = "{CANARY}" }}',
    "in place of a file's name, in a list": f'{{ file = ["{CANARY}"] }}',
    "beside a file's name": f'{{ file = "/nowhere", value = "{CANARY}" }}',
}


@pytest.mark.parametrize("how", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_no_message_holds_a_secret(tmp_path: Path, secret: tuple[str, str], how: str) -> None:
    section, body = secret
    sections = {section: body.format(how), "log": 'level = "loud"'}
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, sections)
    told = "".join(traceback.format_exception(caught.value)) + str(caught.value) + repr(caught.value.problems)
    assert "log.level" in told
    assert CANARY not in told
    assert NUMBER not in told


@pytest.mark.parametrize("how", [CANARY, f'["{CANARY}"', f'{{"a": "{CANARY}"}}'])
@pytest.mark.parametrize("variable", ["WORKSPACES__ACME__API_KEY", "LINK__SECRETS", "CHANNELS__MAIL__PASSWORD"])
def test_no_message_holds_a_secret_of_the_environment(tmp_path: Path, variable: str, how: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, environ={f"HEALTHD_{variable}": how, "HEALTHD_LOG__LEVEL": "loud"})
    assert "log.level" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_loaded_settings_do_not_show_their_secrets_and_know_them_all(tmp_path: Path) -> None:
    sections = {section: body.format(_valid(name)) for name, (section, body) in SECRETS.items()}
    sections["workspaces.acme"] = (
        f'api_key = "{_marked("workspaces.api_key")}"\nwebhook_secrets = ["{_marked("workspaces.webhook_secrets")}"]'
    )
    hook = f"https://hooks.slack.com/services/{_marked('channels.webhook_url')}"
    sections["channels.hook"] = f'type = "slack"\nwebhook_url = "{hook}"'
    sections["channels.chat"] = f'type = "slack"\nchannel = "#x"\ntoken = "xoxb-{_marked("channels.token")}"'
    sections["access"] = 'url = "https://ops.example.com"'
    settings = loaded(tmp_path, sections)
    assert CANARY not in repr(settings) + str(settings) + repr(settings.model_dump()) + settings.model_dump_json()
    known = secret_values(settings)
    missing = [name for name in SECRETS if not any(_marked(name) in value for value in known)]
    assert missing == []


def _marked(name: str) -> str:
    return CANARY + name.replace(".", "").replace("_", "")


def _valid(name: str) -> str:
    value = _marked(name)
    return {
        "link.secrets": f'["{value}{"0" * 32}"]',
        "channels.url": f'"ntfy://{value}"',
        "channels.secrets": f'"whsec_{value:A<44}"',
        "contacts.resolver_secret": f'"whsec_{value:A<44}"',
        "bounces.token": f'"{value:0<32}"',
        "access.token": f'"{value:0<32}"',
    }.get(name, f'"{value}"')


def test_the_table_above_names_every_secret_that_there_is() -> None:
    assert set(_secret_keys(Settings)) == set(SECRETS)


def _secret_keys(model: type[BaseModel], section: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        shapes = list(_shapes(field.annotation))
        if SecretStr in shapes:
            yield f"{section}.{name}"
        for shape in shapes:
            if isinstance(shape, type) and issubclass(shape, BaseModel):
                yield from _secret_keys(shape, section or name)


def _shapes(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _shapes(inner)


def test_a_secret_in_a_broken_file_stays_there(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD | {"workspaces.acme": f'api_key = "{CANARY}'})
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert "is not TOML" in str(caught.value)
    assert CANARY not in str(caught.value)
