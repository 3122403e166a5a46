"""Checkpoint ablation: with one leaf of a checkpoint replaced, the end of the resumed run must
change.

If it does not change, that leaf need not be stored, or is not read.
"""

import copy
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from foreground import build, saved
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training import checkpoint
from foreground.training.rollout import Rollout, layout_of
from foreground.training.trainer import Trainer
from tests.faults import Tries
from tests.faults.resume import AGENTS, options_of
from tests.faults.runs import SMALL
from tests.faults.states import described, differing, leaves_of, put, text_of

CUT = 150  # env frames at the checkpoint; the first 100 have random actions
END = 230
# A replaced leaf may also be refused.
REFUSALS = (UserError, RuntimeError, ValueError, TypeError, LookupError)
WORDS = [
    "--training.train_ratio",
    "4",
    "--environment.time_limit",
    "60",
    "--optimiser.warmup",
    "100",
]
WORDS += ["--training.log_every", "20", "--environment.num_envs", "1"]
# A target critic is updated before the cut: its last layer starts at zero, so that until then the
# layers before it have no effect.
TARGET_UPDATES = ["--actor_critic.target_update_every", "4"]
# With white noise the stored noise of the last action has no effect.
CORRELATED = ["--actor_critic.noise_correlation", "0.5"]


def make(folder: Path, words: list[str], seed: int = 0, **more) -> Trainer:
    """Return a new trainer of a small run, in this process.

    more   arguments of Trainer
    """
    config = runs.read([*words, "--seed", str(seed)], cuda=False, ours=SMALL)
    torch.manual_seed(seed)
    envs = build.training_environments(config)
    agent = build.make_agent(config, envs.single_action_space, torch.device("cpu"))
    if config.init_from:
        saved.load_pretrained(agent, config)
    layout = layout_of(envs) | agent.spec.layout
    replay, _ = build.make_replay(config, layout, "cpu")
    rollout = Rollout(envs, agent.initial_state(envs.num_envs), config.seed, layout)
    repeat = config.environment.action_repeat
    fps = 20
    folder.mkdir(parents=True, exist_ok=True)
    parts = config.training, CUT, repeat, agent, rollout, replay, folder, fps, lambda _: {}
    return Trainer(*parts, **more)


def run_to(trainer: Trainer, frames: int) -> dict[str, str]:
    """Train to a frame; return the checkpoint and the log of episodes and progress."""
    logged = []
    listener = SimpleNamespace(
        scalars=lambda frame, row, prefix="": logged.append(
            (frame, row) if prefix == "episode" else None
        ),
        tick=lambda _: None,
        update=lambda frame, shown: logged.append(
            (frame, shown["episode/return"]) if "episode/return" in shown else None
        ),
        video=lambda *_: None,
        message=refused,
    )
    trainer.frames = frames
    trainer.run(listener, listener)
    return described(state_of(trainer.folder)) | {"logged": repr([row for row in logged if row])}


def refused(sentence: str) -> None:
    """Raise RuntimeError: these runs have no reason for a message."""
    raise RuntimeError(sentence)


def state_of(folder: Path) -> dict:
    """Return the newest checkpoint of a folder."""
    return checkpoint.load(checkpoint.steps(folder / "checkpoints")[-1])


def stretch(folder: Path, words: list[str]) -> tuple[dict, dict, dict[str, str]]:
    """Return, of an uninterrupted run, the state at CUT, that of another seed there, and all leaves
    at END.
    """
    trainer = make(folder / "one", words)
    other = make(folder / "other", words, seed=5)
    run_to(trainer, CUT)
    state = state_of(trainer.folder)
    end = run_to(trainer, END)
    run_to(other, CUT)
    return state, state_of(other.folder), end


def resumed(folder: Path, words: list[str], state: dict) -> dict[str, str]:
    """Return all leaves at the end of a run that resumes from a state.

    Raises: RuntimeError when a part of the state is skipped.
    """
    trainer = make(folder, words)
    checkpoint.save(
        folder / "checkpoints", state["clocks"]["agent_step"] * trainer.action_repeat, state
    )
    torch.manual_seed(77)  # earlier draws must not matter
    for sentence in trainer.resume():
        refused(sentence)
    return run_to(trainer, END)


def ablate(folder: Path, chance: random.Random) -> Tries:
    """Agent by agent: first replace nothing, and the end must be the same; then each leaf, in
    random order.
    """
    torch.set_num_threads(1)
    stretches: dict[str, tuple[dict, dict, dict[str, str]]] = {}
    left: dict[str, list[str]] = {}
    number = 0
    while True:
        agent = AGENTS[number % len(AGENTS)]
        number += 1
        words = options_of(agent, folder, *WORDS)
        config = runs.read(words, cuda=False, ours=SMALL).actor_critic
        words += TARGET_UPDATES if config.target_update_every > 1 else []
        words += [] if config.noise_correlation else CORRELATED
        if agent not in stretches:
            stretches[agent] = state, _, end = stretch(folder / agent, words)
            found = resumed(folder / f"try{number}", words, copy.deepcopy(state))
            yield "" if found == end else f"{agent}: with nothing replaced {differing(end, found)}"
            continue
        state, other, end = stretches[agent]
        here, there = (dict(leaves_of(one)) for one in (state, other))
        instead = None
        while instead is None:  # until a leaf has another possible value
            if not left.get(agent):
                left[agent] = chance.sample(places := sorted(here), len(places))
            place = left[agent].pop()
            if spare(place, here):
                continue
            instead = there.get(place, here[place])
            if text_of(instead) == text_of(here[place]):
                instead = another(here[place])
        changed = put(copy.deepcopy(state), place, instead)
        try:
            same = resumed(folder / f"try{number}", words, changed) == end
        except REFUSALS:
            same = False
        yield f"{agent}: {place} has no effect" if same else ""


def spare(place: str, here: dict) -> bool:
    """Return whether a leaf is the buffered half of a draw of NumPy's generator while none is
    buffered.

    It is then never read.
    """
    return place.endswith("/uinteger") and not here[place.removesuffix("uinteger") + "has_uint32"]


def another(value):
    """Return another value of the same kind; None where there is none."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, torch.Tensor | np.ndarray) and len(value.reshape(-1)):
        return ~value if value.dtype in (torch.bool, np.bool_) else value + 1
    return None
