"""Processes side by side, a bounded number at a time; shared by the programs that start many runs."""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator

import torch


def places() -> int:
    """How many runs fit side by side: one a GPU, or one a core where there is none."""
    return torch.cuda.device_count() or os.cpu_count() or 1


def environment(slot: int) -> dict[str, str]:
    """Variables of a run: one thread, and with several GPUs one of its own for each slot."""
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    if torch.cuda.device_count() > 1:
        variables["CUDA_VISIBLE_DEVICES"] = str(slot % torch.cuda.device_count())
    return variables


def finished(
    jobs: Iterable[tuple[str, Callable[[int], subprocess.Popen]]], places: int
) -> Iterator[tuple[str, subprocess.Popen]]:
    """Start every (name, start), `places` at a time; yield (name, process) as each ends. start is told its slot."""
    waiting, running = list(jobs), {}
    while waiting or running:
        while waiting and len(running) < places:
            name, start = waiting.pop(0)
            slot = min(set(range(places)) - {used for _, used in running.values()})
            running[name] = (start(slot), slot)
        for name in [name for name, (process, _) in running.items() if process.poll() is not None]:
            yield name, running.pop(name)[0]
        time.sleep(0.2)
