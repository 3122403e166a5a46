"""Train, kill and resume environments of other packages.

    python -m benchmarks.doors

Each environment is trained for some thousand frames, killed by SIGKILL after a checkpoint, and
resumed by the same command. The program needs the extra `outside`. It prints one JSON line per
environment, and a JSON line of all of them last. An environment takes one to five minutes.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from foreground.errors import UserError, nearest, run_main
from foreground.training import checkpoint

ROOT = Path(__file__).parents[1]

FRAMES = 3000  # env frames of a run
LONGEST = 900.0  # seconds
COMMON = f"""
--agent dreamer --size cpu --device cpu --threads 1 --total_frames {FRAMES} --seed 1
--training.prefill 500 --training.train_ratio 16 --training.checkpoint_every 500
--training.evaluate_every 0 --evaluation.episodes 3
"""


class Door(NamedTuple):
    """An environment: the package that brings it, the module that tells whether it is installed,
    and options of train.py.
    """

    package: str
    module: str
    words: str


# Behind MuJoCo; drawing it takes a thirtieth of the environment's own picture.
VIDEO = "--background.source procedural"
DOORS = {
    "hopper": Door(
        "gymnasium",
        "imageio",
        "--task gymnasium:Hopper-v5 --env_arguments camera_name=track "
        f"--environment.action_repeat 2 {VIDEO}",
    ),
    "door": Door(
        "gymnasium-robotics",
        "gymnasium_robotics",
        f"--task gymnasium:AdroitHandDoor-v1 --env_module gymnasium_robotics {VIDEO}",
    ),
    "racetrack": Door(
        "highway-env",
        "highway_env",
        "--task gymnasium:racetrack-v0 --env_module highway_env --environment.action_repeat 2",
    ),
    "pusht": Door(
        "gym-pusht",
        "gym_pusht",
        "--task gymnasium:gym_pusht/PushT-v0 --env_module gym_pusht --env_arguments "
        "obs_type=pixels",
    ),
}


def command(door: Door, folder: Path) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "train.py"),
        *COMMON.split(),
        *door.words.split(),
        "--folder",
        str(folder),
    ]


def killed(words: list[str], folder: Path) -> int:
    """Start a run, kill it behind its first checkpoint in the second half, and return that
    checkpoint's frame.

    Raises: RuntimeError where it ends or lasts too long before.
    """
    with (folder.parent / "first.txt").open("w") as said:
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, cwd=ROOT)
    ends = time.monotonic() + LONGEST
    while process.poll() is None and time.monotonic() < ends:
        frames = [checkpoint.step_of(path) for path in checkpoint.steps(folder / "checkpoints")]
        if frames and frames[-1] >= FRAMES // 2:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return frames[-1]
        time.sleep(0.5)
    process.kill()
    raise RuntimeError(
        f"it ended with code {process.wait()}: {(folder.parent / 'first.txt').read_text()[-500:]}"
    )


def metrics(folder: Path) -> dict[str, float]:
    """Return the last value of every key that was logged."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {key: value for row in rows for key, value in row.items()}


def go_through(name: str) -> dict:
    """Train, kill and resume in one environment; return what came of it."""
    door = DOORS[name]
    began = time.monotonic()
    row = {
        "name": name,
        "package": f"{door.package} {version(door.package)}",
        "task": door.words.split()[1],
        "frames": FRAMES,
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        words = command(door, folder)
        row["killed_behind"] = killed(words, folder)
        ended = subprocess.run(
            words, capture_output=True, text=True, cwd=ROOT, timeout=LONGEST, check=False
        )
        if ended.returncode:
            raise RuntimeError(
                f"resumed, it ended with code {ended.returncode}: {ended.stderr[-500:]}"
            )
        row["resumed"] = next(
            line for line in ended.stdout.splitlines() if line.startswith("resumed")
        ).split("at ")[-1]
        row["said"] = next(
            line for line in ended.stderr.splitlines() if "no episode under way" in line
        )
        scores = json.loads((folder / "scores.json").read_text())["scores"]
        last = metrics(folder)
    keys = (
        "episode/count",
        "clock/update",
        "model/reward/explained",
        "model/continuation/explained",
        "policy/continuation",
    )
    row |= {key: round(last[key], 3) for key in keys if last[key] is not None}  # null: no number
    sides = {
        "return": "clean",
        "random": next(side for side in scores if side.startswith("random policy")),
    }
    row |= {key: round(scores[side]["mean"], 2) for key, side in sides.items()}
    return row | {"seconds": round(time.monotonic() - began)}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(DOORS)}; default: all"
    )
    parser.add_argument("--save", action="store_true", help="write results/doors.json")
    asked = parser.parse_args(argv)
    names = asked.names or list(DOORS)
    for name in names:
        if name not in DOORS:
            raise UserError(f"unknown environment {name!r}", "command line", nearest(name, DOORS))
    rows = []
    for name in names:
        rows.append(go_through(name))
        print(json.dumps(rows[-1]), flush=True)
    result = {"doors": rows}
    if asked.save:
        (ROOT / "results" / "doors.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
