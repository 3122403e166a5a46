"""One thing of a checkpoint is another run's: the end must be another, or that thing need not be kept, or is not read."""

import copy
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.fault import Tries
from benchmarks.fault.resume import AGENTS, options_of
from benchmarks.fault.runs import SMALL
from benchmarks.fault.states import described, differing, leaves_of, put, text_of
from foreground import build, saved
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training import checkpoint
from foreground.training.rollout import Rollout, layout_of
from foreground.training.trainer import Trainer

CUT, END = 150, 230  # env frames; the first 100 are noise
MISFITS = (UserError, RuntimeError, ValueError, TypeError, LookupError)  # it does not fit the rest: that is as good
WORDS = ["--training.train_ratio", "4", "--environment.time_limit", "60", "--optimiser.warmup", "100"]
WORDS += ["--training.log_every", "20", "--environment.num_envs", "1"]
# A slow critic is copied before the cut: its last layer begins at zero, and nobody misses what lies behind it until then.
FOLLOWED = ["--actor_critic.target_update_every", "4"]
CORRELATED = ["--actor_critic.noise_correlation", "0.5"]  # white noise owes nothing to the last


def make(folder: Path, words: list[str], seed: int = 0) -> Trainer:
    """The trainer of a small run in this process, new."""
    config, _ = runs.read([*words, "--seed", str(seed)], cuda=False, ours=SMALL)
    torch.manual_seed(seed)
    envs = build.training_environments(config)
    agent = build.make_agent(config, envs.single_action_space, torch.device("cpu"))
    if config.init_from:
        saved.begin_with(agent, config)
    layout = layout_of(envs) | agent.spec.layout
    replay, _ = build.make_replay(config, layout, "cpu")
    rollout = Rollout(envs, agent.initial_state(envs.num_envs), config.seed, layout)
    repeat, fps = config.environment.action_repeat, 20
    folder.mkdir(parents=True, exist_ok=True)
    return Trainer(config.training, CUT, repeat, agent, rollout, replay, folder, fps, lambda _: {})


def run_to(trainer: Trainer, frames: int) -> dict[str, str]:
    """Everything of the checkpoint there, by place, and what was told of episodes and progress on the way."""
    told = []
    listener = SimpleNamespace(
        scalars=lambda frame, row, prefix="": told.append((frame, row) if prefix == "episode" else None),
        tick=lambda _: None,
        update=lambda frame, shown: told.append((frame, shown["episode/return"]) if "episode/return" in shown else None),
        video=lambda *_: None,
        message=refused,
    )
    trainer.frames = frames
    trainer.run(listener, listener)
    return described(state_of(trainer.folder)) | {"told": repr([row for row in told if row])}


def refused(sentence: str) -> None:
    """Nothing has to be said in these runs."""
    raise RuntimeError(sentence)


def state_of(folder: Path) -> dict:
    """The newest checkpoint of a folder."""
    return checkpoint.load(checkpoint.steps(folder / "checkpoints")[-1])


def stretch(folder: Path, words: list[str]) -> tuple[dict, dict, dict[str, str]]:
    """(the state at the cut, that of another seed there, everything at the end) of a run that is not stopped."""
    trainer, other = make(folder / "one", words), make(folder / "other", words, seed=5)
    run_to(trainer, CUT)
    state = state_of(trainer.folder)
    end = run_to(trainer, END)
    run_to(other, CUT)
    return state, state_of(other.folder), end


def resumed(folder: Path, words: list[str], state: dict) -> dict[str, str]:
    """Everything at the end of a run that goes on from a state. Errors: RuntimeError when something is passed over."""
    trainer = make(folder, words)
    checkpoint.save(folder / "checkpoints", state["clocks"]["agent_step"] * trainer.action_repeat, state)
    torch.manual_seed(77)  # what was drawn before must not matter
    for sentence in trainer.resume():
        refused(sentence)
    return run_to(trainer, END)


def lacking(folder: Path, chance: random.Random) -> Tries:
    """One agent after another: first nothing is lacking, and the end is the same; then each leaf, in an order by chance."""
    torch.set_num_threads(1)
    stretches, left, number = {}, {}, 0
    while True:
        agent = AGENTS[number % len(AGENTS)]
        number += 1
        words = options_of(agent, folder, *WORDS)
        config = runs.read(words, cuda=False, ours=SMALL)[0].actor_critic
        words += FOLLOWED if config.target_update_every > 1 else []
        words += [] if config.noise_correlation else CORRELATED
        if agent not in stretches:
            stretches[agent] = state, _, end = stretch(folder / agent, words)
            found = resumed(folder / f"try{number}", words, copy.deepcopy(state))
            yield "" if found == end else f"{agent}: with nothing lacking {differing(end, found)}"
            continue
        state, other, end = stretches[agent]
        here, there = (dict(leaves_of(one)) for one in (state, other))
        instead = None
        while instead is None:  # nothing else can be there
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
        except MISFITS:
            same = False
        yield f"{agent}: nobody misses {place}" if same else ""


def spare(place: str, here: dict) -> bool:
    """Whether it is the spare half of a draw of NumPy's generator, and none is left over: then it is read by nobody."""
    return place.endswith("/uinteger") and not here[place.removesuffix("uinteger") + "has_uint32"]


def another(value):
    """Than this one, of its kind; None where there is none."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, torch.Tensor | np.ndarray) and len(value.reshape(-1)):
        return ~value if value.dtype in (torch.bool, np.bool_) else value + 1
    return None
