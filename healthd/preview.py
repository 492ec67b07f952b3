"""Shows what healthd says: every kind of message, in every language, as files and as a page to look at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from healthd.channels import anything_else, slack
from healthd.channels.base import Message, fill
from healthd.channels.email import escape_html
from healthd.channels.examples import examples
from healthd.channels.sentences import OURS
from healthd.channels.wording import Wording

_LINK = "https://healthd.acme.example/r/v1.k1.bm90aGluZy1vcGVucy1oZXJl"
_NAMES = {"de": "Deutsch", "en": "English", "es": "Español", "fr": "Français", "ja": "日本語", "pt": "Português"}
_DATE = re.compile(r"<!date\^\d+\^[^|>]*\|([^>]*)>")


@dataclass(frozen=True, slots=True)
class Shown:
    """One message in every form. ``blocks`` are Slack's, read back."""

    slug: str
    name: str
    language: str
    subject: str
    html: str
    text: str
    slack: str
    blocks: list[Mapping[str, Any]]
    plain: str


def build(out: Path, wording: Wording, languages: Iterable[str] = ()) -> Path:
    """Writes the files below ``out``, which is made if need be, and a gallery for each language, all of them where none
    is named. The path of the page to open. Raises ``OSError`` where it may not write.
    """
    chosen = tuple(languages) or wording.languages
    for language in chosen:
        shown = [_show(wording, one.slug, one.name, one.message) for one in examples(language)]
        _write_files(out / language, shown)
        (out / f"{language}.html").write_text(_gallery(shown, language, chosen), "utf-8")
    index = out / "index.html"
    first = "en" if "en" in chosen else chosen[0]
    index.write_text((out / f"{first}.html").read_text("utf-8"), "utf-8")
    return index


def _show(wording: Wording, slug: str, name: str, message: Message) -> Shown:
    mail = wording.mail(message)
    chat = slack.rendered(wording, message, interactive=True)
    plain = anything_else.rendered(wording, message)
    blocks = json.loads(fill(chat["blocks"], _LINK))
    return Shown(
        slug=slug,
        name=name,
        language=message.reader.language,
        subject=mail.subject,
        html=fill(mail.html, _LINK, escape_html),
        text=fill(mail.text, _LINK),
        slack=json.dumps({"text": chat["text"], "blocks": blocks}, ensure_ascii=False, indent=2),
        blocks=blocks,
        plain=fill(f"{plain['title']}\n\n{plain['body']}\n", _LINK),
    )


def _write_files(folder: Path, shown: Iterable[Shown]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for one in shown:
        parts = {"mail.html": one.html, "mail.txt": one.text, "slack.json": one.slack, "plain.txt": one.plain}
        for ending, content in parts.items():
            (folder / f"{one.slug}.{ending}").write_text(content, "utf-8")


def _gallery(shown: Iterable[Shown], language: str, languages: Iterable[str]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(OURS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["chat"] = _as_in_chat
    names = [(code, _NAMES.get(code, code)) for code in languages]
    return environment.get_template("gallery.html.j2").render(shown=shown, language=language, languages=names)


def _as_in_chat(text: Mapping[str, str]) -> str:
    """A text of Slack's as its reader sees it, but for the reader's own way to write a moment."""
    said = text["text"]
    if text["type"] != "mrkdwn":
        return said
    return _DATE.sub(r"\1", said).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
