"""From a config to the things it describes: environments, agent, replay. Used by train.py, eval.py and benchmarks."""

import functools
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from foreground import envs
from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Layout
from foreground.agents.config import AgentConfig
from foreground.agents.registry import find_commander
from foreground.configs.run import RunConfig, folder_of, load
from foreground.envs import registry
from foreground.envs.backgrounds import load_background
from foreground.envs.families import Game
from foreground.envs.workers import Workers, in_process
from foreground.errors import UserError, say
from foreground.training import checkpoint, rollout
from foreground.training.checkpoint import Damaged
from foreground.training.replay import Replay
from foreground.training.state import completed
from foreground.training.system import STOPPING, free_memory
from foreground.world_models.world_model import Spaces

GIBIBYTE = 2**30
BYTES_PER_PARAMETER = 16  # float32: the weight, its gradient and Adam's two moments
# An update holds so many times what its encoder keeps for the gradient in float32, or more: at the cpu size the peak_rss_mb of
# update_speed.py rises by 2.7 times that from a batch of 8x32 to one of 32x32. In bfloat16 half.
AROUND_ENCODER = {"cpu": 2.5, "cuda": 1.2}
# As many times what imagination keeps: 1.3 times at the cpu size with 4,096 starts, 1.5 at 12m along the path.
AROUND_IMAGINATION = 1.5


def environment_maker(config: RunConfig, side: str, background=None, games: tuple[Game, ...] = ()):
    """A picklable factory of environments with clips of a side ("train", "heldout"), or without ("clean").

    games   that are played, of the run's family; none: those of training
    """
    size = config.environment.image_size
    source = background or config.background
    family = config.games
    clips = None if side == "clean" or source.source == "none" else load_background(source, side, size)
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
    makers = [environment_maker(config, "train")] * config.environment.number
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
    registry.check_dmc(config.task, video=config.background.source != "none")


def check_agent(config: RunConfig) -> None:
    """Before anything heavy starts. Errors: UserError for a term, reward or constraint that no agent can have."""
    any_action = gymnasium.spaces.Box(-1, 1, (1,))
    _of_shapes(config.agent_config, spaces_of(config, any_action))


def check_background(config: RunConfig) -> None:
    """Decodes both sides, which are then in the cache. Errors: UserError now, not at the first evaluation."""
    for side in ("train", "heldout"):
        environment_maker(config, side)


def check_model(config: RunConfig, space: gymnasium.spaces.Box, device: torch.device | str) -> int:
    """Bytes that an update needs on the device, before the networks are made.

    Errors: UserError when they, a batch, or what is imagined from it do not fit in the memory that is free there.
    """
    spaces, training = spaces_of(config, space), config.training
    number = number_of_parameters(config.agent_config, spaces)
    kind = torch.device(device).type
    free = torch.cuda.mem_get_info()[0] if kind == "cuda" else free_memory()
    networks = number * BYTES_PER_PARAMETER
    if networks > free:
        what = f"{number:,} parameters need {networks / GIBIBYTE:.1f} GiB to learn and {free / GIBIBYTE:.1f} GiB are free"
        raise UserError(what, "--size", "choose a smaller one, or fewer units")
    rows, frozen = training.batch_size * training.batch_length, "model" not in config.learners
    seen = 0 if frozen else AROUND_ENCODER[kind] * bytes_per_image(config.agent_config, spaces) * rows  # frozen: no gradient
    ahead = AROUND_IMAGINATION * bytes_of_imagination(config.agent_config, spaces, rows)
    needed = networks + max(seen, ahead)  # one after the other
    if needed > free:
        need = f"needs {needed / GIBIBYTE:.1f} GiB and {free / GIBIBYTE:.1f} GiB are free"
        if ahead > seen:
            remedy = "choose fewer, or a shorter --actor_critic.horizon"
            raise UserError(f"imagination from as many starts {need}", "--actor_critic.starts", remedy)
        what = f"an update of {training.batch_size}x{training.batch_length} {need}"
        raise UserError(what, "--training.batch_size", "choose a smaller batch, or a smaller --size")
    return int(needed)


def spaces_of(config: RunConfig, space: gymnasium.spaces.Box) -> Spaces:
    """The sizes that the networks are made for."""
    condition = find_commander(config.commander).size(config.agent_config)
    games = tuple(game.descriptor for game in config.games.train) if config.games else ()
    return Spaces(config.environment.image_size, space.shape[0], condition, config.signals, games)


def number_of_parameters(config: AgentConfig, spaces: Spaces) -> int:
    """Of an agent that is not made: shapes alone, no memory."""
    return sum(parameter.numel() for parameter in _of_shapes(config, spaces).parameters())


def _of_shapes(config: AgentConfig, spaces: Spaces) -> WorldModelAgent:
    """An agent without memory. Not compiled: that takes seconds, and what is compiled runs out of sight of hooks."""
    with torch.device("meta"):
        return WorldModelAgent(replace(config, compile="false"), spaces, "meta")


def bytes_per_image(config: AgentConfig, spaces: Spaces) -> int:
    """What the encoder keeps of an image until the gradient has passed, in float32; of shapes alone."""
    side, encoder = spaces.image_size, _of_shapes(config, spaces).world_model.encoder

    def seen(number: int) -> int:
        images = torch.empty(number, 1, side, side, 3, dtype=torch.uint8, device="meta")
        return _kept(lambda: encoder(images, torch.empty(number, 1, dtype=torch.bool, device="meta")))

    return seen(2) - seen(1)  # the difference, since some of it is kept for all images together


def bytes_of_imagination(config: AgentConfig, spaces: Spaces, rows: int) -> int:
    """What actor and critics keep of a batch of so many rows until their gradient has passed, in float32; of shapes alone.

    It grows with starts times horizon. 0 for agents that imagine in other ways.
    """
    if config.commander != "skill_prior" or "imagination" not in config.learners:
        return 0

    def kept(horizon: int) -> int:
        """What one more start adds."""
        agent = _of_shapes(replace(config, actor_critic=replace(config.actor_critic, horizon=horizon)), spaces)
        totals = []
        for number in (1, 2):
            start = agent.world_model.initial(number, torch.device("meta"))
            condition = torch.empty(number, spaces.condition, device="meta") if spaces.condition else None
            rewards = agent.learners["imagination"].rewards
            loss = functools.partial(agent.actor_critic.loss, agent.world_model, start, rewards, condition)
            totals.append(_kept(loss))
        return totals[1] - totals[0]

    step = kept(2) - kept(1)
    return step * config.actor_critic.horizon * min(config.actor_critic.starts or rows, rows)


def _kept(call: Callable[[], object]) -> int:
    """Bytes of the tensors that a call keeps for its gradient."""
    kept: list[torch.Tensor] = []
    with (
        torch.device("meta"),
        torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value),
    ):
        call()
    storages = {value.untyped_storage()._cdata: value.untyped_storage().nbytes() for value in kept}
    return sum(storages.values())


def make_agent(config: RunConfig, space: gymnasium.spaces.Box, device: torch.device | str) -> WorldModelAgent:
    """The agent for an action space, its weights drawn from the run's seed."""
    torch.manual_seed(config.seed)
    return WorldModelAgent(config.agent_config, spaces_of(config, space), device)


def action_space(config: RunConfig) -> gymnasium.spaces.Box:
    """Of the run's task."""
    env = environment_maker(config, "clean")()
    env.close()
    return env.action_space


class Loaded(NamedTuple):
    """A checkpoint as it was read, once: the run may delete it meanwhile.

    folder   of the run
    path     of the checkpoint
    sha256   of the file with its weights
    state    what `Trainer.state` gave
    """

    folder: Path
    path: Path
    sha256: str
    state: dict


def begin_with(agent: WorldModelAgent, config: RunConfig) -> Loaded:
    """Put the weights of --skills into a new agent: the world model but for its rule, and the skill policy where there is one.

    Terms that the other run did not have start anew. Return where the weights come from.
    Errors: UserError when that run's actions are not these.
    """
    loaded = load_run(Path(config.skills))
    path, other = loaded.path, load(loaded.folder)
    here, there = agent.spaces.action, action_space(other).shape[0]
    if here != there:
        what = f"{config.task} takes {here} actions, and the skills of {other.task} give {there}"
        raise UserError(what, f"--skills {config.skills}", f"choose {other.task}, or a run on {config.task}")
    with checkpoint.fits(path):
        weights = loaded.state["agent"]["weights"]
        kept = {name.replace("actor_critic.actor.", "skill_policy."): value for name, value in weights.items()}
        own = agent.state_dict()
        taken = {name: value for name, value in kept.items() if name in own and _begins(name)}
        if not any(name.startswith("world_model.rssm.") for name in taken):
            raise ValueError("no world model is in it")
        agent.load_state_dict(own | taken)
    return loaded


def _begins(name: str) -> bool:
    """Whether a weight is taken from the run that another begins with: its reward and its policy are its own."""
    return name.startswith(("world_model.", "skill_policy.")) and ".terms.reward." not in name and ".rule." not in name


GONE = "a run keeps its newest two: give the run folder, or copy a checkpoint before the run goes on"
TRIES = 10  # newest checkpoints that may go while they are read


def load_run(path: Path) -> Loaded:
    """Read the newest checkpoint of a run folder, or the checkpoint that is named.

    A run that is training deletes old checkpoints: where the newest one goes before it is read, the next one is taken.
    Errors: UserError where there is none.
    """
    for _ in range(TRIES):
        folder, chosen = find_run(path)
        try:
            sha256, state = checkpoint.weights_sum(chosen), checkpoint.load(chosen)
            with checkpoint.fits(chosen):
                return Loaded(folder, chosen, sha256, completed(state))
        except Damaged:
            if chosen.exists():
                raise
            if path.resolve() not in (folder, folder / "best"):
                break
    raise UserError("the checkpoint was deleted while it was read", str(path), GONE)


def run_of(path: Path) -> Path:
    """Return the run folder of a run folder or a checkpoint folder. Errors: UserError where there is none."""
    folder = folder_of(path)
    if not (folder / "config.yaml").is_file():
        if path.parent.name == "checkpoints" and (path.parent.parent / "config.yaml").is_file():
            raise UserError("there is no such checkpoint", str(path), GONE)
        raise UserError("this is no run folder", str(path), "give a folder that train.py wrote (it holds config.yaml)")
    return folder


def find_run(path: Path) -> tuple[Path, Path]:
    """Return run folder and checkpoint of a run folder (the newest one), its `best` folder, or a checkpoint folder.

    Errors: UserError where there is none.
    """
    folder, here = run_of(path), path.resolve()
    if folder != here and here != folder / "best":
        return folder, here
    newest, sentences = checkpoint.latest(folder / "checkpoints" if here == folder else here)
    for sentence in sentences:
        say(f"warning: {sentence}")
    if newest is None:
        raise UserError("no checkpoint can be read", str(folder / "checkpoints"), "train longer, or choose another run")
    return folder, newest


def layout_of(config: RunConfig) -> Layout:
    """Return what a run stores, asked of an environment and an agent that are made for it, without weights."""
    env = environment_maker(config, "clean")()
    env.close()
    agent = _of_shapes(config.agent_config, spaces_of(config, env.action_space))
    return rollout.layout_of(env) | agent.spec.layout


def make_replay(config: RunConfig, layout: Layout, device: torch.device | str, update: int = 0) -> tuple[Replay, str]:
    """The replay and a sentence about its size; on the device when it fits in half of the memory free there.

    layout   of a row: what environment and agent store
    update   bytes that an update needs on the device: in RAM there must be room for both
    Errors: UserError when it does not fit in free RAM.
    """
    number = config.environment.number
    steps = config.frames // config.environment.action_repeat
    # Each episode adds the row of its reset.
    rows = steps + steps * config.environment.action_repeat // config.environment.time_limit + 2 * number
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
    origin = f"-from-{folder_of(Path(config.skills)).name}" if config.skills else ""
    return Path("runs") / f"{registry.file_name(config.task)}-{config.agent}{family}{origin}-{background}-seed{config.seed}"
