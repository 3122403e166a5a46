"""Environments in separate processes; one that dies, hangs or fails is detected, named and
replaced.
"""

import contextlib
import functools
import multiprocessing
import signal
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from foreground.envs.offers import Snapshotable, offered
from foreground.errors import UserError, WorkerLost, say

# Seconds for a step or a reset of all; software rendering on a busy machine takes a second at most.
PATIENCE = 60.0
STARTING = 120.0  # seconds for a process to start, including its imports
# Losses without a step between them, or failures within a thousand steps, before an error.
MOST_IN_A_ROW = 3


def name_of(number: int) -> str:
    """Return the name of a signal; real-time signals have none and are named by their offset."""
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return (
        f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else f"signal {number}"
    )


class Guarded(gymnasium.Wrapper):
    """Turns what an environment raises into a sentence: some exceptions cannot be sent between
    processes.

    Every environment has a `snapshot` here; it is None where the environment offers none
    (offers.py).

    failed   makes the exception of a sentence
    """

    def __init__(self, env: gymnasium.Env, failed: Callable[[str], Exception] = RuntimeError):
        super().__init__(env)
        self.failed = failed

    def reset(self, **options):
        return self._said(self.env.reset, **options)

    def step(self, action):
        return self._said(self.env.step, action)

    @property
    def snapshot(self) -> Any:
        inner = offered(self.env, Snapshotable)
        return None if inner is None else inner.snapshot

    @snapshot.setter
    def snapshot(self, taken: Any) -> None:
        """Raise ValueError where the environment offers no snapshot."""
        inner = offered(self.env, Snapshotable)
        if inner is None:
            raise ValueError("the environment offers no snapshot")
        inner.snapshot = taken

    def _said(self, method: Callable, *words, **options):
        try:
            return method(*words, **options)
        except UserError as error:
            raise self.failed(str(error)) from None
        except Exception as error:
            raise self.failed(f"{type(error).__name__}: {str(error)[:200]}") from error


def broken(sentence: str) -> UserError:
    """Return the error for an environment that failed, with exit code 5."""
    if sentence.startswith("error: "):  # one of ours, with its remedy
        return UserError(*sentence.removeprefix("error: ").split(": ", 2), 5)
    return UserError(
        f"an environment failed ({sentence})",
        "its step or reset",
        "the same command continues; --debug shows where",
        5,
    )


def in_process(maker: Callable[[], gymnasium.Env]) -> gymnasium.Env:
    """Return an environment for this process, with its exceptions as error lines."""
    return Guarded(maker(), broken)


def guarded(maker: Callable[[], gymnasium.Env]) -> gymnasium.Env:
    """Return an environment in its process."""
    return Guarded(maker())


class Patient:
    """The end of a pipe with a time limit. Raises multiprocessing.TimeoutError."""

    def __init__(self, pipe, patience: float):
        self._pipe, self.patience, self.late = pipe, patience, False

    def __getattr__(self, name: str):
        return getattr(self._pipe, name)

    def recv(self):
        self.late = not self._pipe.poll(self.patience)
        if self.late:
            raise multiprocessing.TimeoutError
        return self._pipe.recv()


class Processes(AsyncVectorEnv):
    """gymnasium's vector environment, with a time limit for starting and for setting attributes."""

    def __init__(self, makers: list[Callable[[], gymnasium.Env]]):
        # Never fork: a forked process hangs in the GL context that it inherits.
        super().__init__(makers, context="forkserver", autoreset_mode=AutoresetMode.NEXT_STEP)

    def _check_spaces(self) -> None:
        self.parent_pipes = [Patient(pipe, STARTING) for pipe in self.parent_pipes]
        with contextlib.ExitStack() as failing:
            failing.callback(self.end)  # nothing else ends them yet, also at Ctrl-C
            super()._check_spaces()
            failing.pop_all()

    def end(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.kill()  # SIGKILL also ends a stopped one
            process.join()
        for pipe in self.parent_pipes:
            if pipe is not None:
                pipe.close()
        self.closed = True  # so that AsyncVectorEnv does not close them again


class Workers:
    """N environments in a process each, with the part of gymnasium's vector environment that a
    rollout needs.

    A finished one is reset by its next step (`AutoresetMode.NEXT_STEP`). When a process is lost all
    are restarted, since the others may be in the middle of an answer.
    """

    def __init__(
        self,
        makers: list[Callable[[], gymnasium.Env]],
        patience: float = PATIENCE,
        calm: int = 1000,
    ):
        """patience   seconds for an answer
        calm       steps after which a failure of an environment is forgotten; a lost process is
                   after one
        """
        self.makers, self.patience, self.calm = (
            [functools.partial(guarded, maker) for maker in makers],
            patience,
            calm,
        )
        self.lost = 0  # so far
        self._in_a_row, self._needed, self._steps = 0, 0, 0
        self._unsent: Exception | None = None  # why the last step could not begin
        self._start()

    def _start(self) -> None:
        """Start the processes. Raise UserError with exit code 5 when they do not start."""
        for tries_left in (2, 1, 0):
            try:
                self.envs = Processes(self.makers)
                break
            except (
                EOFError,
                ConnectionError,
                multiprocessing.TimeoutError,
            ) as error:  # one was lost while it started
                if not tries_left:
                    what = f"a process of an environment does not start ({type(error).__name__})"
                    raise UserError(
                        what,
                        "environment processes",
                        "look at what it says with --environment.num_envs 1",
                        5,
                    ) from error
        for pipe in self.envs.parent_pipes:
            pipe.patience = self.patience
        self.num_envs, self.metadata = self.envs.num_envs, self.envs.metadata
        self.single_action_space, self.action_space = (
            self.envs.single_action_space,
            self.envs.action_space,
        )
        self.single_observation_space = self.envs.single_observation_space

    def reset(self, seed: int) -> tuple[np.ndarray, dict]:
        """Reset all environments.

        Raise UserError with exit code 5 when processes are lost repeatedly.
        """
        while True:
            try:
                self.envs.reset_async(seed=seed)
                return self.envs.reset_wait(timeout=self.patience)
            except Exception as error:
                self._replace(error)

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Step all environments. Raises: as `receive`."""
        self.send(action)
        return self.receive()

    def send(self, action: np.ndarray) -> None:
        """Begin a step of all environments; `receive` must follow, and raises what goes wrong."""
        try:
            self.envs.step_async(action)
        except Exception as error:
            self._unsent = error

    def receive(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Return what the step came to.

        Raises: WorkerLost; UserError with exit code 5 when that happens repeatedly.
        """
        try:
            unsent, self._unsent = self._unsent, None
            if unsent is not None:
                raise unsent
            answer = self.envs.step_wait(timeout=self.patience)
        except Exception as error:
            self._replace(error)
            raise WorkerLost(str(error)) from error
        self._steps += 1
        if self._steps >= self._needed:
            self._in_a_row = 0
        return answer

    def get_attr(self, name: str) -> tuple:
        """Return an attribute of each environment. Raise as `step` does."""
        try:
            self.envs.call_async(name)
            return self.envs.call_wait(timeout=self.patience)
        except Exception as error:
            self._replace(error)
            raise WorkerLost(str(error)) from error

    def set_attr(self, name: str, values: list) -> None:
        """Set an attribute of each environment.

        Raises: as `step`; ValueError when an environment refuses it.
        """
        try:
            self.envs.set_attr(name, values)
        except ValueError:
            self.close()  # gymnasium ends a process that raises
            self._start()
            raise
        except Exception as error:
            self._replace(error)
            raise WorkerLost(str(error)) from error

    def close(self) -> None:
        """End all processes."""
        self.envs.end()

    def _replace(self, error: Exception) -> None:
        """Report which process was lost, and why, and restart all of them."""
        what, failed = self._named(error), isinstance(error, RuntimeError)
        self.lost, self._in_a_row = self.lost + 1, self._in_a_row + 1
        self._needed, self._steps = self.calm if failed else 1, 0
        self.close()
        if str(error).startswith("error: "):  # one of ours, with its remedy
            raise broken(str(error)) from error
        if self._in_a_row > MOST_IN_A_ROW:
            remedy = "look at what it says with --environment.num_envs 1"
            raise UserError(
                f"{what}, {self._in_a_row} times in a row", "environment processes", remedy, 5
            ) from error
        say(f"warning: {what}; all are started anew, with new episodes")
        self._start()

    def _named(self, error: Exception) -> str:
        """Return which environment was lost, and how."""
        if isinstance(error, multiprocessing.TimeoutError):
            pipes = list(enumerate(self.envs.parent_pipes))
            late = [index for index, pipe in pipes if pipe.late] or [
                index for index, pipe in pipes if not pipe.poll()
            ]
            names = ", ".join(map(str, late)) or "?"
            return (
                f"the process of environment {names} gave no answer for {self.patience:g} seconds"
            )
        if not isinstance(error, EOFError | ConnectionError):
            return f"an environment failed ({error})"
        for index, process in enumerate(self.envs.processes):
            process.join(0.2)  # it may just have been killed
            if process.exitcode is not None:
                code = process.exitcode
                how = f"was killed ({name_of(-code)})" if code < 0 else f"ended with code {code}"
                return f"the process of environment {index} {how}"
        return f"an environment's process does not answer ({type(error).__name__})"
