"""From a config to the things it describes: environments, agent, replay. Used by train.py, eval.py and benchmarks."""

import functools
import os
import signal
from dataclasses import replace
from pathlib import Path

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from foreground import envs
from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Layout
from foreground.agents.config import AgentConfig
from foreground.agents.registry import find_commander
from foreground.configs.run import RunConfig, folder_of
from foreground.envs import registry, specs
from foreground.envs.backgrounds import load_background
from foreground.envs.families import Game
from foreground.envs.workers import Workers, in_process
from foreground.errors import UserError
from foreground.training import rollout
from foreground.training.replay import Replay
from foreground.training.system import STOPPING, free_memory
from foreground.world_models.world_model import Spaces

GIBIBYTE = 2**30
SHORT = 20  # env frames of an episode that may terminate, where the replay is sized; where they are shorter, its oldest rows go


def environment_maker(config: RunConfig, side: str, background=None, games: tuple[Game, ...] = ()):
    """A picklable factory of environments with clips of a side ("train", "heldout"), or without ("clean").

    games   that are played, of the run's family; none: those of training
    """
    size = config.environment.image_size
    source = background or config.background
    family = config.games
    if registry.is_gymnasium(config.task) and config.background.source == "none" != source.source:
        what = f"the run saw {config.task} as the environment draws it, which no video can play behind"
        raise UserError(what, "--background", "choose clean, or train with --background.source")
    clips = None if side == "clean" or source.source == "none" else load_background(source, side, size)
    if registry.is_gymnasium(config.task):
        return functools.partial(
            envs.make_pixels,
            config.task,
            config.env_module,
            config.env_arguments,
            size=size,
            action_repeat=config.environment.action_repeat,
            background=clips,
            mask="" if source.source == "none" else config.environment.mask,
        )
    return functools.partial(
        envs.make,  # imports MuJoCo only now: its failure is then an error like any other
        config.task,
        size=size,
        action_repeat=config.environment.action_repeat,
        background=clips,
        mask=config.environment.mask,
        time_limit=config.environment.time_limit,
        signals=() if family and family.relabels else config.signals,
        family=family,
        games=games,
    )


def training_environments(config: RunConfig) -> VectorEnv | Workers:
    """The environments of training: in this process when there is one, else a process each, started by forkserver."""
    makers = [environment_maker(config, "train")] * config.environment.num_envs
    if len(makers) == 1:
        return SyncVectorEnv([functools.partial(in_process, makers[0])], autoreset_mode=AutoresetMode.NEXT_STEP)
    return Workers([functools.partial(in_worker, maker, os.getpid()) for maker in makers])


def renderer() -> str:
    """What draws in this process, and in those of its environments."""
    return envs.renderer_name()


def in_worker(maker, training: int):
    """An environment in a process of its own, where signals to the whole group are left to the process `training`.

    In that one it is made, too: gymnasium looks at its spaces.
    """
    if os.getpid() != training:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
    return maker()


def check_task(config: RunConfig) -> None:
    """Raise UserError for a task that does not exist, or that a video does not fit, before anything heavy starts."""
    if registry.is_gymnasium(config.task):
        specs.spec_of(config.task, config.env_module)
    else:
        registry.check_dmc(config.task, video=config.background.source != "none")


def check_agent(config: RunConfig) -> None:
    """Before anything heavy starts. Errors: UserError for a term, reward or constraint that no agent can have."""
    any_action = gymnasium.spaces.Box(-1, 1, (1,))
    of_shapes(config.agent_config, spaces_of(config, any_action))


def check_background(config: RunConfig) -> None:
    """Decodes both sides, which are then in the cache. Errors: UserError now, not at the first evaluation."""
    for side in ("train", "heldout"):
        environment_maker(config, side)


def spaces_of(config: RunConfig, space: gymnasium.spaces.Box) -> Spaces:
    """The sizes that the networks are made for."""
    condition = find_commander(config.commander).size(config.agent_config)
    games = tuple(game.descriptor for game in config.games.train) if config.games else ()
    return Spaces(config.environment.image_size, space.shape[0], condition, config.signals, games)


def of_shapes(config: AgentConfig, spaces: Spaces) -> WorldModelAgent:
    """Return an agent of shapes alone, without memory.

    It is not compiled: that takes seconds, and what is compiled runs out of sight of hooks.
    """
    with torch.device("meta"):
        return WorldModelAgent(replace(config, compile="false"), spaces, "meta")


def make_agent(config: RunConfig, space: gymnasium.spaces.Box, device: torch.device | str) -> WorldModelAgent:
    """The agent for an action space, its weights drawn from the run's seed."""
    torch.manual_seed(config.seed)
    return WorldModelAgent(config.agent_config, spaces_of(config, space), device)


def action_space(config: RunConfig) -> gymnasium.spaces.Box:
    """Of the run's task."""
    env = environment_maker(config, "clean")()
    env.close()
    return env.action_space


def layout_of(config: RunConfig) -> Layout:
    """Return what a run stores, asked of an environment and an agent that are made for it, without weights."""
    env = environment_maker(config, "clean")()
    env.close()
    agent = of_shapes(config.agent_config, spaces_of(config, env.action_space))
    return rollout.layout_of(env) | agent.spec.layout


def make_replay(config: RunConfig, layout: Layout, device: torch.device | str, update: int = 0) -> tuple[Replay, str]:
    """The replay and a sentence about its size; on the device when it fits in half of the memory free there.

    layout   of a row: what environment and agent store
    update   bytes that an update needs on the device: in RAM there must be room for both
    Errors: UserError when it does not fit in free RAM.
    """
    number = config.environment.num_envs
    steps = config.total_frames // config.environment.action_repeat
    # Each episode adds the row of its reset.
    limit = min(config.environment.time_limit, SHORT) if config.terminates else config.environment.time_limit
    rows = steps + steps * config.environment.action_repeat // limit + 2 * number
    capacity = max(min(config.training.capacity, rows), config.training.batch_length * number * 2)
    needed, free = Replay.bytes_needed(layout, capacity, number), free_memory()
    place, on_gpu = "cpu", torch.device(device).type == "cuda"
    room = 0.8 * free if on_gpu else max(min(0.8 * free, free - update), 0)
    if on_gpu and needed < torch.cuda.mem_get_info()[0] / 2:
        place = "cuda"
    elif needed > room:
        what = f"the replay needs {needed / GIBIBYTE:.1f} GiB and {room / GIBIBYTE:.1f} GiB are free for it"
        fits = max(int(capacity * room / needed), 1)
        raise UserError(what, "--training.capacity", f"choose {fits} or fewer")
    text = f"{capacity} steps, {needed / GIBIBYTE:.2f} GiB of {free / GIBIBYTE:.1f} GiB free, on {place}"
    text += " (as long as no other program takes them: each run counts all that is free when it starts)"
    return Replay(layout, capacity, number, config.seed, place), text


def run_folder(config: RunConfig) -> Path:
    """Where a run lives: the same command means the same folder, so that it resumes."""
    if config.folder:
        return Path(config.folder)
    background = Path(config.background.source).name or "video"
    family = "" if config.family.kind == "none" else f"-{config.family.kind}"
    origin = f"-from-{folder_of(Path(config.init_from)).name}" if config.init_from else ""
    return Path("runs") / f"{registry.file_name(config.task)}-{config.agent}{family}{origin}-{background}-seed{config.seed}"
