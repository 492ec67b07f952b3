"""A configuration without a mistake, and what is said of one with some."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from healthd.config import ConfigError, Problem, Settings, load

GOOD = {
    "": 'public_url = "https://healthd.example.com"',
    "link": 'secrets = ["0123456789abcdef0123456789abcdef"]',
    "workspaces.acme": 'api_key = "sqk_live_key"\nwebhook_secrets = ["whsec_one"]',
    "channels.mail": 'type = "email"\nhost = "smtp.example.com"\nsender = "healthd@example.com"',
    "notices": 'default = ["mail:ada@example.com"]',
}


def written(folder: Path, sections: Mapping[str, str] = {}) -> Path:
    """The good configuration, with these sections in place of its own or added to them."""
    path = folder / "healthd.toml"
    text = ""
    for name, body in (GOOD | dict(sections)).items():
        header = "" if not name else name if name.startswith("[[") else f"[{name}]"
        text += f"{header}\n{body}\n\n"
    path.write_text(text, "utf-8")
    return path


def loaded(folder: Path, sections: Mapping[str, str] = {}, environ: Mapping[str, str] = {}) -> Settings:
    return load(written(folder, sections), environ)


def mistakes(folder: Path, sections: Mapping[str, str], environ: Mapping[str, str] = {}) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, sections, environ)
    return caught.value.problems
