"""What several GPUs bring to one run: ``python -m benchmarks.several_gpus --ranks 2``.

torchrun starts train.py with 1 rank, then with twice as many, up to `--ranks`. Each run gives
updates and replayed steps a second, over the second half of its updates. Then one rank is killed in
the middle of another run: torchrun must start all ranks again, and they must resume from their last
checkpoint. The ranks compare their weights at each checkpoint.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import result_files
from foreground import ranks
from foreground.configs import run as runs
from foreground.errors import UserError, run_main
from foreground.option import config_class, option
from foreground.training import checkpoint, options

ROOT = Path(__file__).parents[1]
PAUSE = 0.05  # seconds between two looks


@config_class
class GpusConfig:
    """Options of this program."""

    ranks: int = option(2, "Most ranks: as many as there are GPUs.", ge=2, le=4096)
    frames: int = option(8000, "Env frames for each rank.", ge=200)
    train: str = option(
        "", "Options of train.py for every run: --train='--size cpu'; without --size it is 12m."
    )
    longest: float = option(600.0, "Seconds for each run.", gt=0.0)
    output: str = option(
        "", "File for the result; without it the result is only printed.", path=True
    )


def command(config: GpusConfig, number: int, run: Path, frames: int) -> list[str]:
    """Return the command of a run on so many ranks."""
    launch = [
        "--standalone",
        "--nproc-per-node",
        str(number),
        "--max-restarts",
        "2",
        "--local-ranks-filter",
        "0",
    ]
    words = (
        ["--size", "12m", *config.train.split()]
        if "--size" not in config.train
        else config.train.split()
    )
    words += ["--folder", str(run), "--total_frames", str(frames)]
    words += ["--evaluation.episodes", "1", "--training.evaluate_every", "0"]
    words += [
        "--training.log_every",
        str(max(frames // 20, 1)),
        "--training.checkpoint_every",
        str(max(frames // 8, 1)),
    ]
    return [sys.executable, "-m", "torch.distributed.run", *launch, "train.py", *words]


def start(words: list[str], log: Path) -> subprocess.Popen:
    """Start torchrun; its output is added to the log."""
    told = os.environ | {
        ranks.SHARED_STORE: "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    with log.open("a") as file:
        return subprocess.Popen(words, cwd=ROOT, env=told, stdout=file, stderr=file)


def ended(process: subprocess.Popen, config: GpusConfig, log: Path) -> None:
    """Wait for a run. Errors: UserError where it fails, or does not end in time."""
    try:
        code = process.wait(config.longest)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
        raise UserError(
            f"a run did not end within {config.longest:.0f} s", str(log), "give a larger --longest"
        ) from None
    if code:
        last = [line for line in log.read_text().splitlines() if line.startswith("error: ")][-1:]
        raise UserError(
            f"a run failed ({last[0][:300] if last else code})", "torchrun", "see its own line"
        )


def speed(run: Path, number: int) -> dict[str, float]:
    """Return updates and replayed steps a second, over the second half of the updates."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    points = [(row["wall"], row["clock/update"]) for row in rows if "clock/update" in row]
    points = [point for point in points if point[1] >= points[-1][1] / 2]
    if len(points) < 2 or points[-1][1] == points[0][1]:
        raise UserError("too few updates to measure their speed", str(run), "give more --frames")
    rate = (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0])
    training = runs.load(run).training
    steps = rate * number * training.batch_size * training.batch_length
    return {"updates_per_second": round(rate, 3), "replayed_steps_per_second": round(steps, 1)}


def survives(config: GpusConfig, folder: Path, log: Path) -> bool:
    """Kill the last rank in the middle of a run; return whether the run resumed and ended."""
    run, frames, limit = (
        folder / "killed",
        config.frames * config.ranks,
        time.monotonic() + config.longest,
    )
    own = run / "ranks" / f"{config.ranks - 1:03d}"
    process = start(command(config, config.ranks, run, frames), log)
    while len(checkpoint.steps(own / "checkpoints")) < 2:
        if process.poll() is not None or time.monotonic() > limit:
            process.terminate()
            raise UserError(
                "the run ended before a rank was killed",
                str(run),
                "give more --frames or --longest",
            )
        time.sleep(PAUSE)
    before = log.read_text().count("resumed ")
    os.kill(int((own / ".lock").read_text().split()[0]), signal.SIGKILL)
    ended(process, config, log)
    return log.read_text().count("resumed ") == before + 1 and (run / "scores.json").exists()


def measure(config: GpusConfig, folder: Path) -> dict:
    """Return the speed by number of ranks, and whether a killed rank was survived."""
    log, row, number = folder / "log", {}, 1
    while number <= config.ranks:
        run = folder / f"ranks-{number}"
        ended(start(command(config, number, run, config.frames * number), log), config, log)
        row[str(number)] = speed(run, number)
        number *= 2
    return {"ranks": row, "survives_kill": survives(config, folder, log)}


def main(argv: list[str]) -> None:
    config = options.parse(GpusConfig, argv, None, description=(__doc__ or "").strip())
    with tempfile.TemporaryDirectory(prefix="several-gpus") as folder:
        row = measure(config, Path(folder)) | result_files.origin("several_gpus", argv)
    if config.output:
        result_files.write(Path(config.output), row)
    print(json.dumps(row))
    if not row["survives_kill"]:
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
