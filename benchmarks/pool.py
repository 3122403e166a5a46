"""Processes side by side, a bounded number at a time.

Shared by the programs that start many runs.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch

from foreground.training import system


class Process(Protocol):
    """What a started program must have; subprocess.Popen has it."""

    returncode: int | None

    def poll(self) -> int | None:
        """Return the exit code; None while there is none."""

    def terminate(self) -> None:
        """Ask the program to save and end."""

    def wait(self) -> int:
        """Return the exit code once there is one."""


def places() -> int:
    """Return how many runs fit side by side: one per GPU, or one per core without GPUs."""
    return torch.cuda.device_count() or os.cpu_count() or 1


def environment(slot: int) -> dict[str, str]:
    """Return all variables of a program of this machine: one thread, and its own device."""
    return os.environ | own_device(slot)


def own_device(slot: int) -> dict[str, str]:
    """Return variables of one thread and, with several GPUs, of one GPU per slot."""
    variables = {"OMP_NUM_THREADS": "1"}
    if torch.cuda.device_count() > 1:
        variables["CUDA_VISIBLE_DEVICES"] = str(slot % torch.cuda.device_count())
    return variables


def finished(
    jobs: Iterable[tuple[str, Callable[[int], Process]]],
    places: int,
    watch: Callable[[list[str]], None] = lambda started: None,
) -> Iterator[tuple[str, Process]]:
    """Start every (name, start), `places` at a time; yield (name, process) as each ends.

    start is called with the number of its slot.

    Programs that run when the caller gives up, as on Ctrl-C, are asked to save, and are waited for.

    watch   called with the names of the started programs, a few times a second
    """
    waiting = list(jobs)
    running = {}
    try:
        while waiting or running:
            while waiting and len(running) < places:
                name, start = waiting.pop(0)
                slot = _free_slot({used for _, used in running.values()})
                running[name] = (start(slot), slot)
            for name in [
                name for name, (process, _) in running.items() if process.poll() is not None
            ]:
                yield name, running.pop(name)[0]
            watch(list(running))
            time.sleep(0.2)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()


def _free_slot(used: set[int]) -> int:
    return next(slot for slot in range(len(used) + 1) if slot not in used)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn the first signal that stops this program into SystemExit, so that the programs it
    started save first.
    """
    before = {number: signal.getsignal(number) for number in system.stop_signals()}

    def told(number: int, _) -> None:
        for other in before:
            signal.signal(
                other, signal.SIG_IGN if other != signal.SIGINT else signal.default_int_handler
            )
        raise SystemExit(128 + number)

    for number in before:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
