"""Compare what a command asks for with the runs that there are: options by value, clips by hash."""

import glob
import sys
from dataclasses import replace
from pathlib import Path

from foreground import ranks
from foreground.configs import run as runs
from foreground.envs import backgrounds, registry
from foreground.errors import UserError, say
from foreground.training import checkpoint, identity, options
from foreground.training.values import shown

# A resumed run may be longer, and elsewhere; everything else must be as it was.
MAY_CHANGE = {
    "total_frames",
    "folder",
    "device",
    "threads",
    "compile",
    "cuda_graphs",
    "training.log_every",
    "training.video_every",
}
MAY_CHANGE |= {"training.evaluate_every", "training.evaluate_async", "training.checkpoint_every"}
MAY_CHANGE |= {"evaluation.episodes", "evaluation.training_episodes"}
RATES = {
    "optimiser.model_lr",
    "optimiser.actor_lr",
    "optimiser.critic_lr",
}  # the way out of a divergence
MAY_CHANGE |= RATES | {
    "matmul",
    "world_model.decoder_frames",
    "evaluation.num_skills",
    "accept_changes",
}
KNOWN_BY_SUM = {
    "background.source",
    "init_from",
}  # compared by what they hold, see training/identity.py
SHOWN = 8  # options that differ, of which a line says both values


def same_run(config: runs.RunConfig, folder: Path) -> Path:
    """Return the folder of a run that differs in the names of clips and --init_from alone.

    Return `folder` where there is none, where the user names one, and where `folder` exists.
    Raise UserError where two runs would do.
    """
    if config.folder or folder.exists():
        return folder
    beside = (
        f"{glob.escape(f'{registry.file_name(config.task)}-{config.agent}-')}*-seed{config.seed}"
    )
    alike = [other for other in sorted(folder.parent.glob(beside)) if has_options(config, other)]
    sides = backgrounds.sources(config.background, config.environment.image_size) if alike else {}
    skills = Path(config.init_from) if config.init_from else None
    found = [
        other for other in alike if not identity.compare(identity.read(other), sides, skills).found
    ]
    if len(found) > 1:
        names = " and ".join(map(str, found))
        raise UserError(
            f"{names} have these options and clips", "--folder", "name the one to continue"
        )
    if found and not ranks.rank():
        say(f"its clips and options are those of {found[0]}, which continues", sys.stdout)
    return found[0] if found else folder


def has_options(config: runs.RunConfig, folder: Path) -> bool:
    """Return whether the options of a run are these, but for those that may differ."""
    try:
        old = runs.written(folder / "config.yaml") if identity.read(folder) else None
    except UserError:  # whatever it is, it is not this run
        return False
    return old is not None and not set(options.differences(old, config)) - MAY_CHANGE - KNOWN_BY_SUM


def begins_with_another(config: runs.RunConfig, folder: Path) -> bool:
    """Whether a run takes the weights of another one: a run that has begun has its own."""
    return bool(config.init_from) and not checkpoint.steps(folder / "checkpoints")


def check_same(config: runs.RunConfig, folder: Path) -> None:
    """Raise UserError where the folder holds a run of other options, and name these."""
    path = folder / "config.yaml"
    if not path.exists():
        _check_empty(folder)
        return
    old = runs.written(path)
    old = replace(old, background=backgrounds.resolved(old.background))
    may = set(MAY_CHANGE)
    if config.accept_changes or (folder / identity.SOURCES).exists():
        may |= KNOWN_BY_SUM
    if backgrounds.are_gone(old.background):  # they lie elsewhere now
        may.add("background.source")
    keys = [key for key in options.differences(old, config) if key not in may]
    if not keys:
        return
    keys.sort(key=lambda key: key != "agent")  # the others may follow from it
    pairs = [_both_values(key, old, config) for key in keys[:SHOWN]]
    text = "; ".join(pairs) + (f"; and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
    remedy = "choose another --folder, or give the same options"
    raise UserError(f"another run lives here: {text}", str(folder), remedy)


def _check_empty(folder: Path) -> None:
    """Raise UserError where a folder without config.yaml holds other files of a run."""
    others = [
        name for name in ("checkpoints", "replay", "metrics.jsonl") if (folder / name).exists()
    ]
    if others:
        what = f"it holds {others[0]} and no config.yaml, so no run can continue there"
        raise UserError(what, str(folder), "choose another --folder")


def _both_values(key: str, run: runs.RunConfig, command: runs.RunConfig) -> str:
    """Return both values of an option in words; of a table, the entries that differ."""
    old, new = options.value_of(run, key), options.value_of(command, key)
    if not isinstance(old, dict) or not isinstance(new, dict):
        return f"{key} is {shown(old)} there, {shown(new)} here"
    pairs = {name: (old.get(name, "absent"), new.get(name, "absent")) for name in old | new}
    told = [f"{key}.{name} is {a} there, {b} here" for name, (a, b) in pairs.items() if a != b]
    return ", ".join(told)


def check_made(config: runs.RunConfig, folder: Path) -> identity.Changes:
    """Compare clips and --init_from with those that the run in the folder was made of.

    Raise UserError where they are others, unless that is accepted.
    """
    sides = backgrounds.sources(config.background, config.environment.image_size)
    before = identity.read(folder) if checkpoint.steps(folder / "checkpoints") else None
    changes = identity.compare(before, sides, Path(config.init_from) if config.init_from else None)
    if changes.found and not config.accept_changes:
        told = "; ".join(change.text() for change in changes.found)
        remedy = "give what it began with, choose another --folder, "
        remedy += "or continue with --accept_changes true"
        raise UserError(f"this is not what the run was made of: {told}", str(folder), remedy)
    return changes
