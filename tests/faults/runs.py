"""Real training runs that are killed, stopped or started twice: no saved state may be lost."""

import os
import random
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from foreground.configs import run as run_configs
from foreground.training import checkpoint, options
from foreground.training.system import STOPPING
from tests.faults import Tries
from tests.faults.start import ROOT, Run

PLAIN = [  # for any agent
    "--device",
    "cpu",
    "--size",
    "cpu",
    "--task",
    "cartpole-balance",
    "--environment.image_size",
    "32",
    "--environment.time_limit",
    "100",
    "--environment.action_repeat",
    "2",
    "--background.source",
    "procedural",
    "--training.prefill",
    "100",
    "--training.batch_size",
    "2",
    "--training.batch_length",
    "8",
    "--training.train_ratio",
    "1",
    "--training.log_every",
    "100",
    "--training.video_every",
    "200",
    "--training.checkpoint_every",
    "40",
    "--evaluation.episodes",
    "1",
    "--world_model.depth",
    "4",
    "--world_model.embedding",
    "32",
    "--world_model.rssm.deterministic",
    "32",
    "--world_model.rssm.hidden",
    "32",
    "--actor_critic.units",
    "32",
    "--actor_critic.imag_starts",
    "8",
    "--threads",
    "1",
]
PILOT = ["--world_model.objective.pilot_updates", "4"]  # so that the multiplier changes
SMALL = [*PLAIN, *PILOT]  # for infopower
LONGEST = 120.0  # seconds within which a run reaches the point where it is killed
EARLY = 3.0  # seconds within which a run starts or resumes
ENDLESS = ["--total_frames", "100000000"]


def command(run: Path, *words: str) -> list[str]:
    """Return the command of train.py for a small job of the agent in the words."""
    return [sys.executable, "train.py", *small(words), *words, "--folder", str(run)]


def small(words: list[str] | tuple[str, ...]) -> list[str]:
    """Return the options of a small job that the agent in the words reads."""
    agent = words[words.index("--agent") + 1] if "--agent" in words else "infopower"
    config = options.parse(run_configs.RunConfig, ["--config", agent], run_configs.PRESETS)
    objective = config.world_model.objective
    return [*PLAIN, *(PILOT if objective.constraint and objective.threshold is None else [])]


def variables(folder: Path, **more: str) -> dict[str, str]:
    """Return environment variables: one thread, and a separate folder for decoded clips."""
    return os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")} | more


def begin(
    run: Path, *words: str, mark: Path | None = None, chunk_rows: int = 1024, **more: str
) -> Run:
    """Start a run, with its output in a file next to the folder.

    mark, chunk_rows   as in `Run`
    more               environment variables
    """
    return Run(
        command(run, *words)[2:], log_of(run), variables(run.parent, **more), mark, chunk_rows
    )


def begin_anew(run: Path, *words: str, **more: str) -> subprocess.Popen:
    """Start a run as a shell does: python train.py."""
    with log_of(run).open("a") as log:
        process = partial(
            subprocess.Popen, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
        return process(command(run, *words), env=variables(run.parent, **more))


def text(run: Path) -> str:
    """Return the text of its metrics."""
    return (run / "metrics.jsonl").read_text()


def log_of(run: Path) -> Path:
    return run.with_name(f"{run.name}.log")


def trained(run: Path, *words: str, chunk_rows: int = 1024) -> Path:
    """Train a small run to its end, with at least two checkpoints.

    Raises: RuntimeError when it fails.
    """
    process = begin(run, "--total_frames", "400", *words, chunk_rows=chunk_rows)
    if process.wait(600):
        raise RuntimeError(f"the small run failed: {log_of(run).read_text()[-500:]}")
    return run


def good(run: Path) -> int:
    """Return the frame of the newest checkpoint that verifies; -1 where there is none."""
    path, _ = checkpoint.latest(run / "checkpoints")
    return -1 if path is None else int(re.findall(r"\d+", path.name)[0])


def wait_for(process: subprocess.Popen | Run, what) -> str:
    """Wait until `what` holds. Return "", or why it did not."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        if process.poll() is not None:
            return f"the run ended with code {process.returncode}"
        if what():
            return ""
        time.sleep(0.002)
    return f"nothing happened for {LONGEST:.0f} seconds"


def kill(folder: Path, chance: random.Random) -> Tries:
    """SIGKILL at random moments, then resume.

    Half of the moments are while a checkpoint or the replay is written, one in ten while the run
    starts or resumes.
    """
    run = folder / "run"
    frame = -1
    number = 0
    within = 0
    while True:
        number += 1
        log_of(run).write_text("")
        # Another file system, where Linux has it.
        elsewhere = {"TMPDIR": "/dev/shm"} if number % 4 > 1 else {}
        start = begin_anew if number % 10 == 1 else begin
        process = start(run, *ENDLESS, **elsewhere)
        early = number % 10 == 4
        try:
            # Kill after the next checkpoint: at any moment, or during the save that follows.
            lost = "" if early else wait_for(process, lambda frame=frame: good_step(run) > frame)
            if early:
                time.sleep(chance.uniform(0, EARLY))
            elif not lost:
                time.sleep(chance.uniform(0, 0.5))
                lost = wait_for(process, lambda: saving(run)) if number % 2 else ""
            there = good_step(run)  # by name: only whole checkpoints get their name
        finally:
            process.kill()
            process.wait()
        said = log_of(run).read_text()
        now = good(run)
        left = orphans(process.pid)
        within += saving(run)
        if not lost and now < there:
            lost = f"frame {there} was saved and {now} is left"
        if not lost and left:
            lost = f"processes {left} are left"
        if not lost and number % 100 == 0 and within < number / 4:
            lost = f"only {within} of {number} kills were during a save"
        if not lost and not early and frame >= 0 and f"resumed      at frame {frame}" not in said:
            lost = f"it did not resume from frame {frame}: {said[-200:]!r}"
        if not lost and "warning" in said:
            lost = f"it skipped something: {said[-300:]!r}"
        frame = now
        yield lost


def good_step(run: Path) -> int:
    """Return the frame of the newest checkpoint by its name, which is quick."""
    names = checkpoint.steps(run / "checkpoints")
    return int(re.findall(r"\d+", names[-1].name)[0]) if names else -1


def saving(run: Path) -> bool:
    """Return whether a file is being written now."""
    return any((run / "checkpoints").glob(".tmp-*")) or any((run / "replay").glob(".tmp-*"))


def term(folder: Path, chance: random.Random) -> Tries:
    """Each signal that stops a run, in turn, to the process or its group, at random moments.

    The run has two environments. Every third signal is sent twice within microseconds, every fifth
    while the run starts. The run must save, with its current episodes, and end within 30 seconds
    with its exit code and without traceback.
    """
    run = folder / "run"
    number = 0
    while True:
        asked = STOPPING[number % len(STOPPING)]
        number += 1
        log_of(run).unlink(missing_ok=True)
        before = good(run)
        process = begin(run, *ENDLESS, "--environment.num_envs", "2")
        early = number % 5 == 3
        try:
            lost = "" if early else wait_for(process, lambda before=before: good_step(run) > before)
            time.sleep(chance.uniform(0, EARLY if early else 1))
            for _ in range(2 if number % 3 == 0 else 1):
                os.killpg(process.pid, asked) if number % 4 > 1 else process.send_signal(asked)
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            code, lost = None, "it was still running after 30 seconds"
        finally:
            process.kill()
            process.wait()
        said = log_of(run).read_text()
        left = orphans(process.pid)
        stopped = re.search(r"stopped and saved at frame (\d+)", said)
        # During its imports the default action is right as well.
        codes = (128 + asked, -asked) if early else (128 + asked,)
        if not lost and (code not in codes or "Traceback" in said):
            lost = f"code {code} for signal {asked}: {said[-300:]!r}"
        if early and not stopped:
            yield lost or (
                "frames are gone"
                if good(run) < before
                else f"processes {left} are left"
                if left
                else ""
            )
            continue
        if not lost and (not stopped or int(stopped.group(1)) != good(run)):
            lost = f"the checkpoint that it announced is missing: {said[-200:]!r}"
        if not lost and not checkpoint.load(checkpoint.steps(run / "checkpoints")[-1])["rollout"]:
            lost = "the current episodes are not saved"
        yield lost or (f"processes {left} are left" if left else "")


def end(process: subprocess.Popen | Run) -> None:
    """Terminate a run; kill it when it does not end.

    Raises: TimeoutError when it had to be killed.
    """
    process.terminate()
    try:
        process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise TimeoutError("a run did not end at SIGTERM") from None


def orphans(session: int, patience: float = 10.0) -> list[int]:
    """Return processes of a run's session that do not end by themselves, as its workers and their
    server must.
    """
    end = time.monotonic() + patience
    while (found := members(session)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def members(session: int) -> list[int]:
    """Return the current processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def concurrent(folder: Path, chance: random.Random) -> Tries:
    """A second run in the folder of a running one, or two at once: one is refused in one line, one
    continues.
    """
    run = folder / "run"
    number = 0
    first = begin(run, *ENDLESS)
    try:
        problem = wait_for(first, lambda: good_step(run) > 0)
        while True:
            number += 1
            if number % 2 == 0:
                yield at_once(folder / f"both{number}")
                continue
            before = good_step(run)
            time.sleep(chance.uniform(0, 0.3))
            second = partial(
                subprocess.run, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST
            )
            second = second(command(run, *ENDLESS), env=variables(folder))
            lost = (
                ""
                if refused(second.returncode, second.stderr)
                else f"code {second.returncode}: {second.stderr[-300:]!r}"
            )
            yield problem or lost or wait_for(first, lambda before=before: good_step(run) > before)
    finally:
        end(first)


def at_once(run: Path) -> str:
    """Start two runs together in a new folder; return what is wrong."""
    both = [begin(run, *ENDLESS) for _ in range(2)]
    try:
        late = time.monotonic() + LONGEST
        while all(process.poll() is None for process in both) and time.monotonic() < late:
            time.sleep(0.01)
        ended = [process for process in both if process.poll() is not None]
        if len(ended) != 1:
            return f"{len(ended)} of two ended"
        said = "".join(
            line for line in log_of(run).read_text().splitlines(True) if line.startswith("error")
        )
        if not refused(ended[0].returncode, said):
            return f"code {ended[0].returncode}: {said[-300:]!r}"
        why = wait_for(both[both[0] is ended[0]], lambda: good_step(run) > 0)
        return why and f"{why}: {log_of(run).read_text()[-300:]!r}"
    finally:
        for process in both:
            end(process)


def refused(code: int | None, said: str) -> bool:
    """Return whether a run was refused in one line because another has the folder."""
    return code == 6 and bool(
        re.fullmatch(r"error: the run folder is in use by process \d+: .*: .*\n", said)
    )
