"""What is in the repository, and what must never get into it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content and name != Path(__file__).relative_to(ROOT).as_posix():
            yield name, content.decode("utf-8")


def package_hosts() -> set[str]:
    """Where this machine gets its packages from: nobody else's business."""
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, check=False).stdout
    hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\s'\"]+", said.decode())}
    return {host for host in hosts if host and host not in {"localhost", "127.0.0.1"}}


FORBIDDEN = {
    "a package index": r"(?i)\b(pypi\.org/simple|files\.pythonhosted\.org|registry\.npmjs\.org|test\.pypi\.org)",
    "an option that names an index": r"--(extra-)?index-url|--find-links|--trusted-host",
    "a path of somebody's machine": r"(?<![\w.~/-])/(work|root|home/\w+|Users/\w+)/",
    "a private host": r"(?i)\b[a-z0-9-]+\.(internal|corp|intranet|lan)\b(?!\.md)",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a live key": r"\bsqk_live_[A-Za-z0-9]{8,}|\bxox[bp]-\d{6,}|\bAKIA[0-9A-Z]{16}\b",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts()
        if not (what == "a live key" and name.startswith("tests/"))  # tests make keys up
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(FORBIDDEN[what], line)
    ]
    assert found == []


def test_no_tracked_file_names_this_machine_or_where_it_gets_its_packages() -> None:
    words = package_hosts() | {name for name in (socket.gethostname(),) if len(name) > 8}
    assert [(name, word) for name, text in texts() for word in words if word in text] == []


def test_nothing_is_tracked_that_is_made_by_running() -> None:
    made = re.compile(r"(^|/)(__pycache__|\.venv|dist|\.mypy_cache|\.ruff_cache)/|\.(pyc|db|db-wal|log)$")
    assert [name for name in tracked() if made.search(name)] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_every_requirement_by_version_and_hash(lock: Path) -> None:
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", lock.read_text("utf-8")).strip())
    assert entries
    for entry in entries:
        first, *hashes = [line.strip().rstrip("\\").strip() for line in entry.splitlines()]
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==[\w.!+]+( ?; ?.+)?", first), first
        assert hashes, first
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first


def test_everything_that_runs_is_locked() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    names = {_name(line) for line in project["project"]["dependencies"]}
    locked = {_name(line) for line in (ROOT / "requirements" / "run.lock").read_text().splitlines() if "==" in line}
    assert names <= locked
    every = names | {_name(line) for line in project["dependency-groups"]["dev"]}
    assert every <= {
        _name(line) for line in (ROOT / "requirements" / "dev.lock").read_text().splitlines() if "==" in line
    }


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_the_wheel_holds_all_that_the_daemon_needs_and_no_tests(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--disable-pip-version-check", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    wanted = {name for name in tracked() if name.startswith("healthd/")}
    assert wanted - packed == set()
    assert {name for name in packed if not name.startswith(("healthd/", "healthd-"))} == set()
    assert {"healthd/py.typed"} <= packed
    for folder, kind in (("web/templates", ".j2"), ("web/static", ".css"), ("channels/templates", ".j2")):
        assert any(name.startswith(f"healthd/{folder}/") and name.endswith(kind) for name in packed), folder
    assert any(name.endswith("licenses/LICENSE") for name in packed)
