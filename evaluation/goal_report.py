"""How near a run comes to goal pictures on one background: measures, text, goals.json, film."""

from pathlib import Path

import numpy as np

from foreground import build
from foreground.agents.agent import WorldModelAgent
from foreground.configs.run import RunConfig
from foreground.envs.offers import Simulated, offered
from foreground.errors import UserError
from foreground.evaluation import films, goals, verdicts
from foreground.evaluation.skill_report import looking
from foreground.training import pictures
from foreground.training.files import write_json

FILMED = 6
ENOUGH = 20  # goals, for a verdict


def check(config: RunConfig) -> None:
    """Raise UserError for a task that offers no simulator."""
    env = build.environment_maker(config, "clean")()
    simulated = offered(env, Simulated)
    env.close()
    if simulated is None:
        what = f"{config.task} offers no simulator, from which distances to goals are read"
        raise UserError(what, "--reach", "leave it out")


def show(
    config: RunConfig,
    agent: WorldModelAgent,
    folder: Path,
    side: str,
    label: str,
    background=None,
    number: int = 50,
) -> dict[str, float]:
    """Return the measures of `number` goals (`goals.measures`); write goals-LABEL.mp4 and .png."""
    make_env = build.environment_maker(config, side, background)
    name = verdicts.side_in_words(label, config.has_clips)
    with looking(agent):
        aims, attempts = goals.tried(config, agent, make_env, number, name)
    film = np.stack(list(tiles(aims, attempts, f"{config.task}, {name}")))
    films.write_both(folder, f"goals-{label}", film, attempts.render_fps)
    return goals.measures(attempts)


def tiles(aims: list[goals.Goal], attempts: goals.Attempts, title: str = ""):
    """Return the pages of a film: each goal picture and beside it the robot on its way."""
    panels, labels = [], []
    for index in range(min(FILMED, len(attempts.film))):
        robot = attempts.film[index]
        panels += [np.broadcast_to(aims[index].image, robot.shape), robot]
        nearest = verdicts.number(attempts.distance[index].min(), ".1f")
        labels += [f"goal {index}", f"within {nearest} bins"]
    return pictures.pages(panels, labels, 4, title, side=pictures.GIF)


SHOWN = {
    "goals hit within 1 bin": "hit_1",
    "  held at the end": "end_1",
    "  share of steps there": "stay_1",
    "goals hit within 3 bins": "hit_3",
    "  held at the end ": "end_3",
    "  share of steps there ": "stay_3",
    "nearest, in bins": "distance",
    "other goals hit within 1 bin": "other_hit_1",
    "  at the end": "other_end_1",
    "other goals hit within 3 bins": "other_hit_3",
    "  at the end ": "other_end_3",
}


def verdict(name: str, row: dict[str, float], number: int) -> str:
    """Return what an agent does with `number` goal pictures on a background."""
    sentences = verdicts.too_few(number, ENOUGH, "goals", f"--goals {ENOUGH}")
    hit, end = (verdicts.number(row[key], ".0%") for key in ("hit_1", "end_1"))
    nearest = verdicts.number(row["distance"], ".1f")
    sentences.append(
        f"{hit} of the goals are hit within one bin, and {end} are held at the end "
        f"(at most 100%); it comes within {nearest} bins on average (at best 0)"
    )
    if "other_hit_1" in row:
        hit, end = (verdicts.number(row[f"other_{key}"], ".0%") for key in ("hit_1", "end_1"))
        sentences.append(
            f"by chance: {hit} and {end}, measured from the same moves to goals that the robot was "
            "not sent to"
        )
    if row["same_clip"]:
        share = verdicts.number(row["same_clip"], ".0%")
        sentences.append(f"the clip of the goal plays behind the robot for {share} of them")
    return verdicts.paragraph(name, sentences)


def text_of(results: dict[str, dict[str, float]], number: int) -> str:
    """Return a verdict a background, then a table."""
    lines = [verdict(name, row, number) for name, row in results.items()]
    return "\n".join([*lines, verdicts.short_table(results, SHOWN)])


def save(path: Path, frame: int, results: dict[str, dict[str, float]], number: int) -> None:
    """Write goals.json, background -> measures."""
    write_json(path, {"env_frame": frame, "number": number, "goals": results})
