"""A run that is stopped and goes on ends where one that was never stopped does, to the bit."""

import hashlib
import random
import signal
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.fault import Tries
from benchmarks.fault.checkpoints import leaves_of
from benchmarks.fault.runs import begin, good_step, log_of, wait_for
from configs import run as runs
from training import checkpoint

AGENTS = runs.AGENTS
FRAMES = 440


def resume(folder: Path, chance: random.Random) -> Tries:
    """One agent after another; told to stop, or killed, once or twice on its way, at any frame: mid-episode, in a save."""
    straight, number = {}, 0
    while True:
        agent = AGENTS[number % len(AGENTS)]
        number += 1
        words = options_of(agent, folder)
        if agent not in straight:
            straight[agent] = ended(folder / f"straight-{agent}", words)
        run = folder / f"cut{number}-{agent}"
        cuts = sum(cut(run, words, chance) for _ in range(chance.choice((1, 1, 2))))
        if not cuts:
            yield f"{agent}: it came to its end before it could be stopped"
            continue
        found = ended(run, words)
        yield "" if found == straight[agent] else f"{agent}: {differing(straight[agent], found)}"


def options_of(agent: str, folder: Path, *more: str) -> list[str]:
    """A few frames of it, with clips, several episodes and updates, and skills drawn anew; then more options.

    Those that begin with another run begin with one of slim, which is trained in the folder when it is first asked for.
    """
    words = ["--agent", agent, "--frames", str(FRAMES), "--training.train_ratio", "2", "--training.evaluate_every", "200"]
    words += ["--task", "walker-walk", "--background.redraw_every", "7"]
    words += ["--environment.number", "2"] if AGENTS.index(agent) % 4 == 3 else []
    if agent in runs.FOLLOWING:
        skills = folder / "skills"
        if not skills.exists():
            ended(skills, options_of("slim", folder, *more))
        words += ["--skills", str(skills)]
    return words + (["--skill.hold", "9"] if agent in ("slim", "metra", "diayn") else []) + [*more]


def cut(run: Path, words: list[str], chance: random.Random) -> bool:
    """Begin or go on, and be stopped at some moment; whether that was before its last frame."""
    before, process = good_step(run), begin(run, *words)
    try:
        wait_for(process, lambda: good_step(run) > before)
        time.sleep(chance.uniform(0, 0.4))
        process.send_signal(chance.choice((signal.SIGTERM, signal.SIGKILL)))
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    return good_step(run) < FRAMES


def ended(run: Path, words: list[str]) -> dict[str, str]:
    """Let it go to its end; everything of its last checkpoint by place: weights, moments, counters, replay, environments.

    Errors: RuntimeError when it does not come to its end.
    """
    process = begin(run, *words)
    if process.wait(600):
        raise RuntimeError(f"the run failed: {log_of(run).read_text()[-500:]}")
    return {place: text_of(value) for place, value in leaves_of(checkpoint.load(checkpoint.steps(run / "checkpoints")[-1]))}


def text_of(value) -> str:
    """Of a number its digits, of an array type, shape and a hash."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    return repr(value)


def differing(one: dict[str, str], other: dict[str, str]) -> str:
    """Where the two are not the same."""
    places = [place for place in sorted({*one, *other}) if one.get(place) != other.get(place)]
    return f"{len(places)} of {len(one)} differ, {', '.join(places[:6])}"
