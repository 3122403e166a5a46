"""One running program of a suite, on this machine or on one of a cluster.

It imports the standard library only, so that it starts quickly on a cluster's machines.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Exit code of train.py: another process trains in the folder; equals training.lock.IN_USE.
IN_USE = 6
PAUSE = 20.0  # seconds until a program whose folder is in use is started again


@dataclass(frozen=True)
class Job:
    """What to start.

    name       of the run, which is also the name of its folder and of its result file
    words      a Python program, relative to the project, and its arguments
    log        file that its output is appended to
    variables  of the environment, over those of the process that starts it
    """

    name: str
    words: list[str]
    log: Path
    variables: dict[str, str] = field(default_factory=dict)


class Program:
    """A started job with the methods of subprocess.Popen that `pool.finished` needs.

    It ends with its starter: it gets SIGTERM, so that it can save. While its folder is in use it
    waits and is started again.
    """

    def __init__(self, job: Job, pause: float = PAUSE):
        self.job = job
        self.pause = pause
        self.returncode: int | None = None
        self._stopped = False
        self._again = 0.0  # time of the next start, while no child runs
        self._child: subprocess.Popen | None = self._started()

    def _started(self) -> subprocess.Popen:
        command = [
            sys.executable,
            str(ROOT / "benchmarks" / "mortal.py"),
            str(os.getpid()),
            *self.job.words,
        ]
        with self.job.log.open("a") as log:
            return subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | self.job.variables
            )

    def poll(self) -> int | None:
        """Return the exit code; None while the program runs or waits for its folder."""
        if self.returncode is not None:
            return self.returncode
        if self._child is None:
            if time.monotonic() >= self._again:
                self._child = self._started()
            return None
        code = self._child.poll()
        if code == IN_USE and not self._stopped:
            self._child = None
            self._again = time.monotonic() + self.pause
            return None
        self.returncode = code
        return code

    def terminate(self) -> None:
        """Ask the program to save and end."""
        self._stopped = True
        if self._child is not None:
            self._child.terminate()
        elif self.returncode is None:
            self.returncode = -signal.SIGTERM

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once there is one. Raises: subprocess.TimeoutExpired."""
        limit = time.monotonic() + timeout if timeout is not None else float("inf")
        while (code := self.poll()) is None:
            if time.monotonic() > limit:
                raise subprocess.TimeoutExpired(self.job.words, timeout)
            time.sleep(0.1)
        return code
