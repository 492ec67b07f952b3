"""Nothing is installed that is not pinned by its hash: in the Makefile, the image, the scripts and the instructions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALLERS = ["Makefile", "Dockerfile", "README.md", *(f".ci/{file.name}" for file in sorted((ROOT / ".ci").iterdir()))]
OURS = re.compile(r"--no-deps\b.*?\s(\.|/wheels/\*\.whl)(?=[\s`]|$)")
"""Our own code, which has no hash to be held to, and brings nothing along."""


def installs(name: str) -> list[str]:
    """What follows each `pip install` of a file, up to the end of that command."""
    text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
    if name.endswith(".md"):
        text = re.sub(r"\n\s+", " ", text)
    words = re.sub(r'"(?:, ")?', " ", text)  # a list of words in Python reads as a command then
    return re.findall(r"\bpip3?\s+(?:install|wheel|download)\b([^\n&|;`\]]*)", words)


def is_held_to_hashes(options: str) -> bool:
    locked = re.search(r"(?:--requirement|-r) +(?:\$root/)?requirements/\w+\.lock\b", options)
    return bool("--require-hashes" in options and locked) or bool(OURS.search(options))


@pytest.mark.parametrize("name", INSTALLERS)
def test_every_install_is_held_to_hashes(name: str) -> None:
    assert [options for options in installs(name) if not is_held_to_hashes(options)] == []


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile", "README.md", ".ci/sbom", ".ci/audit"])
def test_the_installs_are_found_where_there_are_some(name: str) -> None:
    assert installs(name)


LOOSE = {
    "a package by name": " httpx2",
    "a lock without hashes": " --requirement requirements/run.lock",
    "hashes of nothing": " --require-hashes httpx2",
    "our own code with its dependencies": " --no-build-isolation --editable .",
    "a wheel from elsewhere": " --no-deps /tmp/other.whl",
}


@pytest.mark.parametrize("options", LOOSE.values(), ids=LOOSE)
def test_an_install_that_is_not_held_to_hashes_would_be_noticed(options: str) -> None:
    assert not is_held_to_hashes(options)


def test_no_other_installer_fetches_python_packages() -> None:
    other = re.compile(r"\b(uvx|pipx|easy_install|poetry (add|install)|uv (sync|add|pip (install|sync)|tool|run))\b")
    found = [(name, match[0]) for name in INSTALLERS if (match := other.search((ROOT / name).read_text("utf-8")))]
    assert found == []


def test_nothing_downloaded_is_run_unseen() -> None:
    piped = re.compile(r"\b(curl|wget)\b[^\n]*\|\s*(sudo\s+)?(ba|z|da)?sh\b")
    assert [name for name in INSTALLERS if piped.search((ROOT / name).read_text("utf-8"))] == []
