from __future__ import annotations

import functools

import typer.testing

# The command line is put together anew for each command otherwise, which takes longer than most of them.
typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]
