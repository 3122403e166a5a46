"""What the README and the docs point to exists, and nothing was left to be filled in."""

import re
from pathlib import Path

import pytest
from gymnasium.spaces import Box
from small import make_batch

import build
from configs import run as runs

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


def documented(page: str) -> re.Pattern:
    """The keys in the first column of a page's tables, as one pattern: a part in capitals stands for any word."""
    cells = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    keys = [key for cell in cells for key in re.findall(r"`([^`]+)`", cell)]
    return re.compile("|".join(re.sub(r"[A-Z]{4,}", r"[\\w+]+", key) for key in keys))


SMALL = """--environment.image_size 32 --world_model.depth 4 --world_model.embedding 32 --world_model.units 32
--world_model.picture_frames 4 --world_model.rssm.deterministic 32 --world_model.rssm.hidden 32 --world_model.rssm.groups 4
--world_model.rssm.classes 4 --world_model.contrastive.projection 16 --actor_critic.units 32 --actor_critic.starts 16
--actor_critic.horizon 3"""


@pytest.mark.parametrize("gradient", ["path", "score"])
@pytest.mark.parametrize("name", sorted(set(runs.AGENTS) - set(runs.FOLLOWING)))
def test_every_key_that_an_update_logs_is_on_the_page(name, gradient):
    words = ["--agent", name, "--size", "cpu", "--actor_critic.gradient", gradient]
    config, _ = runs.read(words, cuda=False, ours=SMALL.split())
    spaces = build.spaces_of(config, Box(-1, 1, (2,)))
    agent = build.make_agent(config, Box(-1, 1, (2,)), "cpu")
    batch = make_batch(condition=spaces.condition, signals=len(spaces.signals), games=spaces.games)
    metrics = [key for _ in range(config.modes.round) for key in agent.update(batch)]  # some come once a round
    page = documented("metrics.md")
    assert [key for key in metrics if not page.fullmatch(key)] == []


@pytest.mark.parametrize("page", ["README.md", "docs/running.md", "docs/architecture.md"])
def test_every_agent_is_in_the_table(page):
    cells = re.findall(r"^\| (`[^|]+) \|", (ROOT / page).read_text(), re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert set(runs.AGENTS) <= named


def test_functions_that_the_pages_name_exist():
    """`file.py:Name`: a file of that name defines it."""
    sources = [path for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/*.py")] if path.parent.name != "tests"]
    for page in PAGES:
        for file, name in re.findall(r"`([\w/]+\.py):(\w+)", page.read_text()):
            texts = [path.read_text() for path in sources if path.as_posix().endswith("/" + file)]
            definition = rf"(?:def|class) {name}\b|^(?:    )?{name}\b"
            assert any(re.search(definition, text, re.MULTILINE) for text in texts), f"{page.name}: {file}:{name}"
