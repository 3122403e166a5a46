"""What a finished run has seen and learned, for programs that learn something else from it."""

from pathlib import Path
from typing import NamedTuple

from gymnasium.spaces import Box

from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training import checkpoint, options
from foreground.training.replay import Replay
from foreground.training.state import completed


class Experience(NamedTuple):
    """A run, and the configuration of what is to learn from it."""

    folder: Path
    own: runs.RunConfig
    config: runs.RunConfig
    state: dict  # of its newest checkpoint
    space: Box  # of its actions

    def replay(self) -> Replay:
        """Return what it has seen, in its own layout.

        Raises: UserError where it did not store what is to be learned from.
        """
        layout = build.layout_of(self.own)
        wanted = build.layout_of(self.config).items()
        # A condition is chosen anew by whoever learns.
        lacks = [name for name, kind in wanted if layout.get(name) != kind and name != "condition"]
        if lacks:
            raise UserError(
                f"the run did not store {', '.join(lacks)} as {self.config.agent} needs it",
                str(self.folder),
                "choose another run, or another agent",
            )
        replay, _ = build.make_replay(self.config, layout, "cpu")
        replay.load(
            self.folder / "replay",
            self.state["replay"]["manifest"],
            self.state["replay"]["tail"],
            salvage=True,
        )
        return replay

    def agent(self) -> WorldModelAgent:
        """What it has learned."""
        agent = build.make_agent(self.own, self.space, "cpu")
        agent.load_training_state(self.state["agent"], optimisers=False)
        return agent


def of_run(folder: Path, words: list[str]) -> Experience:
    """Return the newest checkpoint of a run, under options of train.py.

    Agent, task, size, frames, environment, background and distractions are the run's unless these
    options say otherwise.

    Raises: UserError for a folder that is not a run.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(
            "this is not a run folder", str(folder), "give a folder that train.py wrote"
        )
    own = runs.load(folder)
    before = [
        "--agent",
        own.agent,
        "--task",
        own.task,
        "--size",
        own.size,
        "--total_frames",
        str(own.total_frames),
        "--device",
        "cpu",
        # Of a finished run everything is equally new.
        "--training.recent_steps",
        "0",
    ]
    kept = ("environment.", "background.", "distraction.", "training.prefill")
    for key in (key for key in options.leaves(runs.RunConfig) if key.startswith(kept)):
        value = options.value_of(own, key)
        before += [f"--{key}", str(value).lower() if isinstance(value, bool) else str(value)]
    given = {word.partition("=")[0] for word in words}
    config = runs.read(
        [*(() if "--agent" in given else before[:2]), *before[2:], *words], cuda=False
    )
    newest, _ = checkpoint.latest(folder / "checkpoints")
    if newest is None:
        raise UserError("no checkpoint can be read", str(folder), "choose another run")
    env = build.environment_maker(config, "train")()
    space = env.action_space
    env.close()
    return Experience(folder, own, config, completed(checkpoint.load(newest)), space)
