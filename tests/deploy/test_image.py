"""What the image promises, held without building it: small, and at home in the most closed of containers."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import starlette

from tests.deploy.shipped import ROOT
from tests.loopback import free_port

ANYBODY = 12345
"""OpenShift chooses such a number, and gives it the group 0."""
MEGABYTE = 1_000_000

CONTAINER = """
mount --bind "$1" /media; mount --bind "$2" /srv; mount --bind "$3" /mnt
mount -o remount,bind,ro /
cd /mnt/data
exec setpriv --reuid=12345 --regid=0 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "${@:4}"
"""
"""A root that cannot be written, no capability and none to be had, a user that nobody knows: with a container's means,
but on this machine's own files. The three folders exist everywhere, and what is mounted there can be reached by all.
"""


def _can_be_made() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or ROOT.stat().st_mode & 0o5 != 0o5:
        return False
    script = 'mount --bind "$0" /mnt && mount -o remount,bind,ro /'
    command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", script, str(ROOT)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@asynccontextmanager
async def contained(folder: Path, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``healthd`` in such a container; ``folder`` is its /mnt, and what it says goes to ``log`` in there."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path(starlette.__file__).parents[1].relative_to(ROOT)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONHOME": "/media",
        "PYTHONPATH": f"/srv:/srv/{packages}",
        "LD_LIBRARY_PATH": "/media/lib",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "unshare", "--mount", "--propagation=private", "bash", "-ec", CONTAINER, "-", sys.base_prefix, str(ROOT),
            str(folder), f"/media/bin/{version}", "-m", "healthd", *command, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.skipif(not _can_be_made(), reason="needs root and its own mounts")
async def test_it_runs_with_a_root_that_is_read_only_as_any_user_and_without_capabilities(tmp_path: Path) -> None:
    port = _prepare(tmp_path)
    async with contained(tmp_path, "run", "--config", "/mnt/healthd.toml") as process, httpx2.AsyncClient() as http:
        async with asyncio.timeout(60):
            while b"healthd.ready" not in _log(tmp_path):
                assert process.returncode is None, _log(tmp_path).decode()
                await asyncio.sleep(0.05)
        assert (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        status = dict(line.split(":\t") for line in _status(process.pid).splitlines())
        assert status["Uid"].split() == [str(ANYBODY)] * 4
        assert {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == dict.fromkeys(
            ("CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
        )
        assert status["NoNewPrivs"] == "1"
        assert _root_is_read_only(process.pid)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
    assert {owner for _, owner in _owners(tmp_path / "data")} == {ANYBODY}


def _prepare(folder: Path) -> int:
    """Settings, and the volume as the Dockerfile makes it: for the group 0. Returns the private listener's port."""
    (folder / "data").mkdir()
    (folder / "data").chmod(0o770)
    folder.chmod(0o755)
    port = free_port()
    (folder / "healthd.toml").write_text(
        f'public_url = "https://healthd.example.com"\n[link]\nsecrets = ["{"s" * 32}"]\n'
        f'[server]\nlisten = "127.0.0.1:{free_port()}"\nadmin_listen = "127.0.0.1:{port}"\n'
        '[store]\nurl = "sqlite:////mnt/data/healthd.db"\n[log]\nformat = "json"\n'
        '[workspaces.acme]\napi_key = "sqk_test_acme"\nbase_url = "http://127.0.0.1:1/v1"\n',
        "utf-8",
    )
    (folder / "healthd.toml").chmod(0o644)
    return port


def _log(folder: Path) -> bytes:
    return (folder / "log").read_bytes()


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text("utf-8")


def _root_is_read_only(pid: int) -> bool:
    mounts = [line.split() for line in Path(f"/proc/{pid}/mounts").read_text("utf-8").splitlines()]
    [*_, options] = [mount[3] for mount in mounts if mount[1] == "/"]
    return "ro" in options.split(",")


def _owners(folder: Path) -> list[tuple[str, int]]:
    return [(path.name, path.stat().st_uid) for path in folder.iterdir()]


def test_what_it_adds_to_python_stays_small() -> None:
    """Below 150 MB on the way: a base image of Python takes 45, and these shrink to less than a half (130 MB with their
    compiled modules to 60). PostgreSQL's driver with the libraries that it brings is 12 of them.
    """
    lock = (ROOT / "requirements" / "run.lock").read_text("utf-8")
    sizes: dict[str, float] = {}
    for name in re.findall(r"(?m)^([A-Za-z0-9._-]+)==", lock):
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # another platform's
        paths = (Path(file.locate()) for file in files if file.suffix != ".pyc")
        sizes[name] = sum(path.stat().st_size for path in paths if path.is_file()) / MEGABYTE
    assert len(sizes) > 30
    assert sum(sizes.values()) < 140, sorted(sizes.items(), key=lambda one: -one[1])[:10]
