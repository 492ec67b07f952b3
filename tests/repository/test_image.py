"""The container image, as far as reading its recipe can tell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from healthd.config import ENV_PREFIX, load, split_address

ROOT = Path(__file__).parents[2]
Instruction = tuple[str, str]


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, beginning with its FROM; what stands before the first is a stage by itself."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8")).replace("\\\n", " ")
    found: list[list[Instruction]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found


def said(word: str) -> list[str]:
    """What the final stage says by this instruction."""
    return [rest for name, rest in stages()[-1] if name == word]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in said("ENV") for pair in line.split())


LEAST = (
    f'public_url = "https://healthd.example.com"\n[link]\nsecrets = ["{"s" * 32}"]\n'
    '[workspaces.acme]\napi_key = "sqk_test_acme"\n'
)


def settings_environment() -> dict[str, str]:
    return {name: value for name, value in environment().items() if name.startswith(ENV_PREFIX)}


def test_it_is_built_in_stages_on_a_base_image_of_the_builders_choice() -> None:
    before, *built = stages()
    assert before == [("ARG", "PYTHON_IMAGE=python:3.13-slim")]
    assert len(built) == 2
    assert [stage[0][1].split()[0] for stage in built] == ["${PYTHON_IMAGE}"] * 2


def test_the_final_stage_installs_nothing_and_brings_no_compiler() -> None:
    runs = " ".join(said("RUN"))
    assert not re.search(r"\b(apt|apt-get|apk|pip|gcc|cc|make|curl|wget)\b", runs)
    assert said("COPY") == ["--from=build /opt/healthd /opt/healthd"]


def test_every_package_is_installed_by_hash() -> None:
    installs = re.findall(r"pip install ([^&]+)", " ".join(rest for name, rest in stages()[1] if name == "RUN"))
    assert installs
    for options in installs:
        assert "--require-hashes" in options or ("--no-deps" in options and "/wheels/" in options)


def test_it_does_not_run_as_root_and_writes_only_to_its_volume() -> None:
    [user] = said("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    last = [name for name, _ in stages()[-1]]
    assert "RUN" not in last[last.index("USER") :]
    assert said("VOLUME") == ["/data"]
    assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"


def test_it_is_the_daemon_itself_that_gets_the_signals() -> None:
    assert json.loads(said("ENTRYPOINT")[0]) == ["healthd"]
    assert json.loads(said("CMD")[0]) == ["run"]
    assert said("STOPSIGNAL") == ["SIGTERM"]
    [check] = said("HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == ["healthd", "healthcheck"]


@pytest.mark.parametrize("label", ["title", "description", "licenses", "version", "revision"])
def test_it_says_what_it_is(label: str) -> None:
    assert re.search(rf'org\.opencontainers\.image\.{label}="[^"]+"', " ".join(said("LABEL")))


def test_its_settings_are_accepted_and_both_listeners_can_be_reached_from_outside(tmp_path: Path) -> None:
    config = tmp_path / "healthd.toml"
    config.write_text(LEAST)
    settings = load(config, settings_environment())
    listeners = [split_address(address) for address in (settings.server.listen, settings.server.admin_listen)]
    assert listeners == [("0.0.0.0", 8080), ("0.0.0.0", 9090)]


@pytest.mark.parametrize(
    ("store", "address"),
    {
        "": "sqlite:////data/healthd.db",
        '[store]\nurl = "postgresql://healthd@db.example.com/healthd"\n': "postgresql://healthd@db.example.com/healthd",
    }.items(),
    ids=["without a word", "PostgreSQL"],
)
def test_everything_is_kept_on_its_volume_or_where_the_settings_say(store: str, address: str, tmp_path: Path) -> None:
    config = tmp_path / "healthd.toml"
    config.write_text(LEAST + store)
    found = load(config, settings_environment()).store
    [folder] = said("WORKDIR")
    assert found.url.replace("sqlite:///", f"sqlite:///{folder}/") == address
    assert found.is_postgres or [folder] == said("VOLUME")


def test_only_the_public_port_is_exposed() -> None:
    assert said("EXPOSE") == ["8080"]


def test_what_goes_into_the_build_is_listed_and_no_more() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert ignored[0] == "*"
    copied = {
        part for name, rest in stages()[1] if name == "COPY" for part in rest.split()[:-1] if not part.startswith("--")
    }
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert {part.split("/")[0] for part in copied} == allowed
