"""The engine of a Ray cluster: one Ray task for each job.

Ray queues the tasks and starts them again when a machine is lost. What a run is, how it resumes and
what its result is are the same as on one machine.
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import ray
from ray.exceptions import RayError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks import machine
from benchmarks.program import ROOT, Job
from foreground.errors import UserError, say

# Times that a run may be started again; one that takes its machine's memory each time must end.
STARTS = 20
CHECK_SECONDS = 120.0  # for a machine to answer
REMEDY = "give all machines one folder, one checkout and one environment, see docs/cluster.md"
# A worker that ends leaves its child to SIGTERM (benchmarks/mortal.py), in place of Ray's SIGKILL.
VARIABLES = {
    "PYTHONPATH": str(ROOT),
    "RAY_kill_child_processes_on_worker_exit": "false",
    "OMP_NUM_THREADS": "1",
}


class Remote:
    """A job on the cluster, with the methods of subprocess.Popen that `pool.finished` needs."""

    def __init__(self, job: Job, reference: ray.ObjectRef, meeting: Path):
        self.job = job
        self.meeting = meeting
        self.reference = reference
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code.

        None while Ray has none. Why Ray gave a job up is added to its log.
        """
        if self.returncode is None and ray.wait([self.reference], timeout=0)[0]:
            try:
                self.returncode = ray.get(self.reference)
            except TaskCancelledError:
                self.returncode = -signal.SIGTERM
            except RayError as error:
                self.returncode = 1
                with self.job.log.open("a") as log:
                    say(f"error: {_reason(error)}: ray: the same command continues", log)
        return self.returncode

    def terminate(self) -> None:
        """Ask the program to save and end; one that waits in the queue is not started.

        A cancellation alone was lost once: the program went on to its end.
        """
        machine.ask_to_stop(self.job, self.meeting)
        ray.cancel(self.reference)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once there is one. Raises: subprocess.TimeoutExpired."""
        ray.wait([self.reference], timeout=timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.job.words, timeout)
        return self.returncode


class Ray:
    """The machines of a Ray cluster.

    address   HOST:PORT, "auto" or "local"
    folder    where the runs are, the same on all machines
    gpus      of one job; -1: 1 where the cluster has any
    cpus      of one job

    Raises: UserError where no cluster answers or none of its machines can run a job; SystemExit(2)
    after a line for everything in which a machine differs from this one.
    """

    def __init__(self, address: str, folder: Path, gpus: float, cpus: float):
        connect(address)
        self.gpus = gpus if gpus >= 0 else float(ray.cluster_resources().get("GPU", 0) > 0)
        self.cpus = cpus
        self.cuda = self.gpus > 0
        self.places = sys.maxsize
        self._alive: dict[str, str] = {}  # node -> its address, when it was looked at last
        self.meeting = Path(tempfile.mkdtemp(prefix=".cluster-", dir=folder)).resolve()
        try:
            (self.meeting / "words").write_text(self.meeting.name)
            self.here = machine.facts(self.meeting)
            check(self.here, self.meeting, self._fitting())
        except BaseException:
            self.close()
            raise
        again = {"max_retries": STARTS, "retry_exceptions": [machine.Stopped]}
        self._run = ray.remote(_run).options(num_cpus=cpus, num_gpus=self.gpus, **again)

    def _fitting(self) -> list[dict]:
        """Return the machines that have room for a job. Raises: UserError where there is none."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        fitting = [
            node
            for node in nodes
            if node["Resources"].get("CPU", 0) >= self.cpus
            and node["Resources"].get("GPU", 0) >= self.gpus
        ]
        if not fitting:
            what = (
                f"none of the {len(nodes)} machines of the cluster has {self.cpus:g} cores and "
                f"{self.gpus:g} GPUs"
            )
            raise UserError(what, "--cpus, --gpus", "choose less, or start Ray on a larger machine")
        return fitting

    def start(self, job: Job, slot: int) -> Remote:
        return Remote(job, self._run.remote(job, self.here, self.meeting), self.meeting)

    def running(self, names: Iterable[str]) -> int:
        """A job leaves a mark with its machine while it runs.

        That of a lost machine does not count.
        """
        alive = {
            node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]
        }
        for lost in self._alive.keys() - alive.keys():
            say(f"warning: machine {self._alive[lost]} is lost; its runs continue elsewhere")
        self._alive = alive
        return sum(_read(self.meeting / name) in alive for name in names)

    def close(self) -> None:
        shutil.rmtree(self.meeting, ignore_errors=True)
        ray.shutdown()


def connect(address: str) -> None:
    """Join a cluster as its driver.

    Raises: UserError where none answers or it refuses.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # of what it says about lost machines
    own = {"include_dashboard": False} if address == "local" else {}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address, runtime_env={"env_vars": VARIABLES}, **quiet, **own)
    except ConnectionError as error:
        remedy = "ray start --head starts one; else give its --address HOST:6379, and its token"
        raise UserError("no Ray cluster answers", f"--address {address}", remedy) from error
    except (RuntimeError, ValueError, RayError) as error:
        raise UserError(
            _reason(error),
            f"--address {address}",
            "see to it; docs/cluster.md says how to start one",
        ) from error


def check(here: dict[str, str], meeting: Path, nodes: list[dict]) -> None:
    """Compare every machine with this one.

    Raises: SystemExit(2) after a line for each difference.
    """
    answers = {node["NodeID"]: _ask(node["NodeID"], meeting) for node in nodes}
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=CHECK_SECONDS)
    wrong = []
    for node in nodes:
        name = f"machine {node['NodeManagerAddress']} ({node['NodeManagerHostname']})"
        wrong += [
            UserError(what, name, REMEDY) for what in _different(answers[node["NodeID"]], here)
        ]
    for error in wrong:
        say(str(error))
    if wrong:
        raise SystemExit(2)


def _ask(node: str, meeting: Path) -> ray.ObjectRef:
    """Ask one machine for its facts, by a program.

    The project may not be there, so that nothing of it can be imported.
    """
    root = str(ROOT)
    words = ["-m", "benchmarks.machine", str(meeting)]

    def ask() -> tuple[int, str]:
        import subprocess
        import sys

        try:
            done = subprocess.run(
                [sys.executable, *words], cwd=root, capture_output=True, text=True
            )
        except OSError as error:
            return 1, f"{root}: {error.strerror}"
        return done.returncode, done.stdout if done.returncode == 0 else done.stderr

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(ask).options(num_cpus=0, scheduling_strategy=there).remote()


def _different(answer: ray.ObjectRef, here: dict[str, str]) -> list[str]:
    """Return a clause for everything in which a machine's answer differs from the facts here."""
    try:
        code, text = ray.get(answer, timeout=0.1)
    except RayError as error:
        return [f"it does not answer ({_reason(error)})"]
    if code:
        return [f"the project does not run there ({text.strip().splitlines()[-1:] or code})"]
    there = json.loads(text)
    return [
        f"its {what} is {value}, here {here[what]}"
        for what, value in machine.differences(here, there)
    ]


def _run(job: Job, here: dict[str, str], meeting: Path) -> int:
    """Run one job, on the machine that Ray has chosen."""
    return machine.run(job, here, meeting, ray.get_runtime_context().get_node_id())


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def _reason(error: Exception) -> str:
    """Return the last line of an error that Ray passes on, without colours.

    There the cause stands.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
