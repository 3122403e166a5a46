"""From a config to the things it describes: environments, agent, replay. Used by train.py, eval.py and benchmarks."""

import functools
import multiprocessing
import signal
from pathlib import Path

import gymnasium
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

import envs
from agents.agent import Agent, number_of_parameters
from configs.run import RunConfig
from envs.backgrounds import load_background
from errors import UserError, nearest
from training.replay import Replay
from training.system import free_memory
from world_models.world_model import Spaces

GIBIBYTE = 2**30
BYTES_PER_PARAMETER = 16  # float32: the weight, its gradient and Adam's two moments


def environment_maker(config: RunConfig, side: str, background=None):
    """A picklable factory of environments with clips of a side ("train", "heldout"), or without ("clean")."""
    size = config.environment.image_size
    source = background or config.background
    clips = None if side == "clean" or source.source == "none" else load_background(source, side, size)
    return functools.partial(
        envs.make,  # imports MuJoCo only now: its failure is then an error like any other
        config.task,
        size=size,
        action_repeat=config.environment.action_repeat,
        background=clips,
        mask=config.environment.mask,
        time_limit=config.environment.time_limit,
        signals=config.signals,
    )


def training_environments(config: RunConfig) -> VectorEnv:
    """The environments of training: in this process when there is one, else a process each, started by forkserver."""
    makers = [environment_maker(config, "train")] * config.environment.number
    if len(makers) == 1:
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
    makers = [functools.partial(in_worker, maker) for maker in makers]
    # Never fork: a forked process hangs in the GL context that it inherits.
    return AsyncVectorEnv(makers, context="forkserver", autoreset_mode=AutoresetMode.NEXT_STEP)


def in_worker(maker):
    """An environment in a process of its own, where Ctrl-C on the terminal is left to the training process."""
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return maker()


def check_task(config: RunConfig) -> None:
    """Before anything heavy starts. Errors: UserError for a task that does not exist."""
    if config.task not in envs.TASKS:
        raise UserError(f"unknown task {config.task!r}", "--task", nearest(config.task, envs.TASKS))


def check_background(config: RunConfig) -> None:
    """Decodes both sides, which are then in the cache. Errors: UserError now, not at the first evaluation."""
    for side in ("train", "heldout"):
        environment_maker(config, side)


def check_model(config: RunConfig, space: gymnasium.spaces.Box, device: torch.device | str) -> None:
    """Before the networks are made. Errors: UserError when they do not fit in the memory free on the device."""
    number = number_of_parameters(config.agent_config, spaces_of(config, space))
    needed = number * BYTES_PER_PARAMETER
    free = torch.cuda.mem_get_info()[0] if torch.device(device).type == "cuda" else free_memory()
    if needed > free:
        what = f"{number:,} parameters need {needed / GIBIBYTE:.1f} GiB to learn and {free / GIBIBYTE:.1f} GiB are free"
        raise UserError(what, "--size", "choose a smaller one, or fewer units")


def spaces_of(config: RunConfig, space: gymnasium.spaces.Box) -> Spaces:
    """The sizes that the networks are made for."""
    return Spaces(config.environment.image_size, space.shape[0], config.skill.size, config.signals)


def make_agent(config: RunConfig, space: gymnasium.spaces.Box, device: torch.device | str) -> Agent:
    """The agent for an action space, its weights drawn from the run's seed."""
    torch.manual_seed(config.seed)
    return Agent(config.agent_config, spaces_of(config, space), device)


def make_replay(config: RunConfig, space: gymnasium.spaces.Box, device: torch.device | str) -> tuple[Replay, str]:
    """The replay and a sentence about its size; on the device when it fits in half of the memory free there.

    Errors: UserError when it does not fit in free RAM.
    """
    size, number = config.environment.image_size, config.environment.number
    steps = config.frames // config.environment.action_repeat
    # Each episode adds the row of its reset.
    rows = steps + steps * config.environment.action_repeat // config.environment.time_limit + 2 * number
    capacity = max(min(config.training.capacity, rows), config.training.batch_length * number * 2)
    shape = ((size, size, 3), space.shape[0], config.skill.size, len(config.signals))
    needed, free = Replay.bytes_needed(capacity, *shape, num_envs=number), free_memory()
    place = "cpu"
    if torch.device(device).type == "cuda" and needed < torch.cuda.mem_get_info()[0] / 2:
        place = "cuda"
    elif needed > 0.8 * free:
        what = f"the replay needs {needed / GIBIBYTE:.1f} GiB and {free / GIBIBYTE:.1f} GiB are free"
        fits = int(capacity * 0.8 * free / needed)
        raise UserError(what, "--training.capacity", f"choose {fits} or fewer")
    text = f"{capacity} steps, {needed / GIBIBYTE:.2f} GiB of {free / GIBIBYTE:.1f} GiB free, on {place}"
    return Replay(capacity, *shape, num_envs=number, seed=config.seed, device=place), text


def run_folder(config: RunConfig) -> Path:
    """Where a run lives: the same command means the same folder, so that it resumes."""
    if config.folder:
        return Path(config.folder)
    background = Path(config.background.source).name or "video"
    return Path("runs") / f"{config.task}-{config.agent}-{background}-seed{config.seed}"
