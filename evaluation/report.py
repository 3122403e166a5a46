"""Evaluate an agent on backgrounds: verdict, table, scores.json, videos.

Probes and skills are imported where they are used: their libraries would add a third to the
start-up time of train.py.
"""

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch

from foreground import build
from foreground.agents.base import Agent
from foreground.agents.commanders import Fixed
from foreground.configs.run import RunConfig
from foreground.envs.distraction import kinds_of
from foreground.errors import say
from foreground.evaluation import films, interrupt, output, progress, verdicts
from foreground.evaluation.episodes import SIDE_BY_SIDE, Scores, play
from foreground.evaluation.subject import Subject, shown, title_of
from foreground.training import pictures, system
from foreground.training.files import remove_abandoned, write_json
from foreground.training.rollout import random_policy


def agent_policy(
    agent: Agent, kept: list[np.ndarray] | None = None, skill: torch.Tensor | None = None
):
    """Return a maker of the deterministic policy for `play`.

    kept    filled with the decoded image of each step of the first environment, uint8 (H, W, 3)
    skill   (C,), held throughout; none: drawn as in training
    """

    def act(memory, image, is_first):
        held = None if skill is None else Fixed(skill.expand(len(image), -1))
        action, memory = agent.act(memory, image, is_first, explore=False, commander=held)
        if kept is not None and agent.spec.renders:
            # ty: ignore[missing-attribute].
            kept.append(agent.world_model.decode(memory.state.feature[:1])[0].cpu().numpy())
        return action, memory

    return lambda envs: (act, agent.initial_state(envs.num_envs))


IN_TENSORBOARD = 64  # frames of a film that TensorBoard gets


def panels_of(
    film: np.ndarray, kept: list[np.ndarray]
) -> tuple[tuple[np.ndarray, ...], tuple[str, ...]]:
    """Return panels (T, H, W, 3) and their labels: observation, decoded latent, difference; or the
    observation only.

    kept   the decoded image of each frame, or nothing
    """
    length = min(len(film), len(kept))
    if not length:
        return (film,), pictures.LABELS[:1]
    return pictures.latent_panels(film[:length], np.stack(kept[:length])), pictures.LABELS


def averaged(agent: Agent):
    """Return a `with` block in which the agent has its averaged weights, if it keeps them."""
    average = getattr(agent, "average", None)
    return average.applied() if average else contextlib.nullcontext()


def uniform_policy(seed: int):
    """Return a maker of the random policy for `play`, the baseline of every score."""
    return lambda envs: (random_policy(envs, np.random.default_rng(seed)), None)


class Evaluator:
    """Scores an agent on the held-out clips during training, and on every background at the end."""

    def __init__(self, config: RunConfig, agent: Agent, folder: Path):
        self.config, self.agent, self.folder = config, agent, Path(folder)
        self.place = self.folder  # where films and scores are written
        self.logger = None
        self.measured: dict[str, float] = {}  # of the skills, at the last evaluation
        remove_abandoned(self.folder)

    def score(self, side: str, episodes: int, background=None, policy=None) -> Scores:
        """Play on a side ("clean", "train", "heldout"); leave the global random state unchanged."""
        maker = build.environment_maker(self.config, side, background)
        name = Path(background.source).name if background else in_words(self.config, side)
        environment = self.config.environment
        rounds = -(-episodes // min(SIDE_BY_SIDE, episodes))
        steps = rounds * (environment.time_limit // environment.action_repeat + 1)
        watched = progress.stage(name, episodes, "episode", steps)
        with system.random_kept(self.agent.device), averaged(self.agent), watched:
            torch.manual_seed(self.config.evaluation.seed)  # of the skills that are drawn
            return play(
                maker, policy or agent_policy(self.agent), episodes, self.config.evaluation.seed
            )

    def show(
        self,
        frame: int,
        side: str,
        label: str,
        episodes: int,
        background=None,
        skill=None,
        brief=False,
    ) -> Scores:
        """Return the `score`, and write the first episode as videos.

        They are evaluation-LABEL.mp4 and, where the agent has a decoder, latent-LABEL.mp4 and .png.
        TensorBoard gets the first frames.

        brief   one video only, the most informative one: encoding takes as long as some episodes
        """
        kept: list[np.ndarray] = []
        scores = self.score(side, episodes, background, agent_policy(self.agent, kept, skill))
        panels, labels = panels_of(scores.film, kept)
        name = in_words(self.config, label)
        title = f"{self.config.task}, {name}, return {scores.returns[0]:.1f}"
        if kept:
            films.write_strip(self.place / f"latent-{label}.png", panels, title)
            shown = pictures.pages(panels, labels, title=title)
            films.write_film(self.place / f"latent-{label}.mp4", shown, scores.render_fps)
        if not kept or not brief:
            alone = pictures.pages([scores.film], [title])
            films.write_film(self.place / f"evaluation-{label}.mp4", alone, scores.render_fps)
        if self.logger:
            panels = [panel[:IN_TENSORBOARD] for panel in panels]
            shown = pictures.pages(panels, labels, side=pictures.GIF if kept else pictures.FILM)
            self.logger.video(
                frame, f"evaluation/{label}", np.stack(list(shown)), scores.render_fps
            )
        return scores

    def during_training(self, frame: int) -> dict[str, float] | None:
        """Evaluate a few held-out episodes; return metrics, or None when interrupted.

        The video goes to TensorBoard.
        """
        try:
            return self.looked_at(frame, self.fresh_side)
        except interrupt.Interrupted:
            return None

    def looked_at(self, frame: int, side: str) -> dict[str, float]:
        """Return metrics of a few episodes on a side, and write videos."""
        scores = self.show(frame, side, side, self.during, brief=True)
        row = {f"return_{side}": scores.mean} | self.skills(frame, side)
        return row | self.read(frame, side)

    def skills(self, frame: int, side: str) -> dict[str, float]:
        """Return metrics of the skills, where any are learned, and write their video."""
        if not self.learns_skills or not self.config.evaluation.num_skills:
            return {}
        from foreground.evaluation import skill_report

        number = self.config.evaluation.num_skills
        with averaged(self.agent):
            shown = skill_report.show(
                self.config, self.agent, self.place, side, side, number=number
            )
        self.measured = shown.row
        if self.logger:
            self.logger.video(frame, f"skills/{side}", shown.film[:IN_TENSORBOARD], shown.fps)
            if shown.paths is not None:
                self.logger.image(frame, f"skills/{side}/paths", shown.paths)
        return {f"skills/{key}": value for key, value in shown.row.items()}

    @property
    def learns_skills(self) -> bool:
        """Whether this run learns skills."""
        return self.config.learns_skills

    def learned(self) -> str:
        """Return what a run with skills or goals has learned, with a verdict where skills were
        measured; "" for other runs.
        """
        if self.config.has_goals:
            return "learned to reach goals"
        if not self.learns_skills:
            return ""
        skill = self.config.skill
        kinds = {
            "one_hot": f"{skill.size} skills",
            "sphere": f"skills, the directions of a sphere of {skill.size} dimensions",
        }
        text = f"learned {kinds[skill.kind]}"
        if not self.measured:
            return f"{text}; they were not measured"
        from foreground.evaluation import skill_report

        number = self.config.evaluation.num_skills
        name = in_words(self.config, self.fresh_side)
        return f"{text}\n{skill_report.verdict(name, self.measured, number)}"

    @property
    def during(self) -> int:
        """The number of episodes of an evaluation during training."""
        return min(self.config.evaluation.training_episodes, self.config.evaluation.episodes)

    @property
    def fresh_side(self) -> str:
        """The side that the agent has not trained on, where there is one."""
        return self.config.fresh_side

    def read(self, frame: int, side: str) -> dict[str, float]:
        """Return metrics of the latent's probes, where asked for; write latent.json and the
        information plane.
        """
        config = self.config.evaluation
        if not config.latent:
            return {}
        from foreground.evaluation import plane, probes

        with averaged(self.agent):
            reading = probes.inspect(
                self.agent,
                build.environment_maker(self.config, side),
                config.latent_episodes,
                config.seed,
            )
        save_readings(self.place / "latent.json", self.config, frame, {side: reading})
        paths = plane.paths(self.folder / "metrics.jsonl", (frame, reading))
        if paths:
            image = plane.picture(paths, f"{self.config.agent}, {self.config.task}")
            films.write_picture(self.place / "information_plane.png", image)
            if self.logger:
                self.logger.image(frame, "latent/information_plane", image)
        return {f"latent/{key}": value for key, value in probes.summary(reading).items()}

    def final(self, frame: int) -> dict:
        """Evaluate every background and the random policy; print verdict and table, write
        scores.json after each, and videos.
        """
        sides = ["heldout", "train", "clean"] if self.fresh_side == "heldout" else ["clean"]
        if not self.config.has_clips:  # distractions have no sides
            sides = [side for side in sides if side != "train"]
        subject, results = Subject.newest(self.folder), {}

        def write(names: list[str], complete: bool) -> None:
            save(
                self.place / output.SCORES,
                self.config,
                frame,
                results,
                subject,
                files=names,
                complete=complete,
            )

        with self.writing() as out:
            out.begin(write)
            for side in sides:
                results[side] = self.show(frame, side, side, self.config.evaluation.episodes)
                subject.plays(side, self.config, side)
                out.save()
            random = uniform_policy(self.config.evaluation.seed)
            results[f"random policy, {sides[0]}"] = self.score(
                sides[0], self.config.evaluation.episodes, policy=random
            )
            out.save()
            say(self.lead + verdict(self.config, results), sys.stdout)
            say(table(results, subject), sys.stdout)
            if self.logger:
                row = {f"return_{side}": results[side].mean for side in sides}
                self.logger.scalars(
                    frame,
                    row | self.skills(frame, sides[0]) | self.read(frame, sides[0]),
                    "evaluation",
                )
            out.save(complete=True)
        return results

    @contextlib.contextmanager
    def writing(self) -> Generator[output.Output]:
        """Write films and scores as one evaluation within a `with` block."""
        with output.collected(self.folder) as out:
            self.place = out.folder
            try:
                yield out
            finally:
                self.place = self.folder

    @property
    def lead(self) -> str:
        """Return what comes before the returns of an agent that does not learn the task; "" for
        others.
        """
        drawn = "goals" if self.config.has_goals else "skills" if self.learns_skills else ""
        return f"{self.config.task} is not what it learns; with {drawn} drawn at random: " * bool(
            drawn
        )

    def leak(self) -> str:
        """Return a warning where the held-out side has clips that the run was trained on; ""
        otherwise.
        """
        return Subject.newest(self.folder).plays(self.fresh_side, self.config, self.fresh_side)


def in_words(config: RunConfig, name: str) -> str:
    """Return the name of a background of a run in words."""
    return verdicts.side_in_words(name, config.has_clips)


def table(results: dict[str, Scores], subject: Subject | None = None) -> str:
    """Return mean and 95 % interval per background as text; backgrounds that were trained on are
    marked.
    """
    names = {
        name: f"{name} (trained on)" if subject and subject.is_leaked(name) else name
        for name in results
    }
    width = max(24, *(len(name) + 2 for name in names.values()))
    lines = [f"{'background':<{width}}{'return':>8}   95 % interval     episodes"]
    for name, scores in results.items():
        ends = scores.interval()
        interval = f"[{ends[0]:6.1f}, {ends[1]:6.1f}]" if ends else "too few to tell"
        lines.append(
            f"{names[name]:<{width}}{scores.mean:>8.1f}   {interval:<16}  {len(scores.returns):>8}"
        )
    return "\n".join(lines)


def verdict(config: RunConfig, results: dict[str, Scores]) -> str:
    """Return the returns as a sentence, the random policy's beside the first one's."""
    return verdicts.of_returns(
        {name: (each.mean, each.interval()) for name, each in shown(config, results).items()}
    )


def save(
    path: Path, config: RunConfig, frame: int, results: dict[str, Scores], subject: Subject, **more
) -> None:
    """Write scores.json: what was scored, behind which clips, and every return.

    more   other keys of it
    """
    rows = {
        name: {"mean": scores.mean, "interval": scores.interval(), "returns": scores.returns}
        for name, scores in results.items()
    }
    head = {"task": config.task, "agent": config.agent, "seed": config.seed, "env_frame": frame}
    if distractions := kinds_of(config.distraction):
        head["distraction"] = distractions
    head |= {
        "background": config.background.source,
        "hardware": system.hardware(),
        "commit": system.git_commit(),
    }
    write_json(path, head | subject.row(results) | more | {"scores": rows})


def save_readings(
    path: Path, config: RunConfig, frame: int, readings: dict[str, dict[str, float]]
) -> None:
    """Write latent.json, background -> what the latent holds (probes.py), and latent.png."""
    write_json(path, {"env_frame": frame, "readings": readings})
    from foreground.evaluation import charts

    chart = charts.latent(shown(config, readings), title_of(config, frame))
    films.write_picture(path.with_suffix(".png"), chart)


def latent_text(config: RunConfig, readings: dict[str, dict[str, float]], episodes: int) -> str:
    """Return what the latent holds: a verdict a background, then a short table. All numbers are in
    latent.json.

    episodes   of each reading
    """
    named = shown(config, readings)
    lines = [
        verdicts.paragraph(name, verdicts.of_latent(row, episodes)) for name, row in named.items()
    ]
    return "\n".join([*lines, verdicts.short_table(named, verdicts.LATENT)])
