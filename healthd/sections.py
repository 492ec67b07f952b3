"""What the sections of the settings have in common, wherever they are written."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A key that is not known is a mistake, and no mistake shows a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def as_list(value: object) -> object:
    """A text stands for a list that holds it alone."""
    return [value] if isinstance(value, str) else value
