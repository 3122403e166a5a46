"""What the latents of a suite's runs hold: ``python benchmarks/latent.py SUITE.yaml``, after benchmarks/returns.py.

Runs ``eval.py RUN --latent`` on the held-out clips for every finished run whose folder is still there and whose result file
has no reading yet, and adds the reading to that file as "latent"; benchmarks/plot.py makes a table of it. A stopped program
goes on where it was. One JSON line last.
"""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import pool  # noqa: E402
from benchmarks.returns import jobs, read_suite  # noqa: E402
from errors import UserError, run_main  # noqa: E402
from evaluation.probes import summary  # noqa: E402

EPISODES = 32  # for probes, half to fit, half to score


def start(run: Path, side: str, slot: int) -> subprocess.Popen:
    """One thread; the film of a single episode comes with it."""
    words = ["--latent", "--latent_episodes", str(EPISODES), "--background", side, "--episodes", "1", "--threads", "1"]
    environment = pool.environment(slot)
    with Path(f"{run}.latent.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "eval.py", str(run), *words], cwd=ROOT, stdout=log, stderr=log, env=environment
        )


def take(run: Path, result: Path, side: str) -> dict:
    """The reading into the result file."""
    reading = summary(json.loads((run / "evaluation" / "latent.json").read_text())["readings"][side])
    row = json.loads(result.read_text())
    row["latent"] = {key: round(value, 4) for key, value in reading.items()} | {"episodes": EPISODES}
    result.write_text(json.dumps(row))
    return row["latent"]


def main(argv: list[str]) -> None:
    if len(argv) != 1:
        raise UserError("one suite is expected", "command line", "python benchmarks/latent.py SUITE.yaml")
    suite = read_suite(argv[0])
    results, todo, failed, read = ROOT / "results" / Path(argv[0]).stem, {}, [], 0
    for name, words in jobs(suite):
        run, result = ROOT / suite["folder"] / name, results / f"{name}.json"
        if result.exists() and (run / "checkpoints").is_dir() and "latent" not in json.loads(result.read_text()):
            side = "clean" if words[words.index("--background.source") + 1] == "none" else "heldout"
            todo[name] = (run, result, side)
    waiting = [(name, partial(start, run, side)) for name, (run, _, side) in todo.items()]
    for name, process in pool.finished(waiting, suite["processes"]):
        run, result, side = todo[name]
        if process.returncode:
            failed.append(name)
            print(f"{name}: exit code {process.returncode}, see {run}.latent.log", flush=True)
            continue
        read += 1
        print(name, json.dumps(take(run, result, side)), flush=True)
    print(json.dumps({"read": read, "failed": failed}))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
