"""A real training run, killed, told to stop, or started twice: nothing that was saved may be lost, no hand may be needed."""

import os
import random
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.fault import Tries
from benchmarks.fault.start import ROOT, Run
from foreground.configs import run as run_configs
from foreground.training import checkpoint, options
from foreground.training.system import STOPPING

PLAIN = [  # of any agent
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
PILOT = ["--world_model.objective.pilot_updates", "4"]  # then the multiplier moves
SMALL = [*PLAIN, *PILOT]  # of infopower
LONGEST = 120.0  # seconds for a run to come to where it is killed
EARLY = 3.0  # seconds within which a run starts or resumes
ENDLESS = ["--total_frames", "100000000"]


def command(run: Path, *words: str) -> list[str]:
    """train.py on a small job, of the agent in the words."""
    return [sys.executable, "train.py", *small(words), *words, "--folder", str(run)]


def small(words: list[str] | tuple[str, ...]) -> list[str]:
    """Return the options of a small job that the agent in the words reads."""
    agent = words[words.index("--agent") + 1] if "--agent" in words else "infopower"
    config, _ = options.parse(run_configs.RunConfig, ["--config", agent], run_configs.PRESETS)
    objective = config.world_model.objective
    return [*PLAIN, *(PILOT if objective.constraint and objective.threshold is None else [])]


def variables(folder: Path, **more: str) -> dict[str, str]:
    """One thread, and decoded clips in a folder of its own."""
    return os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")} | more


def begin(run: Path, *words: str, mark: Path | None = None, chunk_rows: int = 1024, **more: str) -> Run:
    """Start it; its output in a file beside the folder. More: variables; `mark` and `chunk_rows` as in Run."""
    return Run(command(run, *words)[2:], log_of(run), variables(run.parent, **more), mark, chunk_rows)


def begin_anew(run: Path, *words: str, **more: str) -> subprocess.Popen:
    """The same by the shell's way: python train.py."""
    with log_of(run).open("a") as log:
        process = partial(subprocess.Popen, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        return process(command(run, *words), env=variables(run.parent, **more))


def text(run: Path) -> str:
    """Its metrics."""
    return (run / "metrics.jsonl").read_text()


def log_of(run: Path) -> Path:
    return run.with_name(f"{run.name}.log")


def trained(run: Path, *words: str, chunk_rows: int = 1024) -> Path:
    """A finished small run with two checkpoints or more. Errors: RuntimeError when it does not train."""
    process = begin(run, "--total_frames", "400", *words, chunk_rows=chunk_rows)
    if process.wait(600):
        raise RuntimeError(f"the small run failed: {log_of(run).read_text()[-500:]}")
    return run


def good(run: Path) -> int:
    """Frame of the newest checkpoint that verifies, -1 where there is none."""
    path, _ = checkpoint.latest(run / "checkpoints")
    return -1 if path is None else int(re.findall(r"\d+", path.name)[0])


def wait_for(process: subprocess.Popen | Run, what) -> str:
    """Until `what` holds: "", or why it never did."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        if process.poll() is not None:
            return f"the run ended by itself with code {process.returncode}"
        if what():
            return ""
        time.sleep(0.002)
    return f"nothing happened for {LONGEST:.0f} seconds"


def kill(folder: Path, chance: random.Random) -> Tries:
    """SIGKILL at random moments, half of them while a checkpoint or the replay is being written, one in ten while the run is
    starting or resuming; then it resumes.
    """
    run, frame, number, within = folder / "run", -1, 0, 0
    while True:
        number += 1
        log_of(run).write_text("")
        elsewhere = {"TMPDIR": "/dev/shm"} if number % 4 > 1 else {}  # another file system, where Linux has it
        start = begin_anew if number % 10 == 1 else begin
        process, early = start(run, *ENDLESS, **elsewhere), number % 10 == 4
        try:
            # It has begun again once it is beyond what it had; then at any moment, or within the next save.
            lost = "" if early else wait_for(process, lambda frame=frame: good_step(run) > frame)
            if early:
                time.sleep(chance.uniform(0, EARLY))
            elif not lost:
                time.sleep(chance.uniform(0, 0.5))
                lost = wait_for(process, lambda: saving(run)) if number % 2 else ""
            there = good_step(run)  # by its name: a name is given to what is whole
        finally:
            process.kill()
            process.wait()
        said, now, left = log_of(run).read_text(), good(run), orphans(process.pid)
        within += saving(run)
        if not lost and now < there:
            lost = f"frame {there} was saved and {now} is left"
        if not lost and left:
            lost = f"processes {left} are left"
        if not lost and number % 100 == 0 and within < number / 4:
            lost = f"{within} of {number} were within a save: too few to say"
        if not lost and not early and frame >= 0 and f"resumed      at frame {frame}" not in said:
            lost = f"it did not go on from frame {frame}: {said[-200:]!r}"
        if not lost and "warning" in said:
            lost = f"it passed something over: {said[-300:]!r}"
        frame = now
        yield lost


def good_step(run: Path) -> int:
    """Frame of the newest checkpoint by its name alone: looked at often."""
    names = checkpoint.steps(run / "checkpoints")
    return int(re.findall(r"\d+", names[-1].name)[0]) if names else -1


def saving(run: Path) -> bool:
    """Whether a file is being written this moment."""
    return any((run / "checkpoints").glob(".tmp-*")) or any((run / "replay").glob(".tmp-*"))


def term(folder: Path, chance: random.Random) -> Tries:
    """The signals that stop, in turn, to a run with two environments or its whole group, at random moments of training, every
    third twice within microseconds, and every fifth while it starts.

    Saved with the episodes under way, gone within 30 seconds, its code, no traceback.
    """
    run, number = folder / "run", 0
    while True:
        asked = STOPPING[number % len(STOPPING)]
        number += 1
        log_of(run).unlink(missing_ok=True)
        before, process, early = good(run), begin(run, *ENDLESS, "--environment.num_envs", "2"), number % 5 == 3
        try:
            lost = "" if early else wait_for(process, lambda before=before: good_step(run) > before)
            time.sleep(chance.uniform(0, EARLY if early else 1))
            for _ in range(2 if number % 3 == 0 else 1):
                os.killpg(process.pid, asked) if number % 4 > 1 else process.send_signal(asked)
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            code, lost = None, "it was still there after 30 seconds"
        finally:
            process.kill()
            process.wait()
        said, left = log_of(run).read_text(), orphans(process.pid)
        stopped = re.search(r"stopped and saved at frame (\d+)", said)
        codes = (128 + asked, -asked) if early else (128 + asked,)  # in its imports the system's own end is as good
        if not lost and (code not in codes or "Traceback" in said):
            lost = f"code {code} for signal {asked}: {said[-300:]!r}"
        if early and not stopped:
            yield lost or ("frames are gone" if good(run) < before else f"processes {left} are left" if left else "")
            continue
        if not lost and (not stopped or int(stopped.group(1)) != good(run)):
            lost = f"what it says it saved is not there: {said[-200:]!r}"
        if not lost and not checkpoint.load(checkpoint.steps(run / "checkpoints")[-1])["rollout"]:
            lost = "the episodes that were under way are not saved"
        yield lost or (f"processes {left} are left" if left else "")


def end(process: subprocess.Popen | Run) -> None:
    """Ask it to end; one that does not is ended. Errors: TimeoutError then."""
    process.terminate()
    try:
        process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise TimeoutError("a run did not end when it was told to") from None


def orphans(session: int, patience: float = 10.0) -> list[int]:
    """Processes of a run's session that do not go by themselves: its workers and their server see that it is gone, then end."""
    end = time.monotonic() + patience
    while (found := members(session)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def members(session: int) -> list[int]:
    """Processes of a session that are there at this moment."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended this moment
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def twice(folder: Path, chance: random.Random) -> Tries:
    """A second run on the folder of one that is under way, or two at once: one is refused in one line, one goes on."""
    run, number = folder / "run", 0
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
            second = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST)
            second = second(command(run, *ENDLESS), env=variables(folder))
            lost = "" if refused(second.returncode, second.stderr) else f"code {second.returncode}: {second.stderr[-300:]!r}"
            yield problem or lost or wait_for(first, lambda before=before: good_step(run) > before)
    finally:
        end(first)


def at_once(run: Path) -> str:
    """Two that start together on a new folder."""
    both = [begin(run, *ENDLESS) for _ in range(2)]
    try:
        late = time.monotonic() + LONGEST
        while all(process.poll() is None for process in both) and time.monotonic() < late:
            time.sleep(0.01)
        ended = [process for process in both if process.poll() is not None]
        if len(ended) != 1:
            return f"{len(ended)} of two ended"
        said = "".join(line for line in log_of(run).read_text().splitlines(True) if line.startswith("error"))
        if not refused(ended[0].returncode, said):
            return f"code {ended[0].returncode}: {said[-300:]!r}"
        return wait_for(both[both[0] is ended[0]], lambda: good_step(run) > 0)
    finally:
        for process in both:
            end(process)


def refused(code: int | None, said: str) -> bool:
    """In one line, since another run has the folder."""
    return code == 6 and bool(re.fullmatch(r"error: the run folder is in use by process \d+: .*: .*\n", said))
