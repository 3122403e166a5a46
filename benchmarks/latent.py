"""Read what the latents of a suite's runs hold, after benchmarks/returns.py.

    python -m benchmarks.latent SUITE.yaml

Runs ``eval.py RUN --latent`` on the held-out clips for every finished run whose folder still
exists, and adds the reading to its result file as "latent"; benchmarks/plot.py makes a table of it.
The runs of one task, background and seed read the same episodes: each policy acts in its share of
them. A stopped program continues where it was; a reading on the episodes of other policies is
repeated. One JSON line last.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import reading, result_files, returns
from benchmarks.returns import jobs
from foreground.configs import run as runs
from foreground.errors import run_main
from foreground.evaluation.probes import summary

ROOT = Path(__file__).parents[1]

EPISODES = 32  # for probes, half to fit, half to score; more where more than eight policies act


def episodes(actors: list[Path]) -> int:
    """Return the number of episodes in which each policy acts: evaluation/record.py gives it four
    in turn.
    """
    return max(EPISODES, 4 * len(actors))


def words_of(side: str, actors: list[Path]) -> list[str]:
    """Return the arguments of eval.py, which also makes the video of a single episode."""
    words = ["--latent_actors", ",".join(map(str, actors))]
    return [
        *words,
        "--latent",
        "--latent_episodes",
        str(episodes(actors)),
        "--background",
        side,
        "--episodes",
        "1",
    ]


def readers(suite: dict) -> Iterator[tuple[str, Path, list[Path]]]:
    """Return (name, run, runs whose policies act) of every run whose folder exists."""
    there = [(name, ROOT / suite["folder"] / name, words) for name, words in jobs(suite)]
    # Without --agent.
    there = [(name, run, words[2:]) for name, run, words in there if (run / "checkpoints").is_dir()]
    for name, run, words in there:
        yield name, run, [other for _, other, same in there if same == words]


def take(run: Path, path: Path, side: str, actors: list[Path]) -> dict:
    """Put the reading into the result file."""
    found = summary(
        json.loads((reading.place(run, "latent") / "latent.json").read_text())["readings"][side]
    )
    row = result_files.read(path)
    row["latent"] = {key: round(value, 4) for key, value in found.items()}
    names = [actor.name for actor in actors]
    row["latent"] |= {"episodes": episodes(actors), "actors": names}
    result_files.write(path, row)
    return row["latent"]


def main(argv: list[str]) -> None:
    _, suite, results = returns.opened(argv, __doc__)
    todo = {}
    for name, run, actors in readers(suite):
        path = results / f"{name}.json"
        if not path.exists():
            continue
        kept = result_files.read(path).get("latent", {})
        if kept.get("actors") != [actor.name for actor in actors]:
            todo[name] = (run, path, runs.load(run).fresh_side, actors)
    waiting = {name: (run, words_of(side, actors)) for name, (run, _, side, actors) in todo.items()}
    reading.finish(
        reading.read(waiting, suite["processes"], "latent", lambda name: take(*todo[name]))
    )


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
