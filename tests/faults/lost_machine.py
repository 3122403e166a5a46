"""Lose one of two Ray machines in the middle of six real runs.

    python -m tests.faults.lost_machine

Both machines are on the loopback network. The second one is killed with all its processes once one
result exists and both machines have a run with a checkpoint. Then every result must exist, no
finished run may have started again, and the lost run must have resumed from a checkpoint. The suite
is then started once more, and must start nothing. Writes lost_machine.json and .log.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import result_files
from foreground.errors import UserError, run_main
from foreground.option import config_class, option
from foreground.training import checkpoint, options
from tests.faults.runs import PLAIN
from tests.support import loopback

ROOT = Path(__file__).parents[2]

LONGEST = 900.0  # seconds for the suite
# Given by the suite.
OTHERWISE = ("--task", "--background.source", "--threads", "--training.checkpoint_every")


@config_class
class LostConfig:
    """Options of this program."""

    output: str = option("results/cluster", "Folder of the result and its log.", path=True)
    frames: int = option(3000, "Env frames of each run.", ge=1000)


def suite_of(folder: Path, frames: int) -> Path:
    """Write the suite of six runs, two agents with three seeds, and return its path."""
    pairs = zip(PLAIN[::2], PLAIN[1::2])
    words = [word for name, value in pairs if name not in OTHERWISE for word in (name, value)]
    suite = {
        "tasks": {"cartpole-balance": ""},
        "agents": ["c_dreamer", "repo"],
        "backgrounds": {"video": "procedural"},
        "seeds": [0, 1, 2],
        "processes": 1,
        "folder": str(folder / "runs"),
        "options": " ".join(words) + f" --training.checkpoint_every 200 --total_frames {frames}",
    }
    path = folder / "suite.yaml"
    path.write_text(json.dumps(suite))  # JSON is YAML
    return path


def run_on(machine: loopback.Machine, folder: Path) -> Path | None:
    """Return the folder of an unfinished run on that machine that has a checkpoint."""
    for process in machine.programs():
        try:
            words = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "train.py" in words and "--folder" in words:
            run = Path(words[words.index("--folder") + 1])
            if checkpoint.steps(run / "checkpoints") and not (run / "scores.json").exists():
                return run
    return None


def suite(path: Path, machine: loopback.Machine, log: Path) -> subprocess.Popen:
    """Start returns.py on the cluster; its output is added to the log."""
    words = [
        sys.executable,
        "-m",
        "benchmarks.returns",
        str(path),
        "--engine",
        "ray",
        "--address",
        machine.head,
    ]
    with log.open("a") as file:
        return subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file)


def ended(process: subprocess.Popen) -> int:
    """Wait for the suite. Errors: UserError where it does not end."""
    try:
        return process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise UserError("the suite did not end", f"{LONGEST:.0f} s", "see its log") from None


def lose(path: Path, machines: list[loopback.Machine], log: Path) -> tuple[int, Path]:
    """Run the suite and kill the second machine in the middle.

    Return the exit code and the folder of the lost run.
    """
    results, limit = path.parent / "runs" / "results", time.monotonic() + LONGEST
    process = suite(path, machines[0], log)
    while not (
        list(results.glob("*.json"))
        and run_on(machines[0], path.parent)
        and run_on(machines[1], path.parent)
    ):
        if process.poll() is not None or time.monotonic() > limit:
            process.terminate()
            raise UserError(
                "the suite ended before a machine was killed", str(log), "give more --frames"
            )
        time.sleep(0.05)
    lost = run_on(machines[1], path.parent)
    machines[1].kill()
    with log.open("a") as file:
        file.write(
            f"--- machine {machines[1].address} is killed; {lost.name if lost else 'nothing'} "
            "ran there\n"
        )
    return ended(process), lost


def told(runs: Path, words: str) -> dict[str, list[int]]:
    """Return name of run -> the frames behind these words in its log."""
    return {
        path.stem: list(map(int, re.findall(words + r" (\d+)", path.read_text())))
        for path in sorted(runs.glob("*.log"))
    }


def measure(folder: Path, frames: int, log: Path) -> dict:
    """Run the suite with a lost machine, then once more.

    Return what was found, `right` where all of it is as it must be.
    """
    path = suite_of(folder, frames)
    machines = [loopback.Machine("127.0.0.2", folder)]
    try:
        machines.append(loopback.Machine("127.0.0.3", folder, machines[0].head))
        began = time.monotonic()
        code, lost = lose(path, machines, log)
        seconds = time.monotonic() - began
        with log.open("a") as file:
            file.write("--- the same command again\n")
        again = ended(suite(path, machines[0], log))
    finally:
        for machine in reversed(machines):
            machine.kill()
    runs = folder / "runs"
    trained, resumed = told(runs, "trained"), told(runs, "resumed +at frame")
    results = sorted(file.stem for file in (runs / "results").glob("*.json"))
    others = [name for name in trained if name != lost.name]
    row = {
        "runs": len(trained),
        "results": len(results),
        "exit_codes": [code, again],
        "lost": lost.name,
    }
    row |= {"resumed": resumed[lost.name], "trained": trained, "seconds": round(seconds, 1)}
    row["right"] = (
        len(results) == len(trained) == 6
        and [code, again] == [0, 0]
        and all(len(ends) == 1 for ends in trained.values())
        and len(resumed[lost.name]) == 1
        and not any(resumed[name] for name in others)
    )
    return row


def main(argv: list[str]) -> None:
    config = options.parse(LostConfig, argv, None, description=(__doc__ or "").strip())
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    log = output / "lost_machine.log"
    log.write_text("")
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        row = measure(Path(folder), config.frames, log)
        log.write_text(log.read_text().replace(folder, "FOLDER"))
    row |= result_files.origin("lost_machine", argv)
    result_files.write(output / "lost_machine.json", row)
    print(json.dumps(row))
    if not row["right"]:
        raise SystemExit(1)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
