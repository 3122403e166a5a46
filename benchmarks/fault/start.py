"""train.py or eval.py in a process forked from one that has imported it: a real run, without its first seconds."""

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
# The last is what torch.optim imports when it is first used.
PRELOADED = ["foreground.train", "foreground.eval", "dm_control.suite", "foreground.envs.dmc", "torch._dynamo"]


def serve() -> None:
    """Start the process that forks, unless there is one; from one that others started, runs import for themselves."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with unittest.mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):  # it is not told where we look
        forkserver.ensure_running()


class Run:
    """As much of subprocess.Popen as the faults ask for; the process leads a session of its own.

    log, errors  files for what it says; without the second all is in the first
    mark         a file that is there while the run evaluates itself
    chunk_rows   of the replay, so that a short run has chunks too
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


def work(
    name: str, words: list[str], log: Path, errors: Path, variables: dict[str, str], mark: Path | None, chunk_rows: int
) -> None:
    """What the process does: `python train.py words`, its output in files."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as train.py has it in the seconds of its imports
    os.chdir(ROOT)
    os.environ.update(variables)
    for stream, path in ((1, log), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
    sys.argv = [f"{name}.py", *words]
    program = importlib.import_module(f"foreground.{name}")
    from foreground.errors import run_main
    from foreground.evaluation.report import Evaluator
    from foreground.training import chunks, system

    system.prepare_environment()
    chunks.CHUNK_ROWS = chunk_rows
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
