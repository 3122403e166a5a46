"""Build environments, agent and replay from a config, for train.py, eval.py and benchmarks."""

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
from foreground.agents.registry import commanders
from foreground.configs.run import RunConfig, folder_of
from foreground.configs.when_read import PAID
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
# Env frames of episodes that may terminate, for the size of the replay. With shorter ones it holds
# fewer of the oldest rows.
SHORT = 20


def environment_maker(
    config: RunConfig,
    side: str,
    background=None,
    games: tuple[Game, ...] = (),
    render_size: int = 0,
):
    """Return a picklable factory of environments with the clips of a side ("train", "heldout"), or
    "clean", without clips and distraction.

    games        games of the run's family that are played; none: those of training
    render_size  pixels of a side of `render()` in tasks of dm_control; 0: nothing is rendered
    """
    size = config.environment.image_size
    source = background or config.background
    family = config.games
    if registry.is_gymnasium(config.task) and config.background.source == "none" != source.source:
        what = f"the run saw the images of {config.task} itself, and no video can play behind them"
        raise UserError(what, "--background", "choose clean, or train with --background.source")
    clips = (
        None if side == "clean" or source.source == "none" else load_background(source, side, size)
    )
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
            proprioception=config.environment.proprioception,
        )
    return functools.partial(
        envs.make,  # imports MuJoCo only now, so that a failure is an error like any other
        config.task,
        size=size,
        action_repeat=config.environment.action_repeat,
        background=clips,
        mask=config.environment.mask,
        time_limit=config.environment.time_limit,
        signals=() if family and family.relabels else config.signals,
        family=family,
        games=games,
        proprioception=config.environment.proprioception,
        distraction=None if side == "clean" else config.distraction,
        clip_frames=config.environment.clip_frames,
        floor=config.environment.floor,
        start=config.environment.start,
        render_mode="rgb_array" if render_size else None,
        render_size=render_size or None,
    )


def training_environments(config: RunConfig) -> VectorEnv | Workers:
    """Return the training environments: one in this process, several in a process each, by
    forkserver.
    """
    makers = [environment_maker(config, "train")] * config.environment.num_envs
    if len(makers) == 1:
        return SyncVectorEnv(
            [functools.partial(in_process, makers[0])], autoreset_mode=AutoresetMode.NEXT_STEP
        )
    return Workers([functools.partial(in_worker, maker, os.getpid()) for maker in makers])


def renderer() -> str:
    """Return the name of the renderer of this process and its environment processes."""
    return envs.renderer_name()


def in_worker(maker, training: int):
    """Return an environment for a separate process, where signals to the group are left to the
    process `training`.

    Gymnasium also makes one in that process, to read its spaces.
    """
    if os.getpid() != training:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
    return maker()


def check_task(config: RunConfig) -> None:
    """Raise UserError for an unknown task, or one that no video fits, before anything expensive
    starts.
    """
    if registry.is_gymnasium(config.task):
        specs.spec_of(config.task, config.env_module)
    else:
        registry.check_dmc(config.task, video=config.background.source != "none")


def limit_warning(config: RunConfig) -> str:
    """Return a sentence where the run's environment states no time limit, otherwise ""."""
    if not registry.is_gymnasium(config.task):
        return ""
    return specs.limit_warning(config.task, config.env_module, config.env_arguments)


def check_agent(config: RunConfig) -> None:
    """Raise UserError for terms, rewards or constraints that do not fit, before anything expensive
    starts.
    """
    if config.environment.proprioception and {"discovery", "goal_map"} & set(config.learners):
        what = "goals are images, without the numbers that the agent would read with them"
        raise UserError(
            what, "--environment.proprioception", "leave it out, or choose an agent without skills"
        )
    any_action = gymnasium.spaces.Box(-1, 1, (1,))
    of_shapes(config.agent_config, spaces_of(config, any_action))


def check_background(config: RunConfig) -> None:
    """Decode the clips of both sides into the cache, so that a UserError comes now, not at the
    first evaluation.
    """
    for side in ("train", "heldout"):
        environment_maker(config, side)


def spaces_of(config: RunConfig, space: gymnasium.spaces.Box) -> Spaces:
    """Return the sizes that the networks depend on."""
    condition = commanders()[config.commander].size(config.agent_config)
    games = tuple(game.descriptor for game in config.games.train) if config.games else ()
    numbers = proprioception_size(config) if config.environment.proprioception else 0
    size = config.environment.image_size
    return Spaces(size, space.shape[0], condition, config.signals, games, numbers)


def proprioception_size(config: RunConfig) -> int:
    """Return how many numbers the run's task observes beside the image, P."""
    env = environment_maker(config, "clean")()
    env.close()
    return env.metadata["info_fields"]["proprioception"][0][0]


def of_shapes(config: AgentConfig, spaces: Spaces) -> WorldModelAgent:
    """Return an agent with shapes only, without memory.

    It is not compiled: that takes seconds, and hooks do not see compiled code.
    """
    with torch.device("meta"):
        return WorldModelAgent(replace(config, compile="false"), spaces, "meta")


def make_agent(
    config: RunConfig, space: gymnasium.spaces.Box, device: torch.device | str
) -> WorldModelAgent:
    """Return the agent for an action space, with weights from the run's seed."""
    torch.manual_seed(config.seed)
    return WorldModelAgent(config.agent_config, spaces_of(config, space), device)


def action_space(config: RunConfig) -> gymnasium.spaces.Box:
    """Return the action space of the run's task."""
    env = environment_maker(config, "clean")()
    env.close()
    return env.action_space


def layout_of(config: RunConfig) -> Layout:
    """Return the layout of a run's rows, from an environment and an agent without weights."""
    env = environment_maker(config, "clean")()
    env.close()
    agent = of_shapes(config.agent_config, spaces_of(config, env.action_space))
    return rollout.layout_of(env) | agent.spec.layout


def make_replay(
    config: RunConfig, layout: Layout, device: torch.device | str, update: int = 0
) -> tuple[Replay, str]:
    """Return the replay and a sentence about its size.

    It is on the device when it fits in half of the free memory there. Each rank has its own.

    layout   of a row
    update   bytes that an update needs on the device; in RAM both must fit

    Raises: UserError when it does not fit in free RAM.
    """
    number = config.environment.num_envs
    steps = config.total_frames // config.environment.action_repeat // config.ranks
    # Each episode has one more row, that of its reset.
    limit = (
        min(config.environment.time_limit, SHORT)
        if config.terminates
        else config.environment.time_limit
    )
    rows = steps + steps * config.environment.action_repeat // limit + 2 * number
    capacity = max(min(config.training.capacity, rows), config.training.batch_length * number * 2)
    needed = Replay.bytes_needed(layout, capacity, number)
    free = free_memory()
    place = "cpu"
    on_gpu = torch.device(device).type == "cuda"
    room = 0.8 * free if on_gpu else max(min(0.8 * free, free - update), 0)
    if on_gpu and needed < torch.cuda.mem_get_info()[0] / 2:
        place = "cuda"
    elif needed > room:
        what = (
            f"the replay needs {needed / GIBIBYTE:.1f} GiB and {room / GIBIBYTE:.1f} GiB are "
            "free for it"
        )
        fits = max(int(capacity * room / needed), 1)
        raise UserError(what, "--training.capacity", f"choose {fits} or fewer")
    text = f"{capacity} steps, {size_text(needed)} "
    shared = f"in RAM, where {size_text(free)} are free for all programs together"
    text += "on the GPU" if place == "cuda" else shared
    rare = config.training.rare_rewards if PAID[1](config) else 0.0
    recent = config.training.recent_steps
    return Replay(layout, capacity, number, config.seed, place, rare, recent), text


def size_text(size: int) -> str:
    """Return bytes in MiB, or in GiB from one on."""
    return f"{size / GIBIBYTE:.1f} GiB" if size >= GIBIBYTE else f"{size / 2**20:.0f} MiB"


def run_folder(config: RunConfig) -> Path:
    """Return the run folder. The same command gives the same folder, so that it resumes."""
    if config.folder:
        return Path(config.folder)
    background = Path(config.background.source).name or "video"
    family = "" if config.family.kind == "none" else f"-{config.family.kind}"
    origin = f"-from-{folder_of(Path(config.init_from)).name}" if config.init_from else ""
    task = registry.file_name(config.task)
    name = f"{task}-{config.agent}{family}{origin}-{background}-seed{config.seed}"
    return Path("runs") / name
