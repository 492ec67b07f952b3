"""What a bench has measured, for people and for whoever compares runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson


@dataclass(frozen=True, slots=True)
class Figure:
    """One value. ``ratio`` is to what ``peer`` reached in the same run."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    ratio: float | None = None


def show(figures: Sequence[Figure]) -> None:
    for one in figures:
        beside = f"   {one.ratio:6.2f} of {one.peer}" if one.ratio is not None else ""
        print(f"  {one.name:<52} {one.value:12,.2f} {one.unit:<8}{beside}")


def write(figures: Sequence[Figure], file: Path | None) -> None:
    """As JSON, where a file is named."""
    if file is not None:
        file.write_bytes(orjson.dumps([asdict(one) for one in figures], option=orjson.OPT_INDENT_2))
