"""A run of train.py in a process forked from one that has imported it: a real run, without its first seconds."""

import multiprocessing
import os
import subprocess
import sys
import unittest.mock
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The last is what torch.optim imports when it is first used.
PRELOADED = ["train", "dm_control.suite", "envs.dmc", "torch._dynamo"]


class Run:
    """As much of subprocess.Popen as the faults ask for; the process leads a session of its own.

    mark         a file that is there while the run evaluates itself
    chunk_rows   of the replay, so that a short run has chunks too
    """

    def __init__(
        self, words: list[str], log: Path, variables: dict[str, str], mark: Path | None = None, chunk_rows: int = 1024
    ):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)  # heard when no server runs yet; without it the run imports for itself
        self.process = context.Process(target=train, args=(words, str(log), variables, mark, chunk_rows))
        with unittest.mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):  # the server is not told where we look
            self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    returncode = property(poll)

    def wait(self, timeout: float | None = None) -> int:
        """Errors: subprocess.TimeoutExpired."""
        self.process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("train.py", timeout)
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


def train(words: list[str], log: str, variables: dict[str, str], mark: Path | None, chunk_rows: int) -> None:
    """What the process does: `python train.py words`, its output in a file."""
    os.setsid()
    os.chdir(ROOT)
    os.environ.update(variables)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv = ["train.py", *words]
    import train as program
    from errors import run_main
    from evaluation.report import Evaluator
    from training import replay

    replay.CHUNK_ROWS = chunk_rows
    if mark:
        Evaluator.during_training = marked(Evaluator.during_training, mark)
    run_main(program.main, words)


def marked(evaluate: Callable, mark: Path) -> Callable:
    """With a file that is there meanwhile."""

    def evaluating(*arguments):
        mark.touch()
        row = evaluate(*arguments)
        mark.unlink()
        return row

    return evaluating
