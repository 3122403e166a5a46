"""What runs on a machine of a cluster: checks of its software, and one job.

benchmarks/cluster.py starts it there.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.program import ROOT, Job, Program
from foreground.training import system

POLL = 0.2  # seconds between two looks at a program
SUFFIXES = (".py", ".yaml")  # of the files that decide what a run computes


class Stopped(Exception):
    """A signal ended the program, not the run: it is to be started again, here or elsewhere."""


def facts(meeting: Path) -> dict[str, str]:
    """Return what must be the same on all machines, by the words that name it.

    meeting   folder that the driver made where the runs are; what it holds tells whether it is the
              same one here
    """
    return {
        "commit": system.git_commit(ROOT),
        "sources": _sum_of_sources(),
        "torch": importlib.metadata.version("torch"),
        "Python": ".".join(map(str, sys.version_info[:3])),
        "shared folder": _seen(meeting),
    }


def _sum_of_sources() -> str:
    """Return one sum over the project's files.

    Of two changed checkouts of one commit only this differs.
    """
    total = hashlib.sha256()
    folders = {path.parent for path in ROOT.glob("*/*.py")}
    paths = [
        *ROOT.glob("*.py"),
        *(path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES),
    ]
    for path in sorted(paths):
        total.update(f"{path.relative_to(ROOT)}".encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:12]


def _seen(meeting: Path) -> str:
    """Return the driver's words in the folder, where this machine can read and write there."""
    try:
        words = (meeting / "words").read_text()
        with tempfile.TemporaryFile(dir=meeting):
            return words
    except OSError as error:
        return f"not there ({error.strerror})"


def differences(here: dict[str, str], there: dict[str, str]) -> list[tuple[str, str]]:
    """Return (what differs, value there) of the facts of another machine.

    Sources are named where the commit is the same.
    """
    keys = [key for key, value in here.items() if there.get(key) != value]
    if "commit" in keys and "sources" in keys:
        keys.remove("sources")
    return [(key, there.get(key, "unknown")) for key in keys]


def begin(job: Job, here: dict[str, str], meeting: Path, place: str) -> Program:
    """Start a job, where this machine fits.

    here     facts of the driver; a machine that joined later may differ from them
    place    written next to the job's name, so that the driver knows where it runs

    Raises: RuntimeError where this machine does not fit.
    """
    if found := differences(here, facts(meeting)):
        raise RuntimeError(f"{socket.gethostname()} does not fit: {found[0][0]} is {found[0][1]}")
    (meeting / job.name).write_text(place)
    return Program(job)


def ask_to_stop(job: Job, meeting: Path) -> None:
    """Leave word for the machine that runs a job, or is about to. Ray's own may not arrive."""
    with contextlib.suppress(OSError):
        _word(job, meeting).touch()


def _word(job: Job, meeting: Path) -> Path:
    return meeting / f"{job.name}.stop"


def end(program: Program, meeting: Path) -> None:
    """Wait until a program has saved and ended, and take its mark away."""
    program.terminate()
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # Ray's cancellation: it is ending already
            program.wait()
            break
    with contextlib.suppress(FileNotFoundError):
        (meeting / program.job.name).unlink()


def run(job: Job, here: dict[str, str], meeting: Path, place: str) -> int:
    """Run a job and return its exit code, that of SIGTERM where `ask_to_stop` asked for it.

    Raises: as `begin` and `own_code`.
    """
    word = _word(job, meeting)
    if word.exists():
        return -signal.SIGTERM
    program = begin(job, here, meeting, place)
    try:
        while (code := program.poll()) is None:
            if word.exists():
                return -signal.SIGTERM
            time.sleep(POLL)
        return own_code(code, job)
    finally:  # stopped or cancelled: the program saves first
        end(program, meeting)


def own_code(code: int, job: Job) -> int:
    """Return the exit code of a program that ended without a signal.

    Raises: Stopped where a signal ended it.
    """
    if code < 0 or code > 128:
        raise Stopped(f"{job.name} was ended by signal {-code if code < 0 else code - 128}")
    return code


if __name__ == "__main__":
    print(
        json.dumps({"host": socket.gethostname(), "pid": os.getpid(), **facts(Path(sys.argv[1]))})
    )
