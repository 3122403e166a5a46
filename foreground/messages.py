"""What train.py says of a run when it starts and when it ends."""

import importlib.util
import os
import shlex
import sys
from pathlib import Path

import torch

from foreground.agents.agent import WorldModelAgent
from foreground.configs.run import RunConfig
from foreground.envs import backgrounds
from foreground.envs.distraction import in_words
from foreground.training.trainer import Trainer


def at_start(
    config: RunConfig,
    agent: WorldModelAgent,
    trainer: Trainer,
    replay_text: str,
    device: torch.device,
    folder: Path,
) -> list[str]:
    """Return the first lines of a run: environment, sizes, memory, device, folder."""
    world, rssm = config.world_model, config.world_model.rssm
    parts = agent.parameters_by_module()
    repeat, threads = config.environment.action_repeat, torch.get_num_threads()
    lines = [
        f"environment  {config.task}, {config.environment.image_size} pixels, action "
        f"repeat {repeat}, "
        f"background {config.background.source}{family(config)}",
        *distractions(config),
        *_clips(config),
        f"agent        {config.agent}: maximise {', '.join(world.objective.terms)}"
        + (
            f"; under one multiplier: {', '.join(world.objective.constraint)}"
            if world.objective.constraint
            else ""
        ),
        f"sizes        {rssm.deterministic} deterministic, "
        f"{agent.world_model.rssm.latent.size} stochastic, "
        f"batch {config.training.batch_size}x{config.training.batch_length}",
        f"parameters   {sum(parts.values()):,}: "
        + ", ".join(f"{name} {number:,}" for name, number in parts.items()),
        f"replay       {replay_text}",
        f"device       {device}, {threads} thread{'s' * (threads > 1)}"
        + (f", {config.ranks} ranks with a batch each" if config.ranks > 1 else ""),
        f"folder       {folder}",
        f"watch it     {tensorboard(folder)}",
    ]
    if trainer.env_frame:
        held = f"{len(trainer.replay)} steps in the replay"
        lines.append(f"resumed      at frame {trainer.env_frame}, update {trainer.update}, {held}")
    return lines


def tensorboard(folder: Path) -> str:
    """Return the command that shows a run and those beside it, with this Python's TensorBoard."""
    program = Path(sys.executable).with_name("tensorboard")
    shown = _word(program) if program.exists() else f"{_word(sys.executable)} -m tensorboard.main"
    return f"{shown} --logdir {shlex.quote(str(folder.parent))}"


def skills(folder: Path, goals: bool = False) -> str:
    """Return the command that shows the skills of a run, or how it reaches goals."""
    spec = importlib.util.find_spec("foreground.eval")
    program = _word(spec.origin if spec and spec.origin else "eval.py")
    asked = "--reach" if goals else "--skills"
    return f"{_word(sys.executable)} {program} {shlex.quote(str(folder))} {asked}"


def _word(path: Path | str) -> str:
    """Return the path of a file for a shell: relative where it is below the current folder."""
    path, here = Path(os.path.abspath(path)), Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def distractions(config: RunConfig) -> list[str]:
    """Return a line that names the distractions that are on; none without any."""
    words = in_words(config.distraction)
    return [f"distraction  {words}"] if words else []


def family(config: RunConfig) -> str:
    """Return what the games of a family differ in, and how many there are; "" where there is no
    family.
    """
    if config.games is None:
        return ""
    train, heldout = (len(games) for games in (config.games.train, config.games.heldout))
    return f", family of {config.family.kind}: {train} games to train on, {heldout} held out"


def _clips(config: RunConfig) -> list[str]:
    """Return the line that says how many clips there are on each side; none where there are no
    clips.
    """
    sides = backgrounds.sources(config.background, config.environment.image_size)
    if not sides:
        return []
    return [f"clips        {sides['train'].text()} to train on, {sides['heldout'].text()} held out"]


def at_end(
    config: RunConfig, trainer: Trainer, done: bool, first: tuple[int, int], seconds: float
) -> str:
    """Return what was trained: by the whole run, and by this process.

    first   env frame and update at which this process began
    """
    frame, update = trainer.env_frame, trainer.update
    if done:
        # Frames that a run may end beyond its budget.
        step = trainer.action_repeat * config.environment.num_envs
        fewer = (
            f", beyond --total_frames {config.total_frames}"
            if frame >= config.total_frames + step
            else ""
        )
        return f"finished at frame {frame}{fewer}; nothing to train"
    here = (
        ""
        if first == (0, 0)
        else f"; {frame - first[0]} frames and {update - first[1]} updates of them now"
    )
    return f"trained {frame} frames, {update} updates{here}, in {seconds:.0f} s"


def when_stopped(config: RunConfig, trainer: Trainer) -> str:
    """Return the progress of a stopped run, and the command that continues it."""
    if trainer.env_frame < config.total_frames:
        return (
            f"stopped and saved at frame {trainer.env_frame}; the same command continues from there"
        )
    what = (
        f"training is complete and saved at frame {trainer.env_frame}; the evaluation at its "
        "end is missing"
    )
    return f"{what}: the same command makes it"
