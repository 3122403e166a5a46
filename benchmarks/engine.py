"""Engines on which the programs of a suite run.

`Engine` is the interface, `Local` the engine of this machine. benchmarks/cluster.py has the one of
Ray.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch

from benchmarks import pool
from benchmarks.program import Job, Program
from foreground.errors import UserError
from foreground.option import option

NAMES = ("local", "ray")


class Engine(Protocol):
    """Starts jobs; `benchmarks.pool.finished` waits for them.

    places   how many programs are started at a time; an engine that has a queue takes them
             all
    cuda     whether the programs have a GPU
    """

    places: int
    cuda: bool

    def start(self, job: Job, slot: int) -> pool.Process:
        """Start a job, or queue it. `slot` is the lowest free one of the places."""

    def running(self, names: Iterable[str]) -> int:
        """Return how many of these started jobs are running; the others wait for a place."""

    def close(self) -> None:
        """Release what the engine holds, after all programs have ended."""


class Local:
    """Processes of one thread each on this machine."""

    def __init__(self, places: int):
        self.places = places
        self.cuda = torch.cuda.is_available()

    def start(self, job: Job, slot: int) -> pool.Process:
        return Program(Job(job.name, job.words, job.log, job.variables | pool.own_device(slot)))

    def running(self, names: Iterable[str]) -> int:
        return len(list(names))

    def close(self) -> None:
        return


def engine_option():
    return option(
        "local",
        "Where the runs run: as processes of this machine, or on a Ray cluster.",
        choices=NAMES,
    )


def address_option():
    return option(
        "auto",
        "HOST:PORT of the Ray cluster; auto: the one of this machine, or of RAY_ADDRESS; "
        "local: a new one.",
    )


def gpus_option():
    return option(
        -1.0, "GPUs of a run on Ray, also a part of one; -1: 1 where the cluster has any.", ge=-1
    )


def cpus_option():
    return option(1.0, "CPU cores of a run on Ray.", gt=0)


def opened(name: str, places: int, folder: Path, address: str, gpus: float, cpus: float) -> Engine:
    """Return an engine, ready to start jobs. Raises: UserError where it cannot be had.

    places   of this machine
    folder   where the runs are; all machines must see it
    """
    if name == "local":
        return Local(places)
    try:
        from benchmarks.cluster import Ray
    except ImportError as error:
        raise UserError(
            f"ray is not installed ({error})",
            "--engine ray",
            "pip install -c constraints.txt -e '.[cluster]'",
        ) from error
    return Ray(address, folder, gpus, cpus)
