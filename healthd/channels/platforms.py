"""How people call each platform, and its colour."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """``colour`` is the brand's, moved just so far that it stands out from white and from dark cards alike."""

    name: str
    colour: str


LOOKS = {
    "bluesky": Look("Bluesky", "#1185fe"),
    "discord": Look("Discord", "#5865f2"),
    "facebook": Look("Facebook", "#1877f2"),
    "gmb": Look("Google Business Profile", "#4285f4"),
    "instagram": Look("Instagram", "#e4405f"),
    "linkedin": Look("LinkedIn", "#0b6ed1"),
    "pinterest": Look("Pinterest", "#e60023"),
    "reddit": Look("Reddit", "#ff4500"),
    "snapchat": Look("Snapchat", "#968400"),
    "telegram": Look("Telegram", "#1b9bda"),
    "threads": Look("Threads", "#737b87"),
    "tiktok": Look("TikTok", "#f02a55"),
    "tumblr": Look("Tumblr", "#567094"),
    "twitter": Look("X (Twitter)", "#737b87"),
    "whatsapp": Look("WhatsApp", "#1da550"),
    "youtube": Look("YouTube", "#ff0000"),
}

_OTHER_COLOUR = "#737b87"
_LINKABLE = re.compile(r"(?<=\w)(?=[.。．｡]\w)|(?<=:)(?=//)")


def inert(text: str) -> str:
    """Mail clients and chats make links of bare addresses: a word joiner stands where one would hold together."""
    return _LINKABLE.sub("\u2060", text)


def platform_name(platform: str) -> str:
    """The platform as people call it. One that is new to us keeps the provider's name for it."""
    look = LOOKS.get(platform)
    return look.name if look else inert(platform)


def platform_colour(platform: str) -> str:
    """As ``#rrggbb``."""
    look = LOOKS.get(platform)
    return look.colour if look else _OTHER_COLOUR
