"""Files that a run or an evaluation of ours wrote: its films must not play as clips."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from foreground.envs.cache import open_regular

# What an evaluation may write, beside logs and checkpoints.
NAMES = re.compile(
    r"(scores|evaluation|latent|protocol|skills|games|adaptation|information_plane)\b[^/\0]*"
    r"\.(json|mp4|png)|events\.out\.tfevents\.0000000000\.protocol\.foreground",
    re.DOTALL,
)
OF_A_RUN = {"config.yaml", "metrics.jsonl", "sources.json"}  # two of them tell a run folder
SCORES, SCORES_KEY = "scores.json", b'"env_frame"'  # a key at the beginning of it
BEGINNING = 4096  # bytes


def among(names: Iterable[str], folder: Path) -> set[str]:
    """Return which names in a folder are files of a run or an evaluation; none in other folders."""
    there = set(names)
    ours = {name for name in there if NAMES.fullmatch(name)}
    is_run = len(there & OF_A_RUN) > 1
    return ours if ours and (is_run or (SCORES in ours and _is_evaluation(folder))) else set()


def _is_evaluation(folder: Path) -> bool:
    try:
        with open_regular(os.path.realpath(folder / SCORES)) as file:
            return SCORES_KEY in file.read(BEGINNING)
    except OSError:
        return False
