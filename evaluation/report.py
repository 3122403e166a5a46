"""Evaluates an agent on backgrounds: table, scores.json, films."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import build
from agents.agent import Agent
from configs.run import RunConfig
from evaluation.episodes import Scores, play
from training import system
from training.files import write_atomic
from training.rollout import random_policy


def agent_policy(agent: Agent):
    """A maker of the deterministic policy for `play`."""

    def act(memory, image, is_first):
        return agent.act(memory, image, is_first, explore=False)

    return lambda envs: (act, agent.initial_state(envs.num_envs))


def uniform_policy(seed: int):
    """A maker of the random policy for `play`: the floor that every score is held against."""
    return lambda envs: (random_policy(envs, np.random.default_rng(seed)), None)


def write_film(path: Path, frames: np.ndarray, fps: float, scale: int = 4) -> None:
    """frames uint8 (T, H, W, 3) as mp4, enlarged `scale` times."""
    height, width = (side * scale for side in frames.shape[1:3])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        print(f"warning: no film could be written to {path}", file=sys.stderr)
        return
    for frame in frames:
        large = cv2.resize(frame, (width, height), interpolation=cv2.INTER_NEAREST)
        writer.write(np.ascontiguousarray(large[..., ::-1]))
    writer.release()


class Evaluator:
    """Scores an agent on the held-out clips during training, and on every background at the end."""

    def __init__(self, config: RunConfig, agent: Agent, folder: Path):
        self.config, self.agent, self.folder = config, agent, Path(folder)
        self.logger = None

    def score(self, side: str, episodes: int, background=None, policy=None) -> Scores:
        """Play on a side ("clean", "train", "heldout"); the agent's random state is left as it was."""
        maker = build.environment_maker(self.config, side, background)
        with torch.random.fork_rng():
            return play(maker, policy or agent_policy(self.agent), episodes, self.config.evaluation.seed)

    def during_training(self, frame: int) -> dict[str, float]:
        """A few episodes on the held-out side: metrics; the film goes to TensorBoard."""
        side = "clean" if self.config.background.source == "none" else "heldout"
        scores = self.score(side, min(5, self.config.evaluation.episodes))
        self._film(frame, side, scores)
        return {f"return_{side}": scores.mean}

    def final(self, frame: int) -> dict:
        """Every background and the random policy; prints the table, writes scores.json and films."""
        sides = ["clean"] if self.config.background.source == "none" else ["heldout", "train", "clean"]
        results = {}
        for side in sides:
            results[side] = self.score(side, self.config.evaluation.episodes)
            self._film(frame, side, results[side])
        random = self.score(sides[0], self.config.evaluation.episodes, policy=uniform_policy(self.config.evaluation.seed))
        results[f"random policy, {sides[0]}"] = random
        print(table(results))
        save(self.folder / "scores.json", self.config, frame, results)
        if self.logger:
            self.logger.scalars(frame, {f"return_{side}": results[side].mean for side in sides}, "evaluation")
        return results

    def _film(self, frame: int, side: str, scores: Scores) -> None:
        write_film(self.folder / f"{side}.mp4", scores.film, scores.render_fps)
        if self.logger:
            self.logger.video(frame, f"evaluation/{side}", scores.film[:128], scores.render_fps)


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
