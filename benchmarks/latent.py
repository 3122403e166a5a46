"""What the latents of a suite's runs hold: ``python benchmarks/latent.py SUITE.yaml``, after benchmarks/returns.py.

Runs ``eval.py RUN --latent`` on the held-out clips for every finished run whose folder is still there and whose result file
has no reading yet, and adds the reading to that file as "latent"; benchmarks/plot.py makes a table of it. A stopped program
goes on where it was. One JSON line last.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.returns import jobs, read_suite  # noqa: E402
from errors import UserError, run_main  # noqa: E402
from evaluation.probes import summary  # noqa: E402

EPISODES = 32  # for probes, half to fit, half to score


def start(run: Path, side: str) -> subprocess.Popen:
    """One thread; the film of a single episode comes with it."""
    words = ["--latent", "--latent_episodes", str(EPISODES), "--background", side, "--episodes", "1", "--threads", "1"]
    with Path(f"{run}.latent.log").open("w") as log:
        return subprocess.Popen([sys.executable, "eval.py", str(run), *words], cwd=ROOT, stdout=log, stderr=log)


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
    results, waiting, running, failed, read = ROOT / "results" / Path(argv[0]).stem, [], {}, [], 0
    for name, words in jobs(suite):
        run, result = ROOT / suite["folder"] / name, results / f"{name}.json"
        if result.exists() and (run / "checkpoints").is_dir() and "latent" not in json.loads(result.read_text()):
            side = "clean" if words[words.index("--background.source") + 1] == "none" else "heldout"
            waiting.append((name, run, result, side))
    while waiting or running:
        while waiting and len(running) < suite["processes"]:
            name, run, result, side = waiting.pop(0)
            running[name] = (start(run, side), run, result, side)
        for name in [name for name, row in running.items() if row[0].poll() is not None]:
            process, run, result, side = running.pop(name)
            if process.returncode:
                failed.append(name)
                print(f"{name}: exit code {process.returncode}, see {run}.latent.log", flush=True)
                continue
            read += 1
            print(name, json.dumps(take(run, result, side)), flush=True)
        time.sleep(0.5)
    print(json.dumps({"read": read, "failed": failed}))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
