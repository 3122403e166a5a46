"""Test the docs: links and commands exist, and no placeholder is left."""

import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gymnasium.spaces import Box

from foreground import build
from foreground.configs import run as runs
from foreground.training.periodic import Metrics
from foreground.world_models import terms
from scripts import doc_tables
from tests.support.marks import mostly_slow
from tests.support.small import batch_for, make_batch, world_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = doc_tables.pages()


every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


def anchor(heading: str) -> str:
    """The anchor that GitHub and MkDocs give a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


@every_page
def test_links_and_pictures_exist(page):
    for path, fragment in re.findall(r"\]\(([^)#=\s]*)#?([^)=\s]*)\)", page.read_text()):
        target = page.parent / path if path else page
        if ":" not in path:
            assert target.exists(), path
            if fragment:
                headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                assert fragment in map(anchor, headings), f"{path}#{fragment}"


@pytest.mark.slow
@every_page
def test_tables_are_those_of_the_program(page):
    text = page.read_text()
    assert doc_tables.updated(text) == text, f"write the tables anew: {doc_tables.COMMAND}"


def test_tables_of_a_suite_appear_when_it_has_run():
    def made(words: str) -> str:
        return doc_tables.updated(f"<!-- table: {words} -->\n<!-- /table -->")

    for words in ("results none", "measured skills none", "measured latent none", "regret x y"):
        assert f"\n{doc_tables.NOT_RUN}\n" in made(words)
    assert "| walker-stand | clean | slim | clean | 3 | 0.65 [0.34, 0.83] |" in made(
        "measured skills skills"
    )
    assert "| walker-stand | video | mra_speed | 2 | 187 [169, 205] |" in made(
        "measured games games"
    )
    assert "| walker-stand, speed=0 | 320.2 | mra_speed | zero_shot |" in made(
        "regret studies/games studies/experts"
    )
    assert "| walker-stand | video | infopower | 3 |" in made("measured latent white")


def test_every_page_is_in_the_navigation():
    """`mkdocs build --strict` says so too, but needs the extra docs."""
    named = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:])


@every_page
def test_nothing_is_left_to_be_filled_in(page):
    text = page.read_text()
    assert not re.search(r"^(?:[A-Z_]{4,}|\.\.\.)$", text, re.MULTILINE)
    assert not re.search(r"\b(?:TODO|TBD|FIXME|XXX)\b", text)


def test_the_readme_begins_with_a_picture_and_two_commands():
    head = (ROOT / "README.md").read_text()[:1500]
    assert head.index("](docs/pictures/") < head.index("make train") < head.index("make test")


def documented(page: str) -> re.Pattern:
    """The keys in the first column of a page's tables, as one pattern: a part in capitals stands
    for any word.
    """
    cells = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    keys = [key for cell in cells for key in re.findall(r"`([^`]+)`", cell)]
    return re.compile("|".join(re.sub(r"[A-Z]{4,}", r"[\\w+]+", key) for key in keys))


SMALL = """--environment.image_size 32 --world_model.depth 4 --world_model.embedding 32
--world_model.units 32 --world_model.decoder_frames 4 --world_model.rssm.deterministic 32
--world_model.rssm.hidden 32 --world_model.rssm.groups 4 --world_model.rssm.classes 4
--world_model.contrastive.projection 16 --actor_critic.units 32 --actor_critic.imag_starts 16
--actor_critic.horizon 3"""


# Keys of the policy's gradient are those of the rewards: other agents with the same ones add none.
LOGGING = [
    *((name, "dynamics") for name in sorted(set(runs.AGENTS) - set(runs.FOLLOWING))),
    *((name, "reinforce") for name in ("dreamer", "infopower", "slim", "slim_sum", "metra", "mra")),
    *((name, way) for name in ("infopower", "mra") for way in ("own_return", "both")),
]


@pytest.mark.parametrize(
    ("name", "gradient"), mostly_slow(LOGGING, [("infopower", "dynamics"), ("slim", "dynamics")])
)
def test_every_key_that_an_update_logs_is_on_the_page(name, gradient):
    words = ["--agent", name, "--size", "cpu", "--actor_critic.actor_grad", gradient]
    config = runs.read(words, cuda=False, ours=SMALL.split())
    spaces = build.spaces_of(config, Box(-1, 1, (2,)))
    agent = build.make_agent(config, Box(-1, 1, (2,)), "cpu")
    batch = batch_for(spaces)
    metrics = Metrics()
    for _ in range(config.modes.update_every):  # some come once a round
        metrics.add(agent.update(batch))
    page = documented("reference/metrics.md")
    assert [key for key in metrics.flush() if not page.fullmatch(key)] == []


def test_every_agent_is_in_the_table_with_its_terms_and_rewards():
    rows = [
        row.split(" | ")
        for row in (ROOT / "docs/agents/index.md").read_text().splitlines()
        if row.startswith("| `")
    ]
    found = {row[0].strip("| `"): row[2:] for row in rows}
    assert set(runs.AGENTS) <= set(found)
    for name in set(runs.AGENTS) - set(runs.FOLLOWING):
        config = runs.read(["--agent", name], cuda=False)
        objective = config.world_model.objective
        terms, rule, rewards = found[name]
        assert terms == ", ".join(objective.terms), name
        plain = ", ".join(objective.constraint) or "fixed weights"
        wanted = doc_tables.BY_GRADIENT.get(objective.rule, plain)
        assert rule.removeprefix("multiplier on ") == wanted, name
        assert rewards.removesuffix(" |") == ", ".join(config.actor_critic.rewards), name


def test_tests_that_the_pages_name_exist():
    defined = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+_\w+)`", page.read_text())}
    assert len(named) > 40
    assert [name for name in sorted(named) if f"def {name}(" not in defined] == []
    files = {
        name for page in PAGES for name in re.findall(r"`(tests/[\w/]+\.py)", page.read_text())
    }
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []


def modules_of(folder: Path) -> dict[str, str]:
    """Return name -> text of the modules of a folder and its folders, as `python -m` names them."""
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts): path.read_text()
        for path in folder.rglob("*.py")
    }


def test_benchmarks_that_the_pages_name_are_those_that_exist():
    """The notebook has commands of its time: only the last part of their names still holds."""
    programs = modules_of(ROOT / "benchmarks")
    for page in PAGES:
        named = set(re.findall(r"-m benchmarks\.([a-z_.]+[a-z_])", page.read_text()))
        if page.parent.name == "notebook":
            assert named <= {name.rpartition(".")[2] for name in programs} | programs.keys(), page
        else:
            assert named <= programs.keys(), page
    listed = re.findall(
        r"^\| `python -m benchmarks\.([\w.]+)",
        (ROOT / "docs/reference/benchmarks.md").read_text(),
        re.MULTILINE,
    )
    run_by_hand = [name for name, text in programs.items() if "python -m benchmarks." in text]
    assert sorted(listed) == sorted(run_by_hand)


def test_files_that_the_architecture_names_exist():
    """A name without a folder is in the folder of the one before it, or in foreground/."""
    cells = re.findall(
        r"^\| (`[^|]+) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE
    )
    files = [re.findall(r"`([\w/*]+\.(?:py|yaml))`", cell) for cell in cells]
    assert sum(map(len, files)) > 60
    for row in files:
        folder = ""
        for name in row:
            folder = name.rpartition("/")[0] or folder
            assert list(ROOT.glob(f"{folder}/{name.rpartition('/')[2]}".lstrip("/"))), name


def test_functions_that_the_pages_name_exist():
    """`file.py:Name`: a file of that name defines it."""
    sources = [
        path
        for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/*.py")]
        if path.parent.name != "tests"
    ]
    for page in PAGES:
        for file, name in re.findall(r"`([\w/]+\.py):(\w+)", page.read_text()):
            texts = [path.read_text() for path in sources if path.as_posix().endswith("/" + file)]
            definition = rf"(?:def|class) {name}\b|^(?:    )?{name}\b"
            assert any(re.search(definition, text, re.MULTILINE) for text in texts), (
                f"{page.name}: {file}:{name}"
            )


def test_the_term_of_the_tutorial_is_the_log_likelihood_of_steps_within_episodes():
    text = (ROOT / "docs/tutorials/information-term.md").read_text()
    code = textwrap.dedent(
        re.search(r"^    class Forecast.*?(?=^\S)", text, re.MULTILINE | re.DOTALL).group()
    )
    namespace = dict(vars(terms))
    exec(code, namespace)
    torch.manual_seed(0)
    term, batch, feature = (
        namespace["ForecastTerm"](world_config(), 16, 2),
        make_batch(),
        torch.randn(4, 8, 16),
    )
    states = SimpleNamespace(state=SimpleNamespace(feature=feature))
    seen = batch["image"], batch["action"], batch["reward"], batch["is_first"]
    value, metrics = term(terms.TrainSequence(*seen, None, states))
    steps = [(b, t) for b in range(4) for t in range(7) if not batch["is_first"][b, t + 1]]
    assert metrics["steps"] == len(steps) == 27
    one_by_one = [
        term.head.log_prob(
            term.network(torch.cat([feature[b, t], batch["action"][b, t + 1]])),
            batch["reward"][b, t + 1],
        )
        for b, t in steps
    ]
    torch.testing.assert_close(value, torch.stack(one_by_one).mean())
