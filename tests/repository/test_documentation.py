"""What the documentation says of the source is what the source says."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from healthd.store import database

ROOT = Path(__file__).parents[2]
GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))
PAGES: dict[str, Callable[[], str]] = GENERATED["PAGES"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_made_from_the_source_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == PAGES[name](), "run `make docs`"


def test_the_connections_of_a_replica_are_those_that_the_page_counts() -> None:
    page = (ROOT / "docs" / "postgresql.md").read_text("utf-8")
    counted = [int(number) for number in re.findall(r"(?m)^\| [^|]+ \| (\d+) \|$", page)]
    beside = 2  # who looks around, and who listens
    assert sum(counted) == database.WRITERS + database.APPENDERS + database.READERS + beside == 10
    assert "takes up to ten" in page


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = {path: path.read_text("utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
    for page, text in pages.items():
        for path, anchor, image in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)|src=\"([^\"]+)\"", text):
            led_to = (page.parent / (path or image)).resolve() if path or image else page
            assert led_to.exists(), f"{page.name} leads to {path or image}"
            if anchor and led_to in pages:
                assert anchor in _anchors(pages[led_to]), f"{page.name} leads to {led_to.name}#{anchor}"


def _anchors(page: str) -> set[str]:
    """As GitHub makes them of headings."""
    bare = re.sub(r"(?ms)^```.*?^```$", "", page)
    headings = re.findall(r"(?m)^#+ (.+)$", bare)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
