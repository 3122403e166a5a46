"""What options of the training loop bring on one GPU: ``python -m benchmarks.one_gpu``.

train.py runs with each set of options in turn, is timed once it learns, and is then stopped. The
sets: `plain`; `overlap` updates while environments step; `act` records the action as a CUDA
graph; `both`; `evaluated` is `both` with evaluations in the training process; `apart` has them in a
graph; `both`; `evaluated` is `both` with evaluations in the training process; `apart` has them in a
ten minutes at the default `--seconds`. One JSON line last.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from benchmarks import result_files
from foreground.errors import UserError, run_main
from foreground.option import config_class, option
from foreground.training import options

ROOT = Path(__file__).parents[1]
PAUSE = 0.2  # seconds between two looks
SETTLED = 8  # updates before the timing: the first ones compile and record
OVERLAP = ["--training.overlap", "true"]
ACT = ["--cuda_graphs", "act"]
APART = ["--training.evaluate_async", "true"]
SETS = {
    "plain": [],
    "overlap": OVERLAP,
    "act": ACT,
    "both": OVERLAP + ACT,
    "evaluated": OVERLAP + ACT,
    "apart": OVERLAP + ACT + APART,
}
EVALUATED = ("evaluated", "apart")


@config_class
class LoopConfig:
    """Options of this program."""

    sets: tuple[str, ...] = option(tuple(SETS), "Sets of options.", choices=tuple(SETS))
    num_envs: int = option(8, "Environments, a process each.", ge=2, le=64)
    seconds: float = option(45.0, "Seconds for which each run is timed.", gt=0.0)
    longest: float = option(300.0, "Seconds within which a run must learn.", gt=0.0)
    evaluate_every: int = option(8000, "Env frames between two evaluations.", ge=1)
    train: str = option("", "More options of train.py for every run: --train='--size 12m'.")
    output: str = option(
        "", "File for the result; without it the result is only printed.", path=True
    )


def command(config: LoopConfig, name: str, run: Path) -> list[str]:
    """Return the command of a run with a set of options."""
    every = config.evaluate_every if name in EVALUATED else 0
    words = ["--folder", str(run), "--total_frames", "1000000000"]
    words += ["--environment.num_envs", str(config.num_envs), "--training.capacity", "100000"]
    words += ["--training.prefill", "500", "--training.log_every", "100"]
    words += ["--training.video_every", "1000000000", "--training.checkpoint_every", "1000000000"]
    words += ["--training.evaluate_every", str(every), *SETS[name]]
    return [sys.executable, "train.py", *words, *config.train.split()]


def rows(run: Path) -> list[dict]:
    """Return the whole lines of a run's metrics."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def learning(run: Path) -> list[tuple[int, float]]:
    """Return env frame and time of each line of metrics after the first updates."""
    return [
        (row["step"], row["wall"]) for row in rows(run) if row.get("clock/update", 0) >= SETTLED
    ]


def wait(process: subprocess.Popen, config: LoopConfig, run: Path, log: TextIO) -> None:
    """Wait until a run has learned for the time that is asked for.

    Raises: UserError where it ends or does not learn.
    """
    late = time.monotonic() + config.longest
    while not learning(run):
        if process.poll() is not None:
            log.seek(0)
            said = log.read().strip().splitlines()[-1:]
            raise UserError(f"a run failed ({''.join(said)[:300]})", "train.py", "see its line")
        if time.monotonic() > late:
            raise UserError("a run does not learn in time", str(run), "give a larger --longest")
        time.sleep(PAUSE)
    end = time.monotonic() + config.seconds
    late = end + config.longest
    while time.monotonic() < end or (len(learning(run)) < 2 and time.monotonic() < late):
        if process.poll() is not None:
            return
        time.sleep(PAUSE)


def measure(config: LoopConfig, name: str, run: Path) -> dict[str, float]:
    """Return env frames a second of a run, and its number of evaluations in that time."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command(config, name, run), cwd=ROOT, stdout=log, stderr=log, text=True
        )
        try:
            wait(process, config, run, log)
            process.send_signal(signal.SIGTERM)
            process.wait(config.longest)
        finally:
            process.kill()
            process.wait()
    points = learning(run)
    (first, began), (last, ended) = points[0], points[-1]
    if ended <= began:
        raise UserError("too few lines of metrics", str(run), "give more --seconds")
    made = [row for row in rows(run) if any(key.startswith("evaluation/") for key in row)]
    return {
        "frames_per_second": round((last - first) / (ended - began), 2),
        "evaluations": len(made),
    }


def main(argv: list[str]) -> None:
    config = options.parse(LoopConfig, argv, None, description=(__doc__ or "").strip())
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="one-gpu") as folder:
        for name in config.sets:
            found[name] = measure(config, name, Path(folder) / name)
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    first = found[config.sets[0]]["frames_per_second"]
    times = {name: round(row["frames_per_second"] / first, 3) for name, row in found.items()}
    row = {"sets": found, f"times_{config.sets[0]}": times}
    row |= result_files.origin("one_gpu", argv)
    if config.output:
        result_files.write(Path(config.output), row)
    print(json.dumps(row))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
