"""All measures of a run's skills on one background, as metrics, table, skills.json and a video of
tiles.
"""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.agents.skills import SkillConfig, Skills
from foreground.configs.run import RunConfig
from foreground.envs import registry
from foreground.errors import UserError
from foreground.evaluation import (
    charts,
    downstream,
    films,
    goals,
    paths,
    progress,
    skills,
    subject,
    tiles,
    verdicts,
)
from foreground.training import system
from foreground.training.files import write_json

TILES = 16


class Shown(NamedTuple):
    """What was measured, and what shows it."""

    row: dict[str, float]
    film: np.ndarray  # uint8 (T, H, W, 3)
    fps: float
    paths: np.ndarray | None  # uint8 (H, W, 3); None where the robot cannot travel


def skill_of(skills: Skills, index: int) -> torch.Tensor:
    """Return the skill of an id, (C,): a one-hot, or one of the measured ones on the sphere.

    Raises: UserError for an id out of range.
    """
    number = number_of(skills)
    if not 0 <= index < number:
        raise UserError(f"there is no skill {index}", "--skill", f"choose 0 to {number - 1}")
    return skills.grid(number)[index]


def number_of(prior: Skills) -> int:
    """Return the number of skills with an id."""
    return prior.size if prior.config.kind == "one_hot" else skills.SKILLS


@contextlib.contextmanager
def looking(agent: WorldModelAgent) -> Generator[None]:
    """Restore torch's random state and the vectors of spectral norms, which change when they are
    used.
    """
    was = agent.training
    agent.eval()
    with system.random_kept(agent.device), torch.no_grad():
        yield
    agent.train(was)


def show(
    config: RunConfig,
    agent: WorldModelAgent,
    folder: Path,
    side: str,
    label: str,
    background=None,
    targets: int = 0,
    number: int = 0,
) -> Shown:
    """Return measures, film and pictures of `number` skills x 3 rollouts of as many steps as
    training holds one, and of the way to each of `targets` goals.

    The film is also skills-LABEL.mp4, its end skills-LABEL.png. Where the robot can travel, the
    paths of all skills are paths-LABEL.png.
    """
    make_env, seed = build.environment_maker(config, side, background), config.evaluation.seed
    make_shown = build.environment_maker(config, side, background, render_size=tiles.SIDE)
    longest = config.environment.time_limit // config.environment.action_repeat
    steps = min(config.skill.duration, longest)
    with looking(agent):
        chosen = agent.skills.grid(number or skills.SKILLS).to(agent.device)
        name = verdicts.side_in_words(label, config.has_clips)
        rollouts = skills.REPEATS * len(chosen)
        ticks = skills.in_steps(rollouts, steps)
        with progress.stage(f"{name}, skills", rollouts, "rollout", ticks):
            filmed = filmed_of(len(chosen))
            record = skills.play(
                agent, make_shown, chosen, skills.REPEATS, steps, seed, filmed.tolist()
            )
        row = skills.measure(record)
        row |= {f"travel/{key}": value for key, value in paths.measure(record).items()}
        if targets and agent.discovery is not None and record.body is not None:
            _, attempts = goals.tried(config, agent, make_env, targets, name)
            row |= {f"goals/{key}": value for key, value in goals.measures(attempts).items()}
    title = f"{config.task}, {name}"
    film = pages_of(record, filmed, config.skill, title)
    fps = record.render_fps
    films.write_both(folder, f"skills-{label}", film, fps)
    if paths.paths_of(record) is None:
        return Shown(row, film, fps, None)
    picture = paths.picture(record, config.skill, 1 / fps, title)
    films.write_picture(folder / f"paths-{label}.png", picture)
    return Shown(row, film, fps, picture)


def best_skill(
    config: RunConfig,
    agent: WorldModelAgent,
    side: str,
    background=None,
    number: int = TILES,
    episodes: int = 3,
) -> dict[str, float]:
    """Return the returns of the best of `number` skills and of all, as shares of the expert's, on
    the run's task.
    """
    # Nobody knows what an expert would reach there.
    if not number or registry.is_gymnasium(config.task):
        return {}
    maker, frames = build.environment_maker(config, side, background), config.environment.time_limit
    rollouts, steps = (number + 1) * episodes, frames // config.environment.action_repeat
    stage = progress.stage(
        f"{verdicts.side_in_words(side, config.has_clips)}, best skill",
        rollouts,
        "rollout",
        skills.in_steps(rollouts, steps),
    )
    with looking(agent), stage:
        _, *scores = downstream.best_skill(agent, maker, number, episodes, config.evaluation.seed)
    best, mean = (downstream.normalised(config.task, score, frames) for score in scores)
    return {
        f"downstream/{config.task}/best_skill": best,
        f"downstream/{config.task}/mean_skill": mean,
    }


def filmed_of(number: int) -> np.ndarray:
    """Return the places of at most 16 of so many skills, evenly chosen."""
    return np.linspace(0, number, min(TILES, number), endpoint=False).astype(int)


def pages_of(
    record: skills.SkillRecord, filmed: np.ndarray, config: SkillConfig, title: str = ""
) -> np.ndarray:
    """Return the film of a record as pages (T, ...), a tile a skill (tiles.pages)."""
    colours = tiles.colours_of(paths.turns_of(record.skill, config))[filmed]
    places = paths.paths_of(record)
    if places is None:
        labels = [f"skill {index}" for index in filmed]
        return np.stack(list(tiles.pages(record.film, labels, colours, title=title)))
    ways = places[filmed, 0]  # (J, T + 1, P)
    labels = [
        f"skill {index}: "
        + ", ".join(f"{axis} {x:+.1f} m" for axis, x in zip("xy", end.round(1) + 0.0))
        for index, end in zip(filmed, ways[:, -1] - ways[:, 0])
    ]
    title = f"{title}; {tiles.scale_in_words(ways)}" if title else ""
    return np.stack(list(tiles.pages(record.film, labels, colours, ways, title=title)))


def gaps(results: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the distractor gap, (clean - video) / clean, of each of GAINS, by background with a
    video.
    """
    clean, gap = results.get("clean", {}), {}
    for name in [
        name for name in results if clean and name != "clean" and not name.startswith("untrained")
    ]:
        keys = [key for key in results[name] if key.startswith(GAINS) and clean.get(key)]
        gap[name] = {key: (clean[key] - results[name][key]) / clean[key] for key in keys}
    return gap


GAINS = (
    "identifiability/nats",
    "identifiability/accuracy",
    "coverage/",
    "goals/hit",
    "goals/end",
    "goals/stay",
    "downstream/",
)


def verdict(name: str, row: dict[str, float], number: int) -> str:
    """Return what `number` skills do on a background."""
    return verdicts.paragraph(name, verdicts.of_skills(row, skills.REPEATS * number))


def text_of(results: dict[str, dict[str, float]], number: int) -> str:
    """Return a verdict a background, then a short table with the gaps. All numbers are in
    skills.json.

    number   skills that were measured, each in `skills.REPEATS` rollouts
    """
    lines = [verdict(name, row, number) for name, row in results.items()]
    tasks = dict.fromkeys(
        key for row in results.values() for key in row if key.endswith("/best_skill")
    )
    best = {f"best skill on {key.split('/')[1]}, share of the expert": key for key in tasks}
    columns = results | {f"gap, {name}": row for name, row in gaps(results).items()}
    return "\n".join([*lines, verdicts.short_table(columns, verdicts.SKILLS | best)])


def save(path: Path, config: RunConfig, frame: int, results: dict[str, dict[str, float]]) -> None:
    """Write skills.json, background -> measures, and the gaps; and skills.png."""
    write_json(path, {"env_frame": frame, "skills": results, "gaps": gaps(results)})
    chart = charts.skills(subject.shown(config, results), subject.title_of(config, frame))
    films.write_picture(path.with_suffix(".png"), chart)
