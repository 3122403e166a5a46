"""The folder of an evaluation: its name says what is evaluated."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from foreground.configs.run import RunConfig
from foreground.envs import registry
from foreground.evaluation import clips
from foreground.evaluation.config import EvalConfig
from foreground.training.values import shown

LONGEST = 200  # bytes of a folder's name
# Options that a folder's name says in another way, or that change no result.
NAMED = {
    "run",
    "output",
    "background",
    "all_clips",
    "task",
    "skill",
    "adapt",
    "accept_changes",
    "device",
    "threads",
}
KINDS = ("random", "latent", "skills", "reach", "plan", "games")


def chosen(config: EvalConfig) -> dict:
    """Return the options of an evaluation that are not in its name's first words, episodes and seed
    always.
    """
    asked = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.name not in (*NAMED, *KINDS)
    }
    asked["latent_actors"] = tuple(map(os.path.abspath, config.latent_actors))
    defaults = {field.name: field.default for field in fields(config)}
    return {
        name: value
        for name, value in asked.items()
        if name in ("episodes", "seed") or value != defaults[name]
    }


def place_of(
    config: EvalConfig, own: RunConfig, folder: Path, checkpoint_name: str, changed: bool
) -> Path:
    """Return the folder of this evaluation: one that may have another result has another one.

    changed   whether it is accepted that clips are not the run's
    """
    sums = clips.sums_of(config.background, own, config.all_clips, changed)
    sides = [
        side if side in clips.SIDES else Path(os.path.abspath(side)).name
        for side in config.background
    ]
    kinds = (
        ["all_clips"] * config.all_clips
        + [kind for kind in KINDS if getattr(config, kind)]
        + ["changed"] * changed
    )
    kinds += [f"skill={config.skill}"] * (config.skill >= 0) + [f"adapt={config.adapt}"] * bool(
        config.adapt
    )
    ordinary = {"episodes": EvalConfig.episodes, "seed": EvalConfig.seed}
    kinds += [
        f"{name}={shown(value)}"
        for name, value in chosen(config).items()
        if value != ordinary.get(name)
    ]
    task = config.task if registry.canonical(config.task) != own.task else ""
    exact = [name + sums.get(side, "") for name, side in zip(sides, config.background)]
    ways = [[checkpoint_name, task, "+".join(each), *kinds] for each in (sides, exact)]
    return named(folder, *ways)


def named(run: Path, words: Sequence[str], exact: Sequence[str]) -> Path:
    """Return the folder of one evaluation in a run.

    words   its name: the checkpoint and what else is evaluated, as far as a person should read it
    exact   the same in full; where a name cannot say it all, its hash follows, so that no two
            evaluations share a folder
    """
    name, whole = ("-".join(word for word in each if word) for each in (words, exact))
    name = re.sub(r"[^\w.,=+-]+", "_", name)
    if name != whole or len(name.encode()) > LONGEST:
        digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
        name = f"{name.encode()[:LONGEST].decode(errors='ignore')}-{digest}"
    return run / "evaluation" / name


def label_of(config: EvalConfig, background: str) -> str:
    """Return a name for files: two folders of clips may have the same name."""
    return (
        background
        if background in clips.SIDES
        else f"{config.background.index(background)}-{Path(background).name}"
    )
