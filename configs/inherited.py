"""Options that a run takes from the run that it begins with (--init_from), and whether both fit."""

from dataclasses import replace
from pathlib import Path

from foreground.configs.schema import FOLLOWING, RunConfig, begin_of
from foreground.configs.stored import load
from foreground.envs import registry
from foreground.errors import UserError
from foreground.training import options

SECTIONS = ("environment", "world_model")  # must be alike
SKILL_SECTIONS = ("skill", "hierarchy")  # must be alike where its skills are used
OWN = (
    "environment.num_envs",
    "environment.start",
    "world_model.objective",
    "world_model.decoder_frames",
    "skill.duration",
    "hierarchy.duration",
)


def shared(run: Path, agent: str) -> dict:
    """Return the options that a run takes from the one that it begins with, nested.

    They are the sizes, the camera, and the form of its skills.
    Raises: UserError for an agent that begins with none.
    """
    if agent not in FOLLOWING:
        what = f"{agent} does not begin with another run"
        raise UserError(
            what, f"--init_from {run}", f"leave it out, or choose --agent {' or '.join(FOLLOWING)}"
        )
    other = load(run)
    policy = replace(
        other.hierarchy, units=other.actor_critic.units, layers=other.actor_critic.layers
    )
    there = options.to_dict(replace(other, hierarchy=policy))
    if other.hierarchy.duration:
        raise UserError(
            "that run is hierarchical itself",
            f"--init_from {run}",
            f"give the run of its skills, {other.init_from}",
        )
    del (
        there["world_model"]["objective"],
        there["hierarchy"]["duration"],
        there["environment"]["num_envs"],
        there["environment"]["start"],
    )
    skills = SKILL_SECTIONS if begin_of(agent) == "skills" else ()
    return {
        name: there[name]
        for name in ("task", "env_module", "env_arguments", "size", *SECTIONS, *skills)
    }


def check_skills(config: RunConfig, there: dict) -> None:
    """Check that a run fits the one that it begins with (`shared`).

    Raises: UserError that names what differs.
    """
    where = f"--init_from {config.init_from}"
    of_skills = begin_of(config.agent) == "skills"
    remedy = f"give the folder of a run{' of slim, metra or diayn' if of_skills else ''}"
    if not there and config.agent in FOLLOWING:
        raise UserError(
            f"it is not said with which run {config.agent} begins", "--init_from", remedy
        )
    if config.init_weights != begin_of(config.agent):
        what = f"a run of {config.agent} begins with {begin_of(config.agent)}"
        raise UserError(
            what,
            f"--init_weights {config.init_weights}",
            "leave it out, or write a preset that says so",
        )
    if config.hierarchy.duration and config.init_weights != "skills":
        raise UserError(
            f"{config.agent} has no hierarchy",
            "hierarchy.duration",
            "leave it out, or choose --agent hierarchical",
        )
    if not config.hierarchy.duration and config.init_weights == "skills":
        raise UserError(
            "skills are held for 0 steps",
            "hierarchy.duration",
            "choose 1 or more, or --agent finetune",
        )
    if not there:
        return
    body, other = registry.body_of(config.task), registry.body_of(there["task"])
    if body != other:
        raise UserError(
            f"that run's body is {other}, and {config.task} is of {body}",
            where,
            f"choose a task of {other}",
        )
    if config.hierarchy.duration and not there["skill"]["size"]:
        raise UserError("that run has no skills", where, remedy)
    here = options.to_dict(config)
    for key in options.leaves(RunConfig):
        section = key.split(".")[0]
        alike = key == "size" or (section in there and section != "task")
        if alike and not key.startswith(OWN) and _at(here, key) != _at(there, key):
            what = f"{key} is {_at(there, key)} there and {_at(here, key)} here"
            raise UserError(what, where, f"leave --{key} out, or choose another run")


def _at(nested: dict, key: str):
    """The value at a dotted key of nested dicts."""
    for part in key.split("."):
        nested = nested[part]
    return nested
