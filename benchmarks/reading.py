"""Read finished runs of a suite with eval.py, one process of one thread each.

latent.py, skills.py and games.py share it.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import pool, result_files, returns

ROOT = Path(__file__).parents[1]
Job = tuple[Path, list[str]]  # run folder, arguments of eval.py


def unread(suite: dict, results: Path, key: str) -> Iterator[tuple[str, Path, list[str]]]:
    """Return (name, run folder, words of train.py) of finished runs without `key` in their result.

    Their folder must still exist.
    """
    for name, words in returns.jobs(suite):
        run = ROOT / suite["folder"] / name
        path = results / f"{name}.json"
        if path.exists() and (run / "checkpoints").is_dir() and key not in result_files.read(path):
            yield name, run, words


def start(run: Path, words: list[str], log: str, slot: int) -> subprocess.Popen:
    """Start eval.py on one run, with its output in a file next to the run."""
    command = [sys.executable, "eval.py", str(run), *words, "--threads", "1"]
    with Path(f"{run}.{log}.log").open("w") as file:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=file, env=pool.environment(slot)
        )


def place(run: Path, log: str) -> Path:
    """Return the folder of a run's results."""
    return run / "evaluation" / log


def read(jobs: dict[str, Job], places: int, log: str, take: Callable[[str], dict]) -> dict:
    """Run them all and print each; `take` puts the reading of a name where it is kept.

    How many were read, which failed.
    """
    failed = []
    done = 0
    jobs = {
        name: (run, [*words, "--output", str(place(run, log))])
        for name, (run, words) in jobs.items()
    }
    waiting = [(name, partial(start, run, words, log)) for name, (run, words) in jobs.items()]
    for name, process in pool.finished(waiting, places):
        if process.returncode:
            failed.append(name)
            print(
                f"{name}: exit code {process.returncode}, see {jobs[name][0]}.{log}.log", flush=True
            )
            continue
        done += 1
        print(name, json.dumps(take(name)), flush=True)
    return {"read": done, "failed": failed}


def keep(
    argv: list[str],
    description: str | None,
    key: str,
    to_read: Callable[[dict, Path], dict[str, Job]],
    measured: Callable[[Path, dict], tuple[dict, dict]],
    table: Callable[[list[dict]], str],
) -> None:
    """A whole program: read the runs of a suite, put what is measured into their result files,
    print the table and JSON line.

    description   what --help says first
    measured      (a run's evaluation folder, its result) -> (what goes into the result, what is
                  printed of it)
    """
    _, suite, results = returns.opened(argv, description)
    todo = to_read(suite, results)

    def take(name: str) -> dict:
        path = results / f"{name}.json"
        kept = result_files.read(path)
        found, shown = measured(place(todo[name][0], key), kept)
        result_files.write(path, kept | found)
        return shown

    row = read(todo, suite["processes"], key, take)
    print(table(result_files.read_all(results)))
    finish(row)


def finish(row: dict) -> None:
    """Print the JSON line of a program. Raises: SystemExit(1) when something failed."""
    print(json.dumps(row))
    if row["failed"]:
        raise SystemExit(1)
