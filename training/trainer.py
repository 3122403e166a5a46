"""The training loop: act, store, learn, log, save. It knows agents by their contract only.

Three clocks: agent_step (one action), env_frame (= agent_step * action_repeat; the x axis of every
plot), update.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foreground import ranks
from foreground.agents.base import Agent
from foreground.agents.optimiser import Divergence, not_finite
from foreground.training import board, common, videos
from foreground.training.checkpointer import Checkpointer
from foreground.training.config import TrainingConfig
from foreground.training.evaluating import Evaluating
from foreground.training.evaluations import Evaluations, look
from foreground.training.logger import Logger
from foreground.training.periodic import Every, Metrics
from foreground.training.progress import Progress
from foreground.training.replay import Replay
from foreground.training.rollout import ActFn, Rollout
from foreground.training.state import SCHEMA, Clocks, moved

WITHOUT_EPISODES = (
    "the checkpoint holds no episode under way (an environment offers no snapshot, or was lost at "
    "that moment): new episodes begin"
)


def nothing() -> None:
    """Do nothing."""


class Trainer:
    """Trains an agent to `frames` env frames, and resumes from the newest good checkpoint of its
    folder.

    With several ranks each has a trainer, whose clocks count the steps of all. They act, learn and
    save at the same steps.

    evaluate      called with the env frame when an evaluation is due: metrics, or None where it was
                  broken off
    check_folder  called before each save; raises NotSaved where the run folder is not this run's
                  any more
    provenance    what the numbers of this process depend on, by name (system.provenance)
    evaluating    the process that evaluates where config.evaluate_async asks for it
    """

    def __init__(
        self,
        config: TrainingConfig,
        frames: int,
        action_repeat: int,
        agent: Agent,
        rollout: Rollout,
        replay: Replay,
        folder: Path,
        render_fps: float,
        evaluate: Callable[[int], dict[str, float] | None],
        check_folder: Callable[[], None] = lambda: None,
        provenance: dict[str, str] | None = None,
        evaluating: Evaluating | None = None,
    ):
        self.config = config
        self.frames = frames
        self.action_repeat = action_repeat
        self.agent = agent
        self.rollout = rollout
        self.replay = replay
        self.folder = Path(folder)
        self.render_fps = render_fps
        self.provenance = provenance or {}
        self.agent_step = 0
        self.update = 0
        self.episodes = 0
        self.steps_to_replay = 0.0  # that train_ratio asks for and no update has replayed yet
        self.score = float("nan")  # return of the last episode
        self.metrics = Metrics()
        self.film: list[np.ndarray] = []  # the last rows of the running episode of environment 0
        self.stop_signal = 0  # the signal that asked to stop, this rank or another
        self.checkpointer = Checkpointer(self.folder, check_folder)
        self.evaluations = Evaluations(
            self.checkpointer, evaluate, evaluating, config.evaluate_async
        )
        self.evaluated = 0  # env frame of the last evaluation that was made or handed over

    @property
    def env_frame(self) -> int:
        return self.agent_step * self.action_repeat

    def run(self, logger: Logger, progress: Progress) -> None:
        """Train to the end of the budget, or until `stop_signal`; write the last checkpoint in both
        cases.

        A save comes before an evaluation at the same frame, so that a failed evaluation loses no
        training.

        Raises: UserError where the process that evaluates cannot, after the last checkpoint.
        """
        try:
            self.train(logger, progress)
            if not self.stops():
                told = self.env_frame, logger, progress, self.is_told
                ranks.alone(lambda: self.evaluations.settle(*told))
        finally:
            self.evaluations.stop()
        if self.evaluations.broken:
            raise self.evaluations.broken

    def train(self, logger: Logger, progress: Progress) -> None:
        """Train as `run`; an evaluation may still be running."""
        config = self.config
        now = self.env_frame
        log = Every(config.log_every, now)
        video = Every(config.video_every, now)
        keep = Every(config.checkpoint_every, now)
        evaluation = Every(config.evaluate_every, self.evaluated)
        self.evaluations.begin_again(now)
        if evaluation.due(now) and now < self.frames:  # one that was interrupted
            self.evaluate_now(evaluation, logger, progress)
        while self.env_frame < self.frames and not self.stops():
            filling = self.env_frame < config.prefill
            policy, learn = (self.fill, nothing) if filling else (self.agent.act, self.learn)
            during, after = (learn, nothing) if config.overlap else (nothing, learn)
            self.act(policy, logger, during)
            after()
            progress.tick(self.env_frame)
            self.evaluations.collect(self.env_frame, logger, progress)
            if log(self.env_frame):
                self.log(logger, progress)
            if video(self.env_frame) and self.update and not ranks.rank():
                look("the pictures", self.env_frame, lambda: self.show(logger), progress)
            due = evaluation.due(self.env_frame) and self.env_frame < self.frames
            # First: evaluations may fail, and the best checkpoint is a copy of this one.
            if keep(self.env_frame) or due:
                self.save(progress)
            if due:
                self.evaluate_now(evaluation, logger, progress)
        if self.checkpointer.saved_at != self.env_frame:
            self.save(progress)

    def stops(self) -> bool:
        """Return whether this rank or another was asked to stop. All stop at the same step."""
        here = self.is_told() or self.evaluations.broken is not None
        stops = ranks.total(int(here))[0] > 0
        if stops and not here:
            self.stop_signal = signal.SIGTERM
        return stops

    def evaluate_now(self, evaluation: Every, logger: Logger, progress: Progress) -> None:
        """Evaluate the agent as it was just saved, on rank 0.

        An interrupted evaluation stays due.
        """
        told = self.env_frame, logger, progress, self.is_told
        if ranks.alone(lambda: self.evaluations.make(*told)):
            self.evaluated = evaluation.done = self.env_frame

    def is_told(self) -> bool:
        """Return whether this rank was asked to stop."""
        return self.stop_signal > 0

    def act(self, policy: ActFn, logger: Logger, meanwhile: Callable[[], None] = nothing) -> None:
        """One agent step of every environment, into the replay.

        meanwhile   is called while environments in processes are stepping; it may change the agent
        """
        self.rollout.send(policy)
        meanwhile()
        self.replay.add(row := self.rollout.receive())
        steps = ranks.total(self.rollout.agent_steps)[0]
        self.agent_step += steps
        if self.env_frame >= self.config.prefill:
            self.steps_to_replay += steps * self.config.train_ratio
        before = [] if row["is_first"][0] else self.film[1 - videos.ROWS :]
        self.film = [*before, row["image"][0]]
        for episode in self.rollout.finished:
            self.episodes += 1
            self.score = episode.score
            lengths = {"return": episode.score, "length": episode.length, "count": self.episodes}
            logger.scalars(self.env_frame, lengths, "episode")
        if self.agent.spec.validates:
            self.validate()

    def validate(self) -> None:
        """Evaluate the agent on the episodes that have ended, those of every rank one by one."""
        ended = [self.replay.newest(each.index, each.length + 1) for each in self.rollout.finished]
        for index in range(-ranks.least(-len(ended))):
            self.metrics.add(self.agent.validate(ended[index] if index < len(ended) else None))

    def fill(
        self, memory: Any, image: torch.Tensor, is_first: torch.Tensor
    ) -> tuple[torch.Tensor, Any]:
        """Act with the policy's noise only, of standard deviation 1.

        The agent filters the images, so that its memory is right when it takes over. Agents whose
        actions do not explore act as usual.
        """
        action, memory = self.agent.act(memory, image, is_first)
        if not self.agent.spec.explores:
            return action, memory
        action = memory.noise.clamp(-1, 1)
        return action, memory.with_action(action)

    def learn(self) -> None:
        """Take the pending updates; each uses one batch on every rank."""
        size = self.config.batch_size * self.config.batch_length * ranks.number()
        if self.steps_to_replay < size:
            return
        # An episode is learned from after it has been used for validation. Before the first one
        # ends there is nothing else.
        stop = self.replay.running() if self.agent.spec.validates and self.episodes else None
        if ranks.total(int(not self.replay.can_sample(self.config.batch_length, stop)))[0]:
            return
        while self.steps_to_replay >= size:
            self.steps_to_replay -= size
            batch = self.replay.sample(self.config.batch_size, self.config.batch_length, stop)
            self.metrics.add(self.agent.update(batch))
            self.update += 1

    def log(self, logger: Logger, progress: Progress) -> None:
        """Write a line of metrics, and show the progress on the terminal."""
        clocks = {
            "clock/update": self.update,
            "clock/agent_step": self.agent_step,
            "replay/steps": len(self.replay),
        }
        clocks["episode/diverged"] = self.rollout.diverged
        metrics = self.metrics.flush()
        logger.scalars(self.env_frame, clocks | metrics)
        shown = {"episode/return": self.score}
        if "model/reward/explained" in metrics:
            shown["model/reward/explained"] = metrics["model/reward/explained"]
        progress.update(self.env_frame, shown)

    def show(self, logger: Logger) -> None:
        """Write videos: images beside their decoded latents, and the last steps of training."""
        kept = videos.latents(self.agent, self.replay)
        if kept is not None:
            logger.video(self.env_frame, board.KEPT, kept, self.render_fps)
        if self.film:
            shown = videos.episode(self.film)
            logger.video(self.env_frame, "training/rollout", shown, self.render_fps)

    # ------------------------------------------------------------------------------ save and resume

    def save(self, progress: Progress) -> None:
        """Save the replay, then the checkpoint. A full disk is a warning.

        Raises: Divergence for weights that are not finite, which would replace a good checkpoint.
        UserError where the folder was displaced at this save and the one before, or the weights of
        the ranks differ.
        """
        learned = self.agent.training_state()
        if broken := not_finite(learned):
            raise Divergence(broken, "what would be saved")
        common.check_weights(learned["weights"], self.env_frame)
        self.checkpointer.save(self.env_frame, self.state, progress)

    def state(self) -> dict[str, Any]:
        """Write the replay's chunks; return everything that a resumed run needs, as plain types and
        tensors.

        Raises: NotSaved where the disk refuses.
        """
        manifest, tail = self.replay.save(self.folder / "replay")
        provenance = {"provenance": self.provenance} if self.provenance else {}
        clocks: dict[str, Any] = {
            "agent_step": self.agent_step,
            "update": self.update,
            "owed": self.steps_to_replay,
        }
        if self.config.evaluate_every:
            clocks["evaluated"] = self.evaluated
        return provenance | {
            "schema": SCHEMA,
            "agent": self.agent.training_state(),
            "replay": {"manifest": manifest, "tail": tail},
            "clocks": clocks,
            "episodes": {
                "count": self.episodes,
                "diverged": self.rollout.diverged,
                "score": self.score,
            },
            "rollout": self.rollout.state(),
            "random": {"torch": torch.get_rng_state()} | self._on_devices(),
        }

    def load_clocks(self, step: int, stored: dict[str, Any]) -> None:
        """Load the clocks of a checkpoint of env frame `step`.

        Raises: ValueError for impossible clocks, with which a step would not end.
        """
        clocks = Clocks.of(stored, step)
        rows = self.replay.row_count * self.replay.num_envs * ranks.number()
        clocks.check(step, rows, self.action_repeat, self.config.train_ratio)
        self.agent_step = clocks.agent_step
        self.update = clocks.update
        self.steps_to_replay = clocks.steps_to_replay
        self.evaluated = clocks.evaluated

    def load_episodes(self, count: int, diverged: int, score: float) -> None:
        """Raises: ValueError for impossible numbers."""
        most = self.agent_step + self.replay.num_envs
        if not all(type(number) is int and 0 <= number <= most for number in (count, diverged)):
            raise ValueError(f"{count} episodes, {diverged} diverged"[:100])
        self.episodes, self.rollout.diverged, self.score = count, diverged, float(score)

    def _on_devices(self) -> dict[str, list[torch.Tensor]]:
        """Return the generator of the agent's CUDA device, if any.

        Other GPUs are not used: a context would take memory there.
        """
        device = self.agent.device
        return {"cuda": [torch.cuda.get_rng_state(device)]} if device.type == "cuda" else {}

    def resume(self) -> list[str]:
        """Resume from the newest valid checkpoint, if any; return sentences about skipped ones.

        Raises: UserError when none can be read, or it belongs to another agent or version.
        """
        path, sentences = ranks.agreed(self.checkpointer.newest)
        # Once all ranks have found theirs: it sets others aside.
        sentences += ranks.agreed(lambda: self.checkpointer.load(path, self.load_state))
        if path:
            common.check_weights(self.agent.training_state()["weights"], self.env_frame)
        self.evaluations.best.forget_after(self.env_frame)
        return sentences

    def load_state(self, step: int, state: dict[str, Any]) -> list[str]:
        """Take up the state of a checkpoint; return sentences about what it lacks.

        step    the env frame in the checkpoint's name

        Raises: ValueError and others (checkpoint.fits) where the state is not of this run.
        """
        self.agent.load_training_state(state["agent"])
        replay = state["replay"]
        sentences = self.replay.load(
            self.folder / "replay", replay["manifest"], replay["tail"], salvage=True
        )
        self.load_clocks(step, state["clocks"])
        self.load_episodes(**state["episodes"])
        sentences += moved(state["provenance"], self.provenance)
        # Else new episodes would be those of the first run again, and its clips.
        self.rollout.seed = (self.rollout.seed + self.agent_step) % 2**31
        if not state["rollout"]:
            sentences.append(WITHOUT_EPISODES)
        try:
            self.rollout.load(state["rollout"])
        except ValueError as error:
            sentences.append(f"the interrupted episode cannot continue ({error}); a new one begins")
        torch.set_rng_state(state["random"]["torch"])
        if self.agent.device.type == "cuda" and state["random"]["cuda"]:
            torch.cuda.set_rng_state(state["random"]["cuda"][0], self.agent.device)
        return sentences
