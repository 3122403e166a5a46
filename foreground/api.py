"""The Python API: load a run, act with its agent, make an environment, read a result.

    import foreground

    run = foreground.load_run("runs/walker-walk-infopower-starter-seed0")
    env = run.make_env("heldout")
    player = run.player()
    observation, _ = env.reset(seed=0)
    for _ in range(100):
        observation, reward, terminated, truncated, info = env.step(player(observation))

All names are attributes of `foreground`. It imports this module, and with it torch, when one is
first used.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import torch

from foreground import build, saved
from foreground.configs import run as runs
from foreground.errors import UserError, nearest
from foreground.evaluation import episodes, report
from foreground.evaluation.clips import SIDES
from foreground.evaluation.episodes import Scores

__all__ = [
    "Player",
    "Run",
    "Scores",
    "UserError",
    "load_run",
    "make_env",
    "read_metrics",
    "read_scores",
]


# What messages for a command line say -> what they say here, of the arguments of `make_env`.
IN_PYTHON = {
    "name the module that registers it with --env_module": (
        "import the module that registers it first"
    ),
    "--task": "task",
    "--background.source": "clips",
    "--environment.image_size": "size",
    "--environment.action_repeat": "action_repeat",
}


class Player:
    """An agent that acts in one environment: `player(observation)` returns an action.

    It has the deterministic policy, and a memory of the episode. Call `reset` before each further
    episode. An agent with proprioception also needs the environment's `info`.
    """

    def __init__(self, agent):
        self._reads = agent.world_model.numbers > 0
        self._shape = (agent.spaces.image_size, agent.spaces.image_size, 3)
        self._act, self._initial = report.agent_policy(agent)(SimpleNamespace(num_envs=1))
        self.reset()

    def reset(self) -> None:
        """Forget the episode."""
        self._memory, self._first = self._initial, True

    @torch.no_grad()
    def __call__(self, observation: np.ndarray, info: dict | None = None) -> np.ndarray:
        """Take an image (H, W, 3), uint8, and return an action (A,) in [-1, 1].

        info   of the environment's `reset` or `step` that gave the image

        Raises: UserError for another image, and if the agent reads proprioception and the caller
        gives none.
        """
        observation = np.asarray(observation)
        if observation.dtype != np.uint8 or observation.shape != self._shape:
            what = f"the image is {observation.dtype} {observation.shape}"
            remedy = f"give uint8 {self._shape}, as the environment of run.make_env() does"
            raise UserError(what, "player(observation)", remedy)
        if self._reads:
            if not info or "proprioception" not in info:
                what = "the agent reads numbers beside the image, and none are given"
                raise UserError(what, "player(observation)", "call player(observation, info)")
            numbers = np.asarray(info["proprioception"], np.float32)[None]
            self._memory = self._memory.with_fields({"proprioception": numbers})
        image = torch.from_numpy(np.ascontiguousarray(observation)).unsqueeze(0)
        action, self._memory = self._act(self._memory, image, torch.tensor([self._first]))
        self._first = False
        return action[0].cpu().numpy()


class Run:
    """A trained run.

    folder      its run folder
    checkpoint  the checkpoint that was loaded
    config      all options of the run
    frame       env frames it was trained for
    agent       the agent, with the weights of the checkpoint
    """

    def __init__(self, folder: Path, checkpoint: Path, config: runs.RunConfig, frame: int, agent):
        self.folder = folder
        self.checkpoint = checkpoint
        self.config = config
        self.frame = frame
        self.agent = agent

    def __repr__(self) -> str:
        config = self.config
        return (
            f"Run({str(self.folder)!r}, agent={config.agent!r}, task={config.task!r}, "
            f"frame={self.frame})"
        )

    def make_env(self, side: str = "heldout") -> gymnasium.Env:
        """Return an environment of the run's task and options.

        side   the clips behind the robot: "train", "heldout", or "clean" for the task's own picture

        Raises: UserError for another side.
        """
        _check_side(side)
        return build.environment_maker(self.config, side)()

    def player(self) -> Player:
        """Return the agent as a function from an observation to an action."""
        return Player(self.agent)

    def evaluate(self, count: int = 5, side: str = "heldout", seed: int = 0) -> Scores:
        """Play whole episodes with the deterministic policy; the seed determines the episodes.

        Raises: UserError for no episode, or an unknown side.
        """
        if count < 1:
            raise UserError(f"{count} episodes give no score", "evaluate(count)", "give 1 or more")
        _check_side(side)
        maker = build.environment_maker(self.config, side)
        return episodes.play(maker, report.agent_policy(self.agent), count, seed)


def load_run(path: str | Path, device: str = "cpu") -> Run:
    """Load a run folder (its newest checkpoint), its folder `best`, or one checkpoint in it.

    Raise UserError where there is none that can be read, or no such device.
    """
    path = Path(path)
    _check_device(device)
    config = runs.load(path)
    loaded = saved.load_run(path)
    agent, frame = saved.load_agent(config, loaded, device)
    return Run(loaded.folder, loaded.path, config, frame, agent)


def _check_device(name: str) -> None:
    """Raise UserError for a device that torch does not have here."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # which one depends on the build of torch
        remedy = 'give "cpu", or "cuda" on a machine with a GPU'
        raise UserError(f"torch has no device {name!r} here", "load_run(device)", remedy) from error


def _check_side(side: str) -> None:
    """Raise UserError for an unknown side."""
    if side not in SIDES:
        raise UserError(f"unknown side {side!r}", "side", nearest(str(side), SIDES))


def make_env(
    task: str,
    clips: str | None = None,
    side: str = "train",
    size: int = 64,
    action_repeat: int = 0,
) -> gymnasium.Env:
    """Return an environment without a run.

    task            as in `--task`, for instance "walker-walk"
    clips           folder of videos behind the robot, "starter", "procedural", or "none" for the
                    task's own picture. Left out: "starter", and "none" for an environment of
                    Gymnasium
    side            "train", "heldout" or "clean"
    action_repeat   frames for which an action is held; 0: the default of the task

    Raises: UserError.
    """
    _check_side(side)
    words = ["--task", task, "--environment.image_size", str(size), "--size", "cpu"]
    words += ["--environment.action_repeat", str(action_repeat)]
    words += [] if clips is None else ["--background.source", str(clips)]
    try:
        config = runs.read(words, cuda=False)
        return build.environment_maker(config, side)()
    except UserError as error:
        raise _in_python(error) from error


def _in_python(error: UserError) -> UserError:
    """Return an error with the arguments of `make_env` in place of options."""
    parts = [error.what, error.where, error.remedy]
    for theirs, ours in IN_PYTHON.items():
        parts = [part.replace(theirs, ours) for part in parts]
    return UserError(*parts, error.exit_code)


def _folder_of(run: str | Path | Run) -> Path:
    """Return the folder of a run, which may be loaded."""
    return run.folder if isinstance(run, Run) else Path(run)


def read_scores(folder: str | Path | Run) -> dict[str, dict]:
    """Return side -> its score: of a run, at the end of its training, or of an evaluation's folder.

    Raise UserError if scores.json is missing or not complete.
    """
    path = _folder_of(folder) / "scores.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["scores"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            "no scores can be read", str(path), "finish the run, or evaluate it with eval.py"
        ) from error


def read_metrics(run: str | Path | Run, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return env frames (n,) and values (n,) of a metric of a run, as in metrics.jsonl.

    run   its folder, or the loaded run

    Raise UserError for a run without metrics, or a key that it never logged.
    """
    path = _folder_of(run) / "metrics.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(
            "no metrics can be read", str(path), "give a run folder that train.py wrote"
        ) from error
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    if not points:
        known = {name for row in rows for name in row} - {"step", "wall"}
        raise UserError(f"no value of {key!r} was logged", str(path), nearest(key, known))
    frames, values = zip(*points, strict=True)
    return np.asarray(frames), np.asarray(values)
