"""Run train.py, eval.py and benchmarks as a user does, for tests."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from tests.faults import runs, start

ROOT = Path(__file__).parents[2]
# Decoded clips of tests, away from the user's.
CACHE = tempfile.mkdtemp(prefix="foreground-test-cache-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
# Slower in what is written than the job that faults are tried on.
SLOWER = [
    "--training.prefill",
    "200",
    "--training.checkpoint_every",
    "200",
    "--evaluation.episodes",
    "2",
]
SMALL, PLAIN = [*runs.SMALL, *SLOWER], [*runs.PLAIN, *SLOWER]  # of infopower, of any agent


def run(program: str, *words, **variables) -> subprocess.CompletedProcess:
    """Run a program and return what it said.

    It is forked from a process that has its imports. A program with variables, which imports may
    read, runs in a new interpreter.

    program   a file, such as eval.py, or a module, such as benchmarks.returns
    """
    module = not program.endswith(".py")
    anew, variables = bool(variables), {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": CACHE} | variables
    words = [str(word) for word in words]
    if anew:
        command = [sys.executable, *(["-m", program] if module else [str(ROOT / program)]), *words]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=240,
        )
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("out", "errors")]
        name = program.removesuffix(".py")
        process = start.Run(words, said[0], variables, program=name, errors=said[1])
        try:
            code = process.wait(240)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, code, *(path.read_text() for path in said))


def assert_one_line(result: subprocess.CompletedProcess, *parts: str, code: int = 2) -> None:
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning")]
    assert result.returncode == code, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0], lines[0]


def written(result: subprocess.CompletedProcess) -> Path:
    """Return the folder that eval.py says it wrote to."""
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.splitlines()[-1].removeprefix("written: "))


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write_video(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 64))
    for value in range(len(path.stem), 240, 8):  # another one for another name
        writer.write(np.full((64, 64, 3), value, np.uint8))
    writer.release()
