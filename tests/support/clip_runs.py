"""Train a small run on small clips, and copy both, for tests of their identity."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.programs import CACHE, ROOT, SMALL, run

FEW = [
    word
    for index, word in enumerate(SMALL)
    if "--background.source" not in (word, SMALL[index - 1])
]
FEW += ["--evaluation.episodes", "1"]


def write_video(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 64))
    for row in np.random.default_rng(seed).integers(0, 256, (12, 8, 8, 3), np.uint8):
        writer.write(cv2.resize(row, (64, 64), interpolation=cv2.INTER_NEAREST))
    writer.release()


def write_clips(folder: Path, *names: str) -> Path:
    """Clips of other content for other names: those of the last name are held out."""
    for name in names:
        side = "heldout" if name == names[-1] else "train"
        write_video(folder / side / f"{name}.mp4", int.from_bytes(name.encode()[:3]))
    return folder


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def called(program: str, folder: Path, *words) -> subprocess.CompletedProcess:
    """Run a program in its own working directory."""
    variables = os.environ | {
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": CACHE,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(ROOT / program), *map(str, words)]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def trained_places(tmp_path_factory) -> Path:
    """Return two working directories with different clips under one name.

    A run was trained in the first.
    """
    place = tmp_path_factory.mktemp("identity")
    write_clips(place / "one" / "clips", "ant", "bee", "cat")
    write_clips(place / "two" / "clips", "dog", "elk", "fox")
    words = [*FEW, "--total_frames", 300, "--folder", place / "run", "--background.source", "clips"]
    done = called("train.py", place / "one", *words)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def trained_copy(trained_places, tmp_path) -> Path:
    """The run and its clips at another place, to be changed."""
    shutil.copytree(trained_places / "run", tmp_path / "run")
    shutil.copytree(trained_places / "one" / "clips", tmp_path / "clips")
    return tmp_path


def go_on(place: Path, *words, frames: int = 340) -> subprocess.CompletedProcess:
    more = [] if "--background.source" in words else ["--background.source", place / "clips"]
    return run("train.py", *FEW, "--total_frames", frames, "--folder", place / "run", *more, *words)


def scores(place: Path) -> dict:
    return json.loads((place / "scores.json").read_text())
