"""What it brings to update while the environments step: ``python -m benchmarks.overlap``.

train.py runs with and without ``--training.overlap``, in turn. Each run gives env frames a second,
from the first line of metrics after learning began to the last one. Environments and updates must
not share one core. One JSON line last.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import result_files
from foreground.errors import UserError, run_main
from foreground.option import config_class, option
from foreground.training import options

ROOT = Path(__file__).parents[1]
SIDES = ("false", "true")


@config_class
class OverlapConfig:
    """Options of this program."""

    num_envs: int = option(2, "Environments, a process each.", ge=2, le=64)
    frames: int = option(6000, "Env frames of each run.", ge=1000)
    repeats: int = option(2, "Runs of each kind.", ge=1)
    train: str = option("", "More options of train.py for every run, in quotes.")
    output: str = option(
        "", "File for the result; without it the result is only printed.", path=True
    )


def command(config: OverlapConfig, overlap: str, run: Path) -> list[str]:
    """Return the command of a run."""
    words = [
        "--total_frames",
        str(config.frames),
        "--training.prefill",
        "500",
        "--training.log_every",
        "250",
    ]
    words += [
        "--environment.num_envs",
        str(config.num_envs),
        "--training.overlap",
        overlap,
        "--evaluation.episodes",
        "1",
    ]
    words += [
        "--training.evaluate_every",
        "0",
        "--training.video_every",
        "1000000",
        "--training.checkpoint_every",
        "1000000",
    ]
    return [sys.executable, "train.py", "--folder", str(run), *words, *config.train.split()]


def speed(config: OverlapConfig, overlap: str, run: Path) -> float:
    """Return env frames a second of a run. Errors: UserError where it fails."""
    done = subprocess.run(command(config, overlap, run), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            f"a run failed ({done.stderr.strip().splitlines()[-1][:300]})",
            "train.py",
            "see its line",
        )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    points = [(row["step"], row["wall"]) for row in rows if row.get("clock/update")]
    (first, began), (last, ended) = points[0], points[-1]
    return (last - first) / (ended - began)


def main(argv: list[str]) -> None:
    config = options.parse(OverlapConfig, argv, None, description=(__doc__ or "").strip())
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="overlap") as folder:
        for repeat in range(config.repeats):
            for side in SIDES:
                found[side].append(round(speed(config, side, Path(folder) / f"{side}{repeat}"), 2))
    without, overlapped = (statistics.median(found[side]) for side in SIDES)
    row = {
        "frames_per_second": {"without": found["false"], "overlap": found["true"]},
        "times": round(overlapped / without, 3),
    }
    row |= result_files.origin("overlap", argv)
    if config.output:
        result_files.write(Path(config.output), row)
    print(json.dumps(row))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
