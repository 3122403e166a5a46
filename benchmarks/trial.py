"""A trial of benchmarks/search.py on a machine of the cluster.

It is one run, which reports each evaluation to Ray Tune.
"""

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from ray import tune

from benchmarks import machine
from benchmarks.program import Job, Program

if TYPE_CHECKING:  # it imports torch, which a trial's worker does not need
    from benchmarks.suite_progress import SuiteProgress

LOOK_SECONDS = 1.0  # between two looks at a run's metrics


def evaluations(metrics: Path, key: str, after: int) -> list[tuple[int, float]]:
    """Return (env frame, value) of the evaluations behind a frame, each once.

    A line that is not whole is not there yet.
    """
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for text in metrics.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if line["step"] > after and line.get(key) is not None:
                    found[line["step"]] = line[key]
    return sorted(found.items())


class Trial(tune.Trainable):
    """Each step is the next evaluation of the run. What an earlier search left is reported before
    the run is started.

    A run that Tune stops, and one whose machine is lost, has its checkpoints as any other run.
    """

    def setup(
        self,
        config: dict,
        jobs: list[tuple[Job, Path, str, bool]],
        here: dict[str, str],
        meeting: Path,
    ) -> None:
        """Take the trial's share of `jobs`.

        What to start, its folder, the metric's key, whether it has ended already.
        """
        self.job, folder, self.key, self.finished = jobs[config["trial"]]
        self.metrics = folder / "metrics.jsonl"
        self.here = here
        self.meeting = meeting
        self.frame = 0
        self.program = None

    def step(self) -> dict:
        """Return the next evaluation, or the end with the program's exit code."""
        while True:
            code = self._code()
            if found := evaluations(self.metrics, self.key, self.frame):
                self.frame, value = found[0]
                return {"frame": self.frame, "return": value}
            if code is not None:
                return {"frame": self.frame, "code": machine.own_code(code, self.job), "done": True}
            if self.program is None:
                place = ray.get_runtime_context().get_node_id()
                self.program: Program | None = machine.begin(
                    self.job, self.here, self.meeting, place
                )
            time.sleep(LOOK_SECONDS)

    def _code(self) -> int | None:
        """Return the exit code, asked for before the metrics are read.

        Nothing is written after it.
        """
        if self.finished:
            return 0
        return self.program.poll() if self.program is not None else None

    def cleanup(self) -> None:
        """Let the program save: Tune has stopped the trial, or it has ended."""
        if self.program is not None:
            machine.end(self.program, self.meeting)


class Watch(tune.Callback):
    """In the driver: notes how each trial ended, and shows how far they are.

    names   of the trials, by their number
    ended   name -> how it ended, filled here
    """

    def __init__(self, line: "SuiteProgress", names: list[str], ended: dict[str, str]):
        self.line = line
        self.names = names
        self.ended = ended

    def __getstate__(self) -> dict:
        return {}  # Tune keeps a copy of its settings for Tuner.restore, which is not needed here

    def on_step_end(self, iteration, trials, **_) -> None:
        self.line.tick([name for name in self.names if name not in self.ended])

    def on_trial_complete(self, iteration, trials, trial, **_) -> None:
        code = trial.last_result.get("code")
        how = "stopped" if code is None else f"exit code {code}" if code else "finished"
        self._end(trial, how, f"{how} at frame {trial.last_result.get('frame', 0)}")

    def on_trial_error(self, iteration, trials, trial, **_) -> None:
        self._end(trial, "lost", "given up, see its log")

    def _end(self, trial, how: str, text: str) -> None:
        name = self.names[trial.config["trial"]]
        self.ended[name] = how
        self.line.end(name)
        self.line.say(f"{name}: {text}")
