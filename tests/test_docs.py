"""What the README and the docs point to exists, and nothing was left to be filled in."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_be_filled_in(page):
    text = page.read_text()
    assert not re.search(r"^(?:[A-Z_]{4,}|\.\.\.)$", text, re.MULTILINE)
    assert not re.search(r"\b(?:TODO|TBD|FIXME|XXX)\b", text)


def test_the_readme_begins_with_a_picture_and_two_commands():
    head = (ROOT / "README.md").read_text()[:1500]
    assert head.index("](docs/pictures/") < head.index("make train") < head.index("make test")
