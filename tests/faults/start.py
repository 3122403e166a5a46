"""train.py or eval.py in a process forked from one that has imported it: a real run without the
import time.
"""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import unittest.mock
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).parents[2]
# torch.optim imports the last one at its first use.
PRELOADED = [
    "foreground.train",
    "foreground.eval",
    "dm_control.suite",
    "foreground.envs.dmc",
    "torch._dynamo",
]


def serve() -> None:
    """Start the process that forks, unless there is one.

    If others started it, runs import by themselves.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with unittest.mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):  # it does not inherit sys.path
        forkserver.ensure_running()


class Run:
    """The part of subprocess.Popen that the faults need; the process leads its own session.

    log, errors  files of its output; without the second all is in the first
    mark         a file that exists while the run evaluates itself
    chunk_rows   of the replay, so that a short run has chunks
    """

    def __init__(
        self,
        words: list[str],
        log: Path,
        variables: dict[str, str],
        mark: Path | None = None,
        chunk_rows: int = 1024,
        program: str = "train",
        errors: Path | None = None,
    ):
        serve()
        told = (program, words, log, errors or log, variables, mark, chunk_rows)
        self.process = multiprocessing.get_context("forkserver").Process(target=work, args=told)
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    returncode = property(poll)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raise subprocess.TimeoutExpired."""
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


def work(
    name: str,
    words: list[str],
    log: Path,
    errors: Path,
    variables: dict[str, str],
    mark: Path | None,
    chunk_rows: int,
) -> None:
    """Run `python train.py words` in this process, with its output in files.

    name   of a program, such as eval, or of a module, such as benchmarks.returns
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as during the imports of train.py
    os.chdir(ROOT)
    os.environ.update(variables)
    for stream, path in ((1, log), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
    sys.argv = [f"{name.rpartition('.')[2]}.py", *words]
    program = importlib.import_module(name if "." in name else f"foreground.{name}")
    from foreground.errors import run_main
    from foreground.evaluation.report import Evaluator
    from foreground.training import chunks, system

    system.prepare_environment()
    chunks.CHUNK_ROWS = chunk_rows
    if mark:
        Evaluator.during_training = marked(Evaluator.during_training, mark)
    run_main(program.main, words)


def marked(evaluate: Callable, mark: Path) -> Callable:
    """Return the evaluation with a file that exists while it runs."""

    def evaluating(*arguments):
        mark.touch()
        row = evaluate(*arguments)
        mark.unlink()
        return row

    return evaluating
