"""The options of a saved run, which may be of an older version."""

from pathlib import Path

from foreground.configs.renamed import mapping_of_today
from foreground.configs.schema import AGENTS, PRESETS, RunConfig, begin_of
from foreground.errors import UserError
from foreground.training import options
from foreground.training.presets import load_yaml


def load(run: Path) -> RunConfig:
    """Return the config of a run folder, or of a checkpoint in one.

    Raises: UserError when it is neither.
    """
    path = folder_of(run) / "config.yaml"
    if not path.is_file():
        raise UserError(
            "this is not a run folder",
            str(run),
            "give a folder that train.py wrote (it holds config.yaml)",
        )
    return written(path)


def parts_of(mapping: dict) -> dict:
    """Return the parts of a run whose config is older than their names, as a preset has them."""
    hierarchy, modes, policy = (
        mapping.get(name) or {} for name in ("hierarchy", "modes", "actor_critic")
    )
    discovers = any("discovery" in name.split("+") for name in policy.get("rewards") or {})
    like = (
        "hierarchical"
        if hierarchy.get("duration")
        else "mra"
        if modes.get("num_modes")
        else "slim"
        if discovers
        else "infopower"
    )
    preset = load_yaml(PRESETS / f"{like}.yaml")
    begin = begin_of(mapping["agent"]) if mapping.get("agent") in AGENTS else "nothing"
    return {name: preset[name] for name in ("commander", "learners") if name in preset} | {
        "init_weights": begin
    }


def written(path: Path) -> RunConfig:
    """Return the config.yaml of a run, in today's names.

    Options that came later have the value that the run had.
    """
    mapping = mapping_of_today(load_yaml(path))
    mapping = mapping if "learners" in mapping else mapping | parts_of(mapping)
    return options.from_dict(RunConfig, mapping, str(path))


def folder_of(run: Path) -> Path:
    """Return the run folder of a run folder, of its `best` folder or of a checkpoint.

    Raises: UserError for a path that leads nowhere.
    """
    try:
        run = run.resolve()
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # links in a circle, a folder that may not be read
        remedy = "give a folder that train.py wrote (it holds config.yaml)"
        raise UserError("this is not a run folder", str(run), remedy) from error
    if (run / "MANIFEST.json").exists():
        return run.parent.parent
    return run.parent if run.name == "best" and (run.parent / "config.yaml").exists() else run
