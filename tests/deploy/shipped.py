"""What the folders in deploy/ ship: read, checked for form, and given to healthd as it would find it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from healthd.config import Settings, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LINT = YamlLintConfig(
    "{extends: default, rules: {line-length: {max: 130}, document-start: disable, braces: disable, comments: disable,"
    " indentation: {indent-sequences: whatever}, truthy: {check-keys: false}}}"
)


def documents(text: str) -> list[dict[str, Any]]:
    return [found for found in yaml.load_all(text, yaml.CSafeLoader) if found]


def lint(path: Path) -> list[str]:
    """What yamllint has against a file, doubled keys above all."""
    return [f"{path.name}:{one.line}: {one.desc}" for one in linter.run(path.read_text("utf-8"), LINT)]


def settings_of(
    folder: Path, text: str, environ: Mapping[str, str], *, secrets_in: str, named: Iterable[str]
) -> Settings:
    """The settings as healthd reads them where the secrets of these names are files in ``secrets_in``; raises
    ``ConfigError`` for what it would not start with.
    """
    for name in named:
        (folder / name).write_text(secrets.token_hex(32), "utf-8")
    file = folder / "healthd.toml"
    file.write_text(text.replace(f"{secrets_in}/", f"{folder}/"), "utf-8")
    return load(file, environ)


def secret_files(text: str, secrets_in: str) -> set[str]:
    """The names of the secrets that a settings file asks for."""
    return set(re.findall(rf'^[^#\n]*file = "{re.escape(secrets_in)}/([\w.-]+)"', text, re.MULTILINE))


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    recipe = (ROOT / "Dockerfile").read_text("utf-8")
    block = recipe.partition("\nENV PATH=")[2].partition("\nUSER")[0]
    return dict(re.findall(r"\b(HEALTHD_\w+)=(\S+)", block))
