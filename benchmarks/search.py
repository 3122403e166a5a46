"""Search for options with Ray Tune.

    python -m benchmarks.search SUITE.yaml --trials 16

The suite is one of benchmarks/returns.py with ranges in place of values (benchmarks/ranges.py):
`1e-5..1e-3`, `8..64`, `0.5|0.7|0.9`. Each run of the suite is searched separately. A trial is a run
of train.py with values drawn from the ranges. ASHA stops a trial whose held-out return is not among
the best third, or the share of --keep, of those that reached the same frame. The same command
continues a stopped search. search.csv, next to the results, has a line for each trial. The last
line printed is JSON with the best trial of each run.
"""

import contextlib
import csv
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import engine as engines
from benchmarks import pool, ranges, result_files, returns, suite_progress
from foreground.configs import run as runs
from foreground.errors import UserError, run_main
from foreground.option import config_class, option
from foreground.training.files import write_atomic

ROOT = Path(__file__).parents[1]

TABLE = "search.csv"
SETTINGS = {  # of Ray Tune
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # further files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends this program
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a run may end without an evaluation
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


@config_class
class SearchConfig:
    """Options of this program."""

    suite: str = returns.suite_option()
    results: str = returns.results_option()
    trials: int = option(16, "Trials of each run of the suite.", ge=2)
    keep: float = option(
        3.0, "Of this number of trials that reach a frame, ASHA continues one.", gt=1
    )
    address: str = engines.address_option()
    gpus: float = engines.gpus_option()
    cpus: float = engines.cpus_option()


@dataclass(frozen=True)
class Drawn:
    """A trial before it runs.

    Its name, which is that of its folder, the words of train.py, what was drawn, its config.
    """

    name: str
    words: list[str]
    values: dict[str, str]
    config: runs.RunConfig

    @property
    def side(self) -> str:
        """Return the background whose return counts."""
        return self.config.fresh_side


def trials_of(suite: dict, number: int, path: str, cuda: bool) -> dict[str, list[Drawn]]:
    """Return the trials of each run of a suite.

    Errors: UserError where there is no range, where a value is refused, or where there is nothing
    to stop a trial by.
    """
    found = {}
    for name, words in returns.jobs(suite):
        if not ranges.drawn(words, 0)[1]:
            remedy = "write LOW..HIGH or A|B|C in place of a value of an option"
            raise UserError(f"there is no range in the options of {name}", path, remedy)
        found[name] = []
        for trial in range(number):
            own, values = ranges.drawn(words, trial)
            config = runs.read(own, cuda)
            every = config.training.evaluate_every
            if not 0 < every < config.total_frames:
                what = (
                    "a trial is stopped by its evaluations, and there is none before frame "
                    f"{config.total_frames}"
                )
                raise UserError(
                    what,
                    f"{path}: training.evaluate_every",
                    f"choose {config.total_frames // 9} or so",
                )
            found[name].append(Drawn(ranges.named(name, trial, values), own, values, config))
    return found


def searched(trials: list[Drawn], folder: Path, engine, keep: float, ended: dict[str, str]) -> None:
    """Run the trials of one run under ASHA; put how each ended into `ended`."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    from benchmarks import cluster
    from benchmarks.trial import Trial, Watch

    finished = [returns.is_finished(folder / each.name, each.words, engine.cuda) for each in trials]
    jobs = [
        (
            returns.job(each.name, each.words, folder),
            folder / each.name,
            f"evaluation/return_{each.side}",
            done,
        )
        for each, done in zip(trials, finished)
    ]
    told = {"jobs": jobs, "here": engine.here, "meeting": engine.meeting}
    needs = {"cpu": engine.cpus, "gpu": engine.gpus}
    frames, every = trials[0].config.total_frames, trials[0].config.training.evaluate_every
    asha = ASHAScheduler(
        "frame", max_t=frames, grace_period=every, reduction_factor=keep, stop_last_trials=False
    )
    words_of = {each.name: each.words for each in trials}
    with contextlib.closing(suite_progress.SuiteProgress(words_of, folder, 0, engine)) as line:
        tune.Tuner(
            tune.with_resources(tune.with_parameters(Trial, **told), needs),
            param_space={"trial": tune.grid_search(list(range(len(trials))))},
            tune_config=tune.TuneConfig(metric="return", mode="max", scheduler=asha),
            run_config=tune.RunConfig(
                name=engine.meeting.name,
                storage_path=str(engine.meeting),
                failure_config=tune.FailureConfig(max_failures=cluster.STARTS),
                # Runs have their own.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Watch(line, list(words_of), ended)],
                verbose=0,
            ),
        ).fit()


def row_of(run: str, trial: Drawn, folder: Path, ended: str) -> dict:
    """Return a trial as a line of the table.

    Its return is that of its last evaluation, where it has one.
    """
    metrics = folder / trial.name / "metrics.jsonl"
    row = {"run": run, "trial": trial.name.removeprefix(f"{run}-"), "ended": ended}
    row |= {"env_frame": suite_progress.last_frame(metrics), "return": None}
    if (folder / trial.name / "config.yaml").exists():
        measured = result_files.of_run(folder / trial.name)
        looks = measured["evaluations"].get(f"return_{trial.side}", {}).get("ys", [])
        score = measured["scores"].get(trial.side, {}).get("mean") if ended == "finished" else None
        row["return"] = score if score is not None else looks[-1] if looks else None
    return row | trial.values


def table(rows: list[dict]) -> str:
    """Return the rows as CSV, the best of each run first."""
    order = list(dict.fromkeys(row["run"] for row in rows))
    rows = sorted(rows, key=lambda row: (order.index(row["run"]), -_value(row)))
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _value(row: dict) -> float:
    return row["return"] if row["return"] is not None else float("-inf")


def best(rows: list[dict]) -> dict[str, dict]:
    """Return the best finished trial of each run."""
    found = {}
    for row in rows:
        if row["ended"] == "finished" and (
            row["run"] not in found or _value(row) > _value(found[row["run"]])
        ):
            found[row["run"]] = row
    return {
        run: {key: row[key] for key in row if key not in ("run", "ended")}
        for run, row in found.items()
    }


def main(argv: list[str]) -> None:
    config, suite, results = returns.opened(argv, __doc__, SearchConfig)
    returns.check_sources(suite, config.suite)
    # Report a mistake before a cluster is used.
    trials_of(suite, config.trials, config.suite, False)
    folder = ROOT / suite["folder"]
    for each in (folder, results):
        each.mkdir(parents=True, exist_ok=True)
    os.environ |= SETTINGS
    rows = []
    engine = engines.opened("ray", 0, folder, config.address, config.gpus, config.cpus)
    with contextlib.closing(engine), pool.stoppable():
        for run, trials in trials_of(suite, config.trials, config.suite, engine.cuda).items():
            ended: dict[str, str] = {}
            searched(trials, folder, engine, config.keep, ended)
            rows += [
                row_of(run, each, folder, ended.get(each.name, "not started")) for each in trials
            ]
            write_atomic(results / TABLE, table(rows).encode())
    print(table(rows), end="")
    failed = [row["trial"] for row in rows if row["ended"] not in ("finished", "stopped")]
    print(
        json.dumps(
            {
                "trials": len(rows),
                "failed": failed,
                "best": best(rows),
                "table": str(results / TABLE),
            }
        )
    )
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
