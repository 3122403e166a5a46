"""Train a table of tasks, agents, backgrounds and seeds.

    python -m benchmarks.returns benchmarks/video.yaml

Each run is train.py with its options, in one process of one thread. Runs are side by side on this
machine, or with --engine ray on a cluster (docs/cluster.md). --only 2/8 takes the third of eight
shares, for job arrays. The same command continues a stopped suite. There is one result file per
run. The program prints a table of mean returns and one JSON line last; `benchmarks.plot` prints
intervals over seeds. A result is kept while its command and every setting behind it, presets
included, are unchanged. The options of all runs are checked before one starts.

The suites in benchmarks/ and its folders have their results in results/NAME/. Any other suite has
them in FOLDER/results/, where FOLDER is the one that the suite names, or in the folder of
--results.
"""

import contextlib
import json
import os
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from reprlib import repr as short
from typing import TypeVar

from benchmarks import engine as engines
from benchmarks import pool, result_files, suite_check, suite_progress
from benchmarks.program import Job
from foreground.configs import renamed
from foreground.configs import run as runs
from foreground.envs import backgrounds
from foreground.errors import UserError, run_main
from foreground.evaluation import plane
from foreground.option import config_class, option
from foreground.training import options
from foreground.training.files import valid_name
from foreground.training.option_help import Manual
from foreground.training.presets import load_yaml

ROOT = Path(__file__).parents[1]

RESULTS = ROOT / "results"
# Where a run runs; all other options are what it is.
PLACE = {"folder", "device", "threads", "compile", "cuda_graphs", "accept_changes"}
PLACE |= {"training.evaluate_every"}  # how often it is looked at, which does not change it


def jobs(suite: dict) -> list[tuple[str, list[str]]]:
    """Return (name, arguments of train.py) of every run.

    A task is a name with its options, or none: {walker-walk: ""}. Agents are a list of names, or
    labels with options: {slim_x100: "--agent slim --actor_critic.reward_scales use=100"}. {seed}
    and {task} in any options are those of the run.
    """
    rows, agents = [], suite["agents"]
    if isinstance(agents, list):
        agents = {agent: f"--agent {agent}" for agent in agents}
    for seed in suite["seeds"]:
        for task, own in suite["tasks"].items():
            for label, source in suite["backgrounds"].items():
                for agent, chosen in agents.items():
                    source = os.path.expanduser(os.path.expandvars(str(source)))
                    words = [
                        *shlex.split(chosen),
                        "--task",
                        task,
                        "--seed",
                        str(seed),
                        "--background.source",
                        source,
                    ]
                    words += shlex.split(suite["options"]) + shlex.split(own or "")
                    words = [
                        word.replace("{seed}", str(seed)).replace("{task}", task) for word in words
                    ]
                    rows.append((f"{task}-{agent}-{label}-seed{seed}", words))
    return rows


def job(name: str, words: list[str], folder: Path) -> Job:
    """Return one run as a job."""
    words = ["train.py", *words, "--threads", "1", "--folder", str(folder / name)]
    return Job(name, words, folder / f"{name}.log")


def share(rows: list, only: str) -> list:
    """Return the share "I/N" of rows: every N-th from the I-th on, counted from 0. All of them
    where `only` is empty.

    Errors: UserError where it is no share.
    """
    if not only:
        return rows
    number, slash, shares = only.partition("/")
    if not (slash and number.isdecimal() and shares.isdecimal() and int(number) < int(shares)):
        raise UserError(
            f"{short(only)} is no share", "--only", "write I/N with I from 0 to N - 1, such as 0/8"
        )
    return rows[int(number) :: int(shares)]


def collect(name: str, words: list[str], folder: Path, results: Path) -> dict:
    """Write the scores and curves of a finished run as one small file."""
    row = result_files.of_run(folder / name)
    row["method"] = name.removeprefix(f"{row['task']}-").rsplit("-", 2)[0]  # its label in the suite
    paths = plane.paths(folder / name / "metrics.jsonl")
    if "knn" in paths:  # the run read its latent during training
        row["plane"] = paths["knn"]
    row["background"] = shown(row["background"])
    row["command"] = command_of(words)
    row["settings"] = settings(runs.load(folder / name))
    result_files.write(results / f"{name}.json", row)
    return row


def settings(config: runs.RunConfig) -> dict:
    """Return dotted key -> plain value of every option that determines a run."""
    chosen = {
        key: options.value_of(config, key)
        for key in options.leaves(runs.RunConfig)
        if key not in PLACE
    }
    # Of a run it is absolute, of a suite as it was typed.
    source = Path(backgrounds.resolved(config.background).source)
    chosen["background.source"] = (
        str(source.relative_to(ROOT)) if source.is_relative_to(ROOT) else shown(str(source))
    )
    return json.loads(json.dumps(chosen))


def is_finished(run: Path, words: list[str], cuda: bool) -> bool:
    """Return whether a run with these words is at its end, with its scores: only its result is
    missing.
    """
    if not (run / "config.yaml").exists() or not result_files.of_run(run)["scores"]:
        return False
    return not outdated(
        {"command": command_of(words), "settings": settings(runs.load(run))}, words, cuda
    )


def outdated(kept: dict, words: list[str], cuda: bool) -> list[str]:
    """Return the settings of a kept result that differ from those of these words; empty: it is
    current.

    An option that did not exist then counts as the run had it (configs/renamed.py:of_today), or as
    it is.
    """
    if renamed.command_of_today(kept.get("command") or "") != command_of(words):
        return ["command"]
    if "settings" not in kept:
        return ["settings"]
    now = settings(runs.read(words, cuda))
    before = renamed.of_today(kept["settings"])
    return sorted(
        key for key, value in before.items() if key not in PLACE and now.get(key) != value
    )


def command_of(words: list[str]) -> str:
    """Return the command of a run as it is stored."""
    return "python train.py " + " ".join(shown(word) or "''" for word in words)


def shown(word: str) -> str:
    """Return a path outside the project as its last part only: the clips are the user's own."""
    outside = Path(word).is_absolute() and not Path(word).is_relative_to(ROOT)
    return f"PATH/{Path(word).name}" if outside and Path(word).exists() else word


def _is_words(value) -> bool:
    """Return whether a value is options of train.py: no open quote, printable characters only."""
    try:
        return (
            isinstance(value, str)
            and " ".join(value.split()).isprintable()
            and shlex.split(value) is not None
        )
    except ValueError:
        return False


def _is_named(value, fits) -> bool:
    """Return whether a value is a mapping from labels, which become parts of file names, to values
    that fit.
    """
    return isinstance(value, dict) and all(
        valid_name(name) and fits(each) for name, each in value.items()
    )


def _is_text(value) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _is_whole(value, low: int) -> bool:
    return type(value) is int and low <= value < 2**31


KEYS = {  # of a suite: what they must be, and how that is said
    "tasks": (
        lambda value: _is_named(value, lambda own: own is None or _is_words(own)),
        'task: "options" lines',
    ),
    "agents": (
        lambda value: (
            all(map(valid_name, value)) if isinstance(value, list) else _is_named(value, _is_words)
        ),
        'a list of names, or label: "options" lines',
    ),
    "backgrounds": (lambda value: _is_named(value, _is_text), "label: source lines"),
    "seeds": (
        lambda value: isinstance(value, list) and all(_is_whole(seed, 0) for seed in value),
        "a list like [0, 1, 2]",
    ),
    "processes": (lambda value: _is_whole(value, 1), "auto, or a whole number of at least 1"),
    "folder": (_is_text, "the path of a folder"),
    "options": (_is_words, "a text of options, every quote in it closed"),
}


def read_suite(path: str) -> dict:
    """Return a suite's file. `processes: auto` means as many as GPUs, or cores without GPUs.

    Raises: UserError for keys that are missing, unknown, or of another form than in KEYS.
    """
    suite = load_yaml(path)
    if set(suite) != set(KEYS):
        wrong = ", ".join(sorted(short(key) for key in set(suite) ^ set(KEYS)))
        raise UserError(
            f"keys {wrong} are missing or unknown", path, "write " + ", ".join(sorted(KEYS))
        )
    if suite["processes"] == "auto":
        suite["processes"] = pool.places()
    for key, (fits, form) in KEYS.items():
        if not fits(suite[key]):
            raise UserError(
                f"{short(suite[key])} is not what belongs here", f"{path}: {key}", f"write {form}"
            )
    return suite


def check_sources(suite: dict, path: str) -> None:
    """Raise UserError where a background is in a variable that is not set, before any run fails by
    it.
    """
    for name in re.findall(r"\$\{?(\w+)", " ".join(suite["backgrounds"].values())):
        if not os.environ.get(name):
            remedy = f"{name}=FOLDER python -m benchmarks.returns {path}, with videos in FOLDER"
            raise UserError(f"the variable {name} is not set", f"{path}: backgrounds", remedy)


def suite_option():
    return option(help="File of a suite, such as benchmarks/video.yaml.", path=True)


def results_option():
    text = (
        "Folder of the result files; without it results/NAME for the suites in benchmarks/, "
        "FOLDER/results for others."
    )
    return option("", text, path=True)


@config_class
class SuiteConfig:
    """Options of the programs that work on a suite."""

    suite: str = suite_option()
    results: str = results_option()


@config_class
class ReturnsConfig:
    """Options of this program."""

    suite: str = suite_option()
    results: str = results_option()
    engine: str = engines.engine_option()
    address: str = engines.address_option()
    gpus: float = engines.gpus_option()
    cpus: float = engines.cpus_option()
    only: str = option(
        "",
        "I/N: only the I-th of N shares of the runs, counted from 0; the others are other "
        "jobs' work.",
    )


Config = TypeVar("Config")


def opened(
    argv: list[str], description: str | None, cls: type[Config] = SuiteConfig
) -> tuple[Config, dict, Path]:
    """Return the options of a program that works on a suite, the suite, and where its results are.

    description   what --help says first
    cls           the class of the options, with `suite` and `results` among them
    """
    manual = Manual(usage=f"python -m benchmarks.{Path(sys.argv[0]).stem} SUITE.yaml")
    config = options.parse(cls, argv, None, "suite", (description or "").strip(), manual=manual)
    suite = read_suite(config.suite)
    return (
        config,
        suite,
        Path(config.results) if config.results else results_of(config.suite, suite),
    )


def results_of(path: str, suite: dict) -> Path:
    """Return the folder of a suite's results: in results/ for the project's own suites only."""
    ours = Path(path).resolve().is_relative_to(ROOT / "benchmarks")
    return RESULTS / Path(path).stem if ours else ROOT / suite["folder"] / "results"


def kept_results(
    words_of: dict[str, list[str]], folder: Path, results: Path, cuda: bool
) -> dict[str, dict]:
    """Return name -> result of the runs that need no start; the result of a finished run is written
    now.
    """
    table = {}
    for name, words in words_of.items():
        path = results / f"{name}.json"
        changed = ["no result"]
        if path.exists():
            kept = result_files.read(path)
            changed = outdated(kept, words, cuda)
            if changed:
                print(
                    f"{name}: measured again, since these changed: {', '.join(changed)}", flush=True
                )
            else:
                table[name] = kept
        if changed and is_finished(folder / name, words, cuda):
            table[name] = collect(name, words, folder, results)
    return table


def main(argv: list[str]) -> None:
    config, suite, results = opened(argv, __doc__, ReturnsConfig)
    check_sources(suite, config.suite)
    folder = ROOT / suite["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    rows = jobs(suite)
    words_of = dict(share(rows, config.only))
    engine = engines.opened(
        config.engine, suite["processes"], folder, config.address, config.gpus, config.cpus
    )
    with contextlib.closing(engine), pool.stoppable():
        suite_check.check(dict(rows), folder, config.suite, engine.cuda)
        table = kept_results(words_of, folder, results, engine.cuda)
        waiting = {name: words_of[name] for name in words_of if name not in table}
        suite_check.warn_of_space(dict(rows), waiting, folder, config.suite, engine.cuda)
        failed = measure(waiting, folder, results, engine, table)
    scores = {name: result_files.means(row) for name, row in table.items()}
    print(result_files.means_table(scores))
    print(json.dumps({"runs": len(table), "failed": failed, "scores": scores}))
    if failed:
        raise SystemExit(1)


def measure(
    waiting: dict[str, list[str]], folder: Path, results: Path, engine: engines.Engine, table: dict
) -> list[str]:
    """Run what waits, write each result and put it into the table; return the names that failed."""
    failed = []
    progress = suite_progress.SuiteProgress(waiting, folder, len(table), engine)
    starts = [
        (name, partial(engine.start, job(name, words, folder))) for name, words in waiting.items()
    ]
    with (
        contextlib.closing(progress),
        contextlib.closing(pool.finished(starts, engine.places, progress.tick)) as ended,
    ):
        for name, process in ended:
            progress.end(name)
            if process.returncode:
                failed.append(name)
                progress.say(f"{name}: exit code {process.returncode}, see {folder / name}.log")
                continue
            table[name] = collect(name, waiting[name], folder, results)
            progress.say(f"{name} {json.dumps(result_files.means(table[name]))}")
    return failed


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
