"""What every process that is forked for a test finds done already: see ``tests.processes``.

The imports, the templates of a message compiled, and the command line put together: most of these processes live for
one command and a message or two.
"""

from __future__ import annotations

import functools
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
from tests import compiled
from tests.crash import mortal  # noqa: F401

compiled.share_among_engines()
Wording().mail(next(examples("en")).message)
typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(cli.app)

gc.collect()
gc.freeze()
