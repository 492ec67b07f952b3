"""Ways to reach a person: one file each, all meeting the Protocol in ``base``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from healthd.channels.anything_else import AppriseSettings
from healthd.channels.email import EmailSettings
from healthd.channels.slack import SlackSettings
from healthd.channels.webhook import WebhookSettings

ChannelSettings = Annotated[
    EmailSettings | SlackSettings | AppriseSettings | WebhookSettings, Field(discriminator="type")
]
"""The settings of any channel, told apart by ``type``. Each has ``validate_address`` and ``open``."""
