"""``healthd`` in processes of their own, forked from one that has done all the imports: those take longer than most of
these processes live. What runs is the same code from the command line on, and whoever needs to see Python itself start
runs ``python -m healthd``.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_NURSERY = multiprocessing.get_context("forkserver")
_NURSERY.set_forkserver_preload(["tests.preloaded"])


class Process:
    """``main`` with these words as its command line; everything else a process has is given, too.

    Both streams go to the end of ``output``, or what is said of mistakes to ``errors``.
    """

    def __init__(
        self,
        main: Callable[[], None],
        words: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
    ) -> None:
        streams = (str(output), str(errors or output))
        self._process = _NURSERY.Process(target=_live, args=(main, list(words), str(folder), dict(environ), streams))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """What it ended with: negative, the signal that killed it; ``None`` while it lives."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Waits for its end."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        while (found := self.returncode) is None:
            loop.add_reader(self._process.sentinel, over.set)
            try:
                await over.wait()
            finally:
                loop.remove_reader(self._process.sentinel)
        return found


def _live(
    main: Callable[[], None], words: list[str], folder: str, environ: dict[str, str], streams: tuple[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    for stream, path in zip((sys.stdout, sys.stderr), streams, strict=True):
        written = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(written, stream.fileno())
        os.close(written)
    sys.argv = ["healthd", *words]
    main()
