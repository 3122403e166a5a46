"""Saved runs: find one, read its checkpoint, load its agent, initialise another run with its
weights.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.configs.run import RunConfig, folder_of, load
from foreground.errors import UserError, say
from foreground.training import checkpoint
from foreground.training.checkpoint import Damaged
from foreground.training.state import completed


class Loaded(NamedTuple):
    """A checkpoint that was read once; the run may delete it meanwhile.

    folder   of the run
    path     of the checkpoint
    sha256   of the file with its weights
    state    what `Trainer.state` gave
    """

    folder: Path
    path: Path
    sha256: str
    state: dict


def load_pretrained(agent: WorldModelAgent, config: RunConfig) -> Loaded:
    """Load the weights of --init_from into a new agent; return where they come from.

    They are those of the world model except its rule, and of the skill policy where there is one.
    What stays frozen has that run's averaged weights, as in evaluation; what is trained further has
    those of its last update.
    Terms that the other run did not have are newly initialised.

    Raises: UserError when that run has other actions.
    """
    loaded = load_run(Path(config.init_from))
    path = loaded.path
    other = load(loaded.folder)
    here = agent.spaces.action
    there = build.action_space(other).shape[0]
    if here != there:
        what = f"{config.task} takes {here} actions, and the skills of {other.task} give {there}"
        raise UserError(
            what,
            f"--init_from {config.init_from}",
            f"choose {other.task}, or a run on {config.task}",
        )
    with checkpoint.fits(path):
        state = loaded.state["agent"]
        weights = state["weights"]
        if config.init_weights == "skills":
            weights = weights | state.get("average", {"values": {}})["values"]
        kept = {
            name.replace("actor_critic.actor.", "skill_policy."): value
            for name, value in weights.items()
        }
        own = agent.state_dict()
        taken = {name: value for name, value in kept.items() if name in own and _begins(name)}
        if not any(name.startswith("world_model.rssm.") for name in taken):
            raise ValueError("no world model is in it")
        agent.load_state_dict(own | taken)
    return loaded


def _begins(name: str) -> bool:
    """Whether a weight is taken from the run that another begins with: its reward and its policy
    are its own.
    """
    return (
        name.startswith(("world_model.", "skill_policy."))
        and ".terms.reward." not in name
        and ".rule." not in name
    )


GONE = (
    "a run keeps its newest two: give the run folder, or copy a checkpoint before the run continues"
)
TRIES = 10  # newest checkpoints that may be deleted while they are read


def load_run(path: Path) -> Loaded:
    """Read the newest checkpoint of a run folder, or the given checkpoint.

    A run in training deletes old checkpoints. Where the newest one is deleted before it is read,
    the next one is used.

    Raises: UserError where there is none.
    """
    for _ in range(TRIES):
        folder, chosen = find_run(path)
        try:
            sha256 = checkpoint.weights_sum(chosen)
            state = checkpoint.load(chosen)
            with checkpoint.fits(chosen):
                return Loaded(folder, chosen, sha256, completed(state))
        except Damaged:
            if chosen.exists():
                raise
            if path.resolve() not in (folder, folder / "best"):
                break
    raise UserError("the checkpoint was deleted while it was read", str(path), GONE)


def load_agent(config: RunConfig, loaded: Loaded, device) -> tuple[WorldModelAgent, int]:
    """Return a new agent with what a checkpoint holds, and the env frame of the checkpoint."""
    plain = replace(config, compile="false")  # nothing here is called often enough
    agent = build.make_agent(plain, build.action_space(config), device)
    with checkpoint.fits(loaded.path):
        agent.load_training_state(loaded.state["agent"], optimisers=False)
        return agent, frame_of(loaded.state, config)


def frame_of(state: dict, config: RunConfig) -> int:
    """Return the env frame of a checkpoint's state."""
    return int(state["clocks"]["agent_step"]) * config.environment.action_repeat


def run_of(path: Path) -> Path:
    """Return the run folder of a run folder or a checkpoint folder.

    Raises: UserError where there is none.
    """
    folder = folder_of(path)
    if not (folder / "config.yaml").is_file():
        if path.parent.name == "checkpoints" and (path.parent.parent / "config.yaml").is_file():
            raise UserError("there is no such checkpoint", str(path), GONE)
        raise UserError(
            "this is not a run folder",
            str(path),
            "give a folder that train.py wrote (it holds config.yaml)",
        )
    return folder


def find_run(path: Path) -> tuple[Path, Path]:
    """Return run folder and checkpoint of a run folder (the newest one), its `best` folder, or a
    checkpoint folder.

    Raises: UserError where there is none.
    """
    folder = run_of(path)
    here = path.resolve()
    if folder != here and here != folder / "best":
        return folder, here
    newest, sentences = checkpoint.latest(folder / "checkpoints" if here == folder else here)
    for sentence in sentences:
        say(f"warning: {sentence}")
    if newest is None:
        raise UserError(
            "no checkpoint can be read",
            str(folder / "checkpoints"),
            "train longer, or choose another run",
        )
    return folder, newest
