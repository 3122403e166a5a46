"""Write the tables of the documentation that a program can know: ``python -m scripts.doc_tables``
from the repository.

A page marks the place of a table by two comments, and the lines between them are replaced:

    <!-- table: agents -->
    <!-- /table -->

Words behind the name are arguments, as in ``<!-- table: results video -->``. With ``--check``
nothing is written; the exit code is 1 if a page is stale. `tests/foreground/test_docs.py` calls the
same functions. MkDocs calls `on_page_markdown`, which also fills the tables of `BUILT`: they are in
the site alone.
"""

import importlib
import itertools
import re
import sys
import typing
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import plot_tables, protocols, result_files
from foreground.configs import run as runs
from foreground.option import REQUIRED
from foreground.training import described, option_help, options
from foreground.training.presets import first_comment, preset_names
from foreground.training.values import describe, shown

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- table: (?P<words>[^>]*?) -->\n).*?(<!-- /table -->)", re.DOTALL)
COMMAND = "python -m scripts.doc_tables"
BUILT = ("options",)  # long, and `train.py --help all` prints it: not kept in the pages


def pages() -> list[Path]:
    """Return README and every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page of the site with all tables; MkDocs calls it."""
    return updated(markdown, left_empty=())


def updated(text: str, left_empty: tuple[str, ...] = BUILT) -> str:
    """Return a page with the tables of today's program.

    Errors: KeyError for a table that does not exist.
    """

    def block(match: re.Match) -> str:
        name, *arguments = match["words"].split()
        made = TABLES[name](*arguments)
        return match[1] + match[3] if name in left_empty else f"{match[1]}\n{made}\n\n{match[3]}"

    return BLOCK.sub(block, text)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    heads = tuple(heads)
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(escaped, row)) + " |" for row in rows)])


def escaped(cell: str) -> str:
    """Return a cell with its bars escaped, and outside of code also what would pass for HTML."""
    parts = cell.replace("|", "\\|").split("`")
    return "`".join(
        part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts)
    )


def code(names: Iterable[Any]) -> str:
    return ", ".join(map(quoted, names))


def quoted(name: Any) -> str:
    return f"`{name}`"


# ------------------------------------------------------------------------------- agents and presets


def preset(name: str) -> dict:
    """Return the values of a preset file and of the files that its `base` names, by their dotted
    keys.
    """
    line = options.Line(runs.RunConfig, runs.PRESETS)
    line.take_preset(name)
    return line.values


BY_GRADIENT = {"pareto": "multiple-gradient descent", "game": "game between terms"}


def agents() -> str:
    """Return a row for each agent: what it is, its information terms, its rule, its rewards."""
    rows = []
    for name in runs.AGENTS:
        values = preset(name)
        terms, constraint = (
            values.get(f"world_model.objective.{key}", ()) for key in ("terms", "constraint")
        )
        plain = f"multiplier on {', '.join(constraint)}" if constraint else "fixed weights"
        rule = BY_GRADIENT.get(values.get("world_model.objective.rule"), plain)
        rewards = values.get("actor_critic.rewards", ["task"])
        what = first_comment(runs.PRESETS / f"{name}.yaml")
        rows.append((code([name]), what, ", ".join(terms), rule, ", ".join(rewards)))
    return table(
        ("agent", "what it is", "information terms", "rule", "rewards of the policy"), rows
    )


def sizes() -> str:
    """Return a row for each size preset."""
    rows = []
    for name in runs.SIZES[1:]:
        values = preset(f"size_{name}")
        starts = values["actor_critic.imag_starts"]
        rows.append(
            (
                code([name]),
                f"{values['training.batch_size']}x{values['training.batch_length']}",
                str(values["world_model.rssm.deterministic"]),
                f"{values['world_model.rssm.groups']}x{values['world_model.rssm.classes']}",
                str(values["world_model.units"]),
                f"{starts} states" if starts else "all",
                first_comment(runs.PRESETS / f"size_{name}.yaml"),
            )
        )
    return table(("size", "batch BxT", "D", "S x K", "units", "imagined from", "made for"), rows)


def presets() -> str:
    """Return the presets that are neither an agent nor a size."""
    others = [
        name
        for name in preset_names(runs.PRESETS)
        if name not in runs.AGENTS and not name.startswith("size_")
    ]
    return table(
        ("preset", "what it is"),
        [(code([name]), first_comment(runs.PRESETS / f"{name}.yaml")) for name in others],
    )


# ------------------------------------------------------------------------------------------ options


def all_options() -> str:
    """Return every option of train.py, a heading and a table for each section."""
    parts = []
    for section, group in itertools.groupby(
        options.leaves(runs.RunConfig).items(), lambda item: item[0].rpartition(".")[0]
    ):
        rows = list(group)
        title = f"## `{section}`" if section else "## General"
        lines = [
            (f"`--{key}`", describe(leaf.kind), value(leaf), option_help.sentences(leaf, quoted))
            for key, leaf in rows
        ]
        described_by = rows[0][1].heading
        parts += filter(
            None, [title, described_by, table(("option", "type", "default", "what it does"), lines)]
        )
    return "\n\n".join(parts)


def value(leaf: Any) -> str:
    return "must be given" if leaf.default is REQUIRED else f"`{shown(leaf.default) or '(empty)'}`"


# ------------------------------------------------------------------------------------------ metrics


def metrics(which: str) -> str:
    """Return the rows of training/metrics.yaml: `numbers`, or `pictures`, which TensorBoard alone
    has.
    """
    rows = [row for row in described.rows() if bool(row.shown) == (which == "pictures")]
    heads = (
        ("TensorBoard only", "what it shows")
        if which == "pictures"
        else ("key", "unit", "what it is", "trivial, or alarm")
    )
    return "\n".join(
        [
            "| " + " | ".join(heads) + " |",
            "|---" * len(heads) + "|",
            *(row.in_the_docs for row in rows),
        ]
    )


# ------------------------------------------------------------------------------------------ results


NOT_RUN = "Not run yet."


def results(folder: str) -> str:
    """Return the version of a folder of result files, its returns by task and agent, and over all
    tasks.
    """
    place = ROOT / "results" / folder
    rows = result_files.read_all(place)
    if not rows:
        return NOT_RUN
    panels = plot_tables.finished(plot_tables.read(place))
    parts = [version(rows), plot_tables.table(panels)]
    parts += [
        plot_tables.aggregate_table(group)
        for group in plot_tables.by_background(panels).values()
        if has_seeds(group)
    ]
    return "\n\n".join(filter(None, parts))


def measured(program: str, folder: str) -> str:
    """Return the tables of a program of benchmarks/ that has read the runs of a suite: `skills`,
    `goals`, `downstream`, `games` or `latent`.
    """
    rows = [row for row in result_files.read_all(ROOT / "results" / folder) if program in row]
    if not rows:
        return NOT_RUN
    if program == "latent":
        made = plot_tables.latent_table(plot_tables.read(ROOT / "results" / folder))
    else:
        made = importlib.import_module(f"benchmarks.{program}").tables(rows)
    return f"{version(rows)}\n\n{made}"


def regret(suite: str, experts: str) -> str:
    """Return the regret of a suite's policies against its experts, both files of benchmarks/."""
    from benchmarks import regret as program

    if NOT_RUN in (measured("games", Path(name).name) for name in (suite, experts)):
        return NOT_RUN
    files = (str(ROOT / "benchmarks" / f"{name}.yaml") for name in (suite, experts))
    return program.text_of(program.regrets(*map(program.returns_of, files)))


def treasure(of: str, response: str) -> str:
    """Return returns and gains on collect_treasure, of arms that trained on these numbers of
    collectors, such as `6-9-12`, and whose response took so many iterations.
    """
    rows = result_files.read_all(ROOT / "results" / "treasure", f"*-of-{of}-seed*.json")
    rows = [row for row in rows if row["settings"]["response"] == int(response)]
    if not rows:
        return NOT_RUN
    made = importlib.import_module("benchmarks.treasure").table(rows)
    return f"{version(rows)}\n\n{made}"


def has_seeds(panels: plot_tables.Panels) -> bool:
    """Return whether an agent has several seeds on a task: of one seed each there is no interval
    over seeds.
    """
    return any(len(runs_of) > 1 for panel in panels.values() for runs_of in panel.values())


def summary(folder: str) -> str:
    """Return a row for each agent that every task has: its held-out returns by task, and over all
    tasks.
    """
    panels = plot_tables.finished(plot_tables.read(ROOT / "results" / folder))
    most = max(len(runs_of) for panel in panels.values() for runs_of in panel.values())
    agents = [
        agent
        for agent in plot_tables.shared_agents(panels)
        if all(len(panel[agent]) == most for panel in panels.values())
    ]
    rows = []
    for agent in agents:
        middle, low, high = plot_tables.estimate(plot_tables.last_scores(panels, agent))
        by_task = [plot_tables.interval_text(panel[agent], "heldout") for panel in panels.values()]
        rows.append((code([agent]), *by_task, f"{middle:.3f} [{low:.3f}, {high:.3f}]"))
    random = [
        f"{np.mean(plot_tables.seed_means(panel[agents[0]])['random policy']):.0f}"
        for panel in panels.values()
    ]
    rows.append(("random policy", *random, ""))
    return table(("agent", *(task for task, _ in panels), "IQM [95 %]"), rows)


def compared(*folders: str) -> str:
    """Return held-out returns of suites at some frames, with published means of the same task."""
    from benchmarks import published  # imports matplotlib

    panels = published.read([ROOT / "results" / folder for folder in folders])
    rows = [row for name, curves in panels.items() for row in published.rows_of(name, curves)[0]]
    return table(published.HEADS, [[str(cell) for cell in row] for row in rows])


def protocol(task: str) -> str:
    """Return the returns of a task under protocols of distraction, a column a run."""
    rows = [row for row in result_files.read_all(protocols.RESULTS) if row["task"] == task]
    return f"{version(rows)}\n\n{protocols.table(rows, task)}"


def version(rows: list[dict]) -> str:
    """Return which commits and which processors gave these results."""
    commits = Counter(short_commit(row.get("commit", "unknown")) for row in rows)
    machines = Counter(machine(row.get("hardware", {})) for row in rows)
    return f"*Version: {counted(commits)}. Hardware: {counted(machines)}.*"


def short_commit(commit: str) -> str:
    """Return the first letters of a commit, and whether there were changes that were committed
    later.
    """
    return commit[:7] + ("+changes" if commit.endswith("+changes") else "")


def machine(hardware: dict) -> str:
    gpu = hardware.get("gpu", "none")
    return hardware.get("cpu", "unknown") if gpu in ("none", "") else gpu


def counted(names: typing.Counter[str]) -> str:
    return ", ".join(
        f"`{name}` ({number} run{'s' * (number > 1)})" if len(names) > 1 else f"`{name}`"
        for name, number in names.most_common()
    )


TABLES: dict[str, Callable[..., str]] = {
    "agents": agents,
    "compared": compared,
    "measured": measured,
    "metrics": metrics,
    "options": all_options,
    "presets": presets,
    "protocol": protocol,
    "published_protocols": protocols.published,
    "regret": regret,
    "results": results,
    "sizes": sizes,
    "summary": summary,
    "treasure": treasure,
}


def main(arguments: list[str]) -> int:
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = updated(text)
        if new != text:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in arguments:
                page.write_text(new, encoding="utf-8")
    print(f"{'stale' if '--check' in arguments else 'written'}: {', '.join(stale) or 'no page'}")
    return bool(stale and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
