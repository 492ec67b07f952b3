"""What every process that is forked for a test finds done already: see ``tests.processes``.

The imports, and what the first message and the first command line of a process bring with them: most of these processes
live for one of either.
"""

from __future__ import annotations

import gc

import aiosmtplib  # noqa: F401
import alembic.command  # noqa: F401
import rich.table  # noqa: F401
import typer
import uvloop  # noqa: F401

import healthd.api.late
import healthd.app
import healthd.backups
import healthd.by_hand
import healthd.doctor
import healthd.first_settings
import healthd.hooks_by_hand  # noqa: F401
from healthd import cli
from healthd.channels.examples import examples
from healthd.channels.wording import Wording
from tests.crash import mortal  # noqa: F401

Wording().mail(next(examples("en")).message)
typer.main.get_command(cli.app)

gc.collect()
gc.freeze()
