"""Faults of the surroundings: diverging physics, clocks that jump, and leaks over time."""

import os
import random
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from scipy.stats import linregress

from foreground import envs
from foreground.training import checkpoint
from foreground.training.logger import Logger
from tests.faults import Tries
from tests.faults.runs import ENDLESS, begin_anew, end, good_step, wait_for

BAD = (float("nan"), float("inf"), 1e12, -1e12)
MINUTE = 60.0  # seconds per try of soak
WARM = 6000  # env frames with each kind of event: an evaluation, videos, many checkpoints
SETTLED = 5  # minutes before the trend is fitted
SLOPE = 5e-4  # largest growth of memory per minute: 3 % per hour
# Standard errors subtracted from the slope: minutes vary by 2 % with memory freed by evaluations.
SURE = 2.0
GROWTH = 0.05  # largest growth of memory since the first minute


def physics(folder: Path, chance: random.Random) -> Tries:
    """Set a position, velocity or acceleration out of bounds: the episode is truncated, the next
    one is normal.
    """
    made = {}
    while True:
        task = chance.choice(envs.TASKS)
        env = made[task] = made.get(task) or envs.make(task, size=16, time_limit=100)
        env.reset(seed=chance.randrange(10**6))
        action = np.zeros(env.action_space.shape)
        for _ in range(chance.randrange(5)):
            env.step(action)
        part = chance.choice(("qpos", "qvel", "qacc_warmstart"))
        data = getattr(env.physics.data, part)
        data[chance.randrange(len(data))] = bad = chance.choice(BAD)
        what = ""
        for _ in range(3):  # it may have an effect one step later
            image, reward, _, truncated, info = env.step(action)
            if not np.isfinite(reward) or image.dtype != np.uint8:
                what = f"reward {reward}"
            if info["diverged"]:
                break
        if not info["diverged"] and (truncated or part != "qacc_warmstart"):
            what = "it was not detected"
        env.reset(seed=1)
        image, reward, *_ = env.step(action)
        if not what and not (np.isfinite(reward) and np.isfinite(env.simulator_state()).all()):
            what = "the next episode is broken as well"
        yield what and f"{task}, {part} {bad}: {what}"


def clock(folder: Path, chance: random.Random) -> Tries:
    """The system clock jumps by seconds to years between saves, and files have random times."""
    root = folder / "checkpoints"
    step = 0
    real = time.time
    with Logger(folder) as logger:
        while True:
            step += 1
            jump = chance.choice((-1, 1)) * 10 ** chance.uniform(0, 9)
            with mock.patch.object(time, "time", lambda jump=jump: max(0.0, real() + jump)):
                path = checkpoint.save(root, step, {"weights": torch.full((9,), float(step))})
                for known in checkpoint.steps(root):
                    moment = chance.uniform(0, 2**32)
                    os.utime(known, (moment, moment))
                kept = checkpoint.prune(root)
                logger.scalars(step, {"value": float(step)})
            found, sentences = checkpoint.latest(root)
            lines = (folder / "metrics.jsonl").read_text().count("\n")
            if found != path or sentences or kept[-1] != path or len(kept) != min(step, 2):
                yield f"jump {jump:.0f} s: {found} is the latest after {path}, kept {kept}"
            else:
                yield (
                    "" if lines == step else f"jump {jump:.0f} s: {lines} lines after {step} steps"
                )


def soak(folder: Path, chance: random.Random) -> Tries:
    """Minute by minute of a real run with a full replay: memory, open files and threads must not
    grow.
    """
    run = folder / "run"
    process = begin_anew(
        run, *ENDLESS, "--training.capacity", "200", "--training.evaluate_every", "1000"
    )
    try:
        cold = wait_for(process, lambda: good_step(run) > WARM)
        before = held(process.pid)
        seen: list[int] = []
        while True:
            began = good_step(run)
            lost = cold
            now = held(process.pid)
            seen.append(now["usual"])
            grown = now["memory"] / before["memory"] - 1
            if process.poll() is not None or good_step(run) <= began:
                lost = "it makes no progress"
            elif (
                grown > GROWTH
                or now["files"] > before["files"] + 2
                or now["threads"] > before["threads"] + 2
            ):
                lost = f"from {before} to {now}"
            if len(seen) >= 20 and rise(seen) > SLOPE:
                lost = lost or f"memory grows by a share of {rise(seen):.2e} per minute: {seen}"
            yield lost
    finally:
        end(process)


def rise(seen: list[int]) -> float:
    """Return the slope of memory per minute after SETTLED, minus SURE standard errors, as a share
    of the memory.
    """
    later = np.array(seen[SETTLED:], float)
    fit = linregress(np.arange(len(later)), later)
    return float((fit.slope - SURE * fit.stderr) / later.mean())


def held(pid: int) -> dict[str, int]:
    """Sample a process for a minute, which includes an evaluation.

    Return the largest resident bytes, open files and threads, and the median resident bytes as
    "usual".
    """
    looks: list[tuple[int, int, int]] = []
    end = time.monotonic() + MINUTE
    while time.monotonic() < end:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        looks.append((int(status["VmRSS"].split()[0]) << 10, files, int(status["Threads"])))
        time.sleep(0.1)
    most = dict(zip(("memory", "files", "threads"), map(max, zip(*looks))))
    return most | {"usual": int(np.median([memory for memory, _, _ in looks]))}
