"""Evaluates an agent on backgrounds: table, scores.json, films.

What few evaluations ask for, probes and skills, is imported there: its libraries would be a third of the start of train.py.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

import build
from agents.agent import Agent
from configs.run import RunConfig
from errors import say
from evaluation import interrupt
from evaluation.episodes import Scores, play
from evaluation.films import write_film, write_picture, write_strip
from training import system
from training.files import write_atomic
from training.pictures import beside
from training.rollout import random_policy


def agent_policy(agent: Agent, pictures: list[np.ndarray] | None = None, skill: torch.Tensor | None = None):
    """A maker of the deterministic policy for `play`.

    pictures   filled with what the latent keeps of each image of the first environment, uint8 (H, W, 3)
    skill      (C,), held throughout; none: drawn as in training
    """

    def act(memory, image, is_first):
        condition = None if skill is None else skill.expand(len(image), -1)
        action, memory = agent.act(memory, image, is_first, condition, explore=False)
        if pictures is not None and agent.draws:
            pictures.append(agent.world_model.picture(memory.state.feature[:1])[0].cpu().numpy())
        return action, memory

    return lambda envs: (act, agent.initial_state(envs.num_envs))


def side_by_side(film: np.ndarray, pictures: list[np.ndarray]) -> np.ndarray:
    """Observations and what the latent keeps of them: (T, H, W, 3) and T' pictures -> (min(T, T'), H, 3W, 3)."""
    length = min(len(film), len(pictures))
    return beside(film[:length], np.stack(pictures[:length]))


def uniform_policy(seed: int):
    """A maker of the random policy for `play`: the floor that every score is held against."""
    return lambda envs: (random_policy(envs, np.random.default_rng(seed)), None)


class Evaluator:
    """Scores an agent on the held-out clips during training, and on every background at the end."""

    def __init__(self, config: RunConfig, agent: Agent, folder: Path):
        self.config, self.agent, self.folder = config, agent, Path(folder)
        self.logger = None

    def score(self, side: str, episodes: int, background=None, policy=None) -> Scores:
        """Play on a side ("clean", "train", "heldout"); the agent's random state is left as it was."""
        maker = build.environment_maker(self.config, side, background)
        with torch.random.fork_rng():
            torch.manual_seed(self.config.evaluation.seed)  # of the skills that are drawn
            return play(maker, policy or agent_policy(self.agent), episodes, self.config.evaluation.seed)

    def show(self, frame: int, side: str, label: str, episodes: int, background=None, skill=None) -> Scores:
        """`score`, with the film as mp4, observation beside what the latent keeps as mp4 and PNG; films in TensorBoard."""
        pictures: list[np.ndarray] = []
        scores = self.score(side, episodes, background, agent_policy(self.agent, pictures, skill))
        films = {"evaluation": scores.film}
        if pictures:
            films["latent"] = side_by_side(scores.film, pictures)
            write_strip(self.folder / f"latent-{label}.png", films["latent"])
        for name, film in films.items():
            write_film(self.folder / f"{name}-{label}.mp4", film, scores.render_fps)
            if self.logger:
                self.logger.video(frame, f"{name}/{label}", film[:128], scores.render_fps)
        return scores

    def during_training(self, frame: int) -> dict[str, float]:
        """A few episodes on the held-out side: metrics; the film goes to TensorBoard. None where it is told to stop, or cannot
        write: training goes on."""
        try:
            return self.looked_at(frame, self.fresh_side)
        except interrupt.Interrupted:
            return {}
        except OSError as error:
            say(f"warning: the evaluation at frame {frame} was not written ({error}); training goes on")
            return {}

    def looked_at(self, frame: int, side: str) -> dict[str, float]:
        """Metrics of a few episodes on a side, and films."""
        scores = self.show(frame, side, side, min(5, self.config.evaluation.episodes))
        row = {f"return_{side}": scores.mean} | self.skills(frame, side)
        return row | self.read(frame, side)

    def skills(self, frame: int, side: str) -> dict[str, float]:
        """Metrics of the skills, where any are learned, and their film."""
        if not self.config.skill.size or self.config.hierarchy.hold or not self.config.evaluation.skills:
            return {}
        from evaluation import skill_report

        number = self.config.evaluation.skills
        row, film, fps = skill_report.show(self.config, self.agent, self.folder, side, side, number=number)
        if self.logger:
            self.logger.video(frame, f"skills/{side}", film, fps)
        return {f"skills/{key}": value for key, value in row.items()}

    @property
    def fresh_side(self) -> str:
        """What the agent has not trained on, where there is such a thing."""
        return "clean" if self.config.background.source == "none" else "heldout"

    def read(self, frame: int, side: str) -> dict[str, float]:
        """What can be read from the latent, when that is asked for: metrics, latent.json, and the information plane."""
        config = self.config.evaluation
        if not config.latent:
            return {}
        from evaluation import plane, probes

        reading = probes.inspect(self.agent, build.environment_maker(self.config, side), config.latent_episodes, config.seed)
        save_readings(self.folder / "latent.json", frame, {side: reading})
        path = plane.points(self.folder / "metrics.jsonl") + plane.point(frame, reading)
        if path:
            image = plane.picture(path, f"{self.config.agent}, {self.config.task}")
            write_picture(self.folder / "information_plane.png", image)
            if self.logger:
                self.logger.image(frame, "latent/information_plane", image)
        return {f"latent/{key}": value for key, value in probes.summary(reading).items()}

    def final(self, frame: int) -> dict:
        """Every background and the random policy; prints the table, writes scores.json and films."""
        sides = ["clean"] if self.fresh_side == "clean" else ["heldout", "train", "clean"]
        results = {}
        for side in sides:
            results[side] = self.show(frame, side, side, self.config.evaluation.episodes)
        random = self.score(sides[0], self.config.evaluation.episodes, policy=uniform_policy(self.config.evaluation.seed))
        results[f"random policy, {sides[0]}"] = random
        say(table(results), sys.stdout)
        save(self.folder / "scores.json", self.config, frame, results)
        if self.logger:
            row = {f"return_{side}": results[side].mean for side in sides}
            self.logger.scalars(frame, row | self.skills(frame, sides[0]) | self.read(frame, sides[0]), "evaluation")
        return results


def table(results: dict[str, Scores]) -> str:
    """Mean and 95 % interval per background, as text."""
    lines = [f"{'background':<24}{'return':>8}   95 % interval     episodes"]
    for name, scores in results.items():
        low, high = scores.interval()
        lines.append(f"{name:<24}{scores.mean:>8.1f}   [{low:6.1f}, {high:6.1f}]  {len(scores.returns):>8}")
    return "\n".join(lines)


def save(path: Path, config: RunConfig, frame: int, results: dict[str, Scores]) -> None:
    """scores.json: what was played, and every return."""
    rows = {
        name: {"mean": scores.mean, "interval": scores.interval(), "returns": scores.returns}
        for name, scores in results.items()
    }
    head = {"task": config.task, "agent": config.agent, "seed": config.seed, "env_frame": frame}
    head |= {"background": config.background.source, "hardware": system.hardware(), "commit": system.git_commit()}
    write_atomic(path, json.dumps(head | {"scores": rows}, indent=1).encode())


def save_readings(path: Path, frame: int, readings: dict[str, dict[str, float]]) -> None:
    """latent.json: background -> what the latent holds, see probes.py."""
    write_atomic(path, json.dumps({"env_frame": frame, "readings": readings}, indent=1).encode())


def reading_table(reading: dict[str, float]) -> str:
    """What a latent holds, as text: state and background, each by R2 of two probes and in nats by two estimators."""
    columns = {
        "linear R2": "linear/{}",
        "network R2": "network/{}",
        "nats (knn)": "nats/knn",
        "nats (diffusion)": "nats/diffusion",
    }
    lines = [f"  {'':<12}" + "".join(f"{head:>18}" for head in columns)]
    for side, mean in (("state", "mean"), ("background", "pixels")):
        cells = [reading.get(f"{side}/{key.format(mean)}") for key in columns.values()]
        if cells[0] is not None:
            lines.append(f"  {side:<12}" + "".join(f"{cell:>18.2f}" for cell in cells))
    shown = {"/mean", "/pixels", "/knn", "/diffusion"}
    rest = [key for key in reading if not any(key.endswith(end) for end in shown)]
    return "\n".join([*lines, *(f"  {key:<36}{reading[key]:6.2f}" for key in rest)])
