"""Where traces begin and go on. Costs next to nothing, and imports nothing, unless a recorder is at work.

What a span may say of itself is what ``span`` takes: a workspace, a platform, a kind, a channel. There is no room for a
name, an address, a token or a URL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol


class Recorder(Protocol):
    """Whatever keeps spans. A trace is written as W3C's ``traceparent``."""

    def span(
        self, name: str, about: dict[str, str], parent: str | None, links: Sequence[str]
    ) -> AbstractContextManager[str | None]: ...

    def outcome(self, word: str) -> None: ...

    def current(self) -> str | None: ...

    def carry(self, account_id: int) -> None: ...

    def carried(self, account_id: int) -> str | None: ...


_recorder: ContextVar[Recorder | None] = ContextVar("healthd_recorder", default=None)
_NOTHING: AbstractContextManager[str | None] = nullcontext()


@contextmanager
def recording(recorder: Recorder | None) -> Iterator[None]:
    """Everything that is started inside records there; without one nothing is recorded."""
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)


def span(
    name: str,
    *,
    workspace: str = "",
    platform: str = "",
    kind: str = "",
    channel: str = "",
    parent: str | None = None,
    links: Sequence[str] = (),
) -> AbstractContextManager[str | None]:
    """A step of the work. It belongs to ``parent``, or else to the step around it; ``links`` are traces of which it
    takes something up. Gives its own ``traceparent``, or ``None`` where nothing is recorded.
    """
    recorder = _recorder.get()
    if recorder is None:
        return _NOTHING
    about = {"workspace": workspace, "platform": platform, "kind": kind, "channel": channel}
    return recorder.span(name, {key: value for key, value in about.items() if value}, parent, links)


def outcome(word: str) -> None:
    """What the step around here has come to, in one of our own words."""
    recorder = _recorder.get()
    if recorder is not None:
        recorder.outcome(word)


def current() -> str | None:
    """The ``traceparent`` of the step around here, to be kept with what is written for later."""
    recorder = _recorder.get()
    return None if recorder is None else recorder.current()


def carry(account_id: int) -> None:
    """The account's next question goes on with the step around here."""
    recorder = _recorder.get()
    if recorder is not None:
        recorder.carry(account_id)


def carried(account_id: int) -> str | None:
    """What the account's question goes on with; once."""
    recorder = _recorder.get()
    return None if recorder is None else recorder.carried(account_id)
