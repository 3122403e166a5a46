"""Measures of a family of games: a table of games and modes (games.json), adaptation to one game
(adaptation.json).
"""

from dataclasses import replace
from pathlib import Path

import torch

from foreground import build, saved
from foreground.agents.adaptation import Adaptation, fit_reward
from foreground.agents.agent import WorldModelAgent
from foreground.configs.run import RunConfig
from foreground.envs.families import Game
from foreground.errors import UserError, say
from foreground.evaluation import (
    charts,
    films,
    game_film,
    games,
    inference,
    progress,
    report,
    skill_report,
    verdicts,
)
from foreground.training import checkpoint
from foreground.training.files import write_json
from foreground.training.replay import Replay

INFORMED = 200  # agent steps of each game on which informations are measured
FIT_STEPS = 100  # updates of the reward's head on frames of a game


def check(config: RunConfig, option: str) -> None:
    """Raise UserError for a run without modes."""
    if not config.modes.num_modes:
        remedy = "choose a run of mra, unimodal or task_conditioned"
        raise UserError(f"the policy of {config.agent} has no modes", f"--{option}", remedy)


def table_of(
    config: RunConfig, agent: WorldModelAgent, side: str, source, episodes: int
) -> dict[str, dict]:
    """Return game -> measures of `modes_in`, for training games and held-out ones."""
    family = config.games
    seed = config.evaluation.seed
    kinds = {game: "train" for game in family.train} | {game: "heldout" for game in family.heldout}
    rows = {}
    # Every mode, then the best and the likeliest once more: of these there may be one.
    plays = config.modes.num_modes + 2 + inference.answers(agent)
    name = verdicts.side_in_words(side, config.has_clips)
    with progress.stage(f"{name}, games", len(kinds) * episodes * plays):
        for game, kind in kinds.items():
            make_env = build.environment_maker(config, side, source, (game,))
            found = games.modes_in(agent, make_env, game, episodes, seed, tuple(kinds))
            found["tried_frames"] = found["tried"] * config.environment.time_limit
            rows[game.name] = {"kind": kind, **found}
    batches = []
    for number, game in enumerate(family.train):  # as many frames of each
        make_env = build.environment_maker(config, side, source, (game,))
        replay = games.gather(agent, make_env, INFORMED, seed + 6000 + number)
        batches.append(replay.sample(8, min(config.training.batch_length, INFORMED)))
    joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    return rows | {"information": games.information(agent, joined)}


def text_of(side: str, rows: dict[str, dict], modes: int, episodes: int) -> str:
    """Return the verdict, then a line a game. All numbers are in games.json."""
    lines = [verdicts.paragraph(side, verdicts.of_games(rows, episodes))]
    columns = {"zero_shot": "zero-shot", "best_of": "best of K", "infer": "inferred"}
    played = {name: row for name, row in rows.items() if name != "information"}
    shown = [key for key in columns if any(key in row for row in played.values())]
    lines += [
        f"{'game':<40}"
        + "".join(f"{f'mode {mode}':>9}" for mode in range(modes))
        + "".join(f"{columns[key]:>11}" for key in shown)
    ]
    for name, row in played.items():
        cells = "".join(f"{row[f'mode_{mode}']:>9.1f}" for mode in range(modes))
        cells += "".join(f"{row[key]:>11.1f}" for key in shown)
        held = " (held out)" if row["kind"] == "heldout" else ""
        lines.append(f"{name + held:<40}{cells}")
    return "\n".join(lines)


def adapt(
    config: RunConfig,
    agent: WorldModelAgent,
    loaded: saved.Loaded,
    game: Game,
    side: str,
    source,
    steps: tuple[int, ...],
    frames: int,
    scope: str,
    rate: float,
    meta: str,
    rounds: int,
    episodes: int,
) -> dict:
    """Collect frames of a game, then take steps on them; return the returns by number of steps.

    `agent` is adapted in place.

    loaded   the checkpoint whose replay is used for meta-learning
    """
    adapting = Adaptation(agent, scope, rate)
    seed = config.evaluation.seed
    torch.manual_seed(seed)
    size = config.training.batch_size, config.training.batch_length
    make_env = build.environment_maker(config, side, source, (game,))
    if meta != "none":
        own = games.batches_of(replay_of(config, loaded), *size)
        games.begin(adapting, meta, own, rounds, steps=5, rate=0.5 if meta == "reptile" else rate)
    candidates = dict.fromkeys((*config.games.train, *config.games.heldout, game))
    tried = games.modes_in(agent, make_env, game, episodes, seed, tuple(candidates))
    batches = iter(())
    if max(steps):
        there = build.environment_maker(config, config.training_side, None, (game,))
        replay = games.gather(agent, there, frames // config.environment.action_repeat, seed + 7000)
        batches = games.batches_of(replay, *size)
        fit_reward(agent, batches, FIT_STEPS, config.optimiser.model_lr)
    returns = games.curve(adapting, make_env, game, batches, steps, episodes, seed + episodes)
    tries = tried["tried"] * config.environment.time_limit
    head = {"game": game.name, "scope": scope, "rate": rate, "meta": meta, "episodes": episodes}
    head |= {"frames": frames if max(steps) else 0}
    head |= {"returns": {step: float(found.mean()) for step, found in returns.items()}}
    head |= {"intervals": {step: games.interval_of(found) for step, found in returns.items()}}
    head |= {key: value for key, value in tried.items() if key.startswith(("best_of", "infer"))}
    head |= {"infer_frames": config.environment.time_limit} if "infer" in tried else {}
    return head | {"best_of_frames": tries}


def replay_of(config: RunConfig, loaded: saved.Loaded) -> Replay:
    """Return the replay of the run, which draws uniformly, and report lost rows.

    Raises: UserError when too few rows are left for a sequence.
    """
    config = replace(config, training=replace(config.training, recent_steps=0))
    replay, _ = build.make_replay(config, build.layout_of(config), "cpu")
    state = loaded.state
    folder = loaded.folder / "replay"
    with checkpoint.fits(loaded.path):
        sentences = replay.load(
            folder, state["replay"]["manifest"], state["replay"]["tail"], salvage=True
        )
    for sentence in sentences:
        say(f"warning: {sentence}")
    if not replay.can_sample(config.training.batch_length):
        what = (
            f"the run's replay holds no {config.training.batch_length} steps in a row to "
            "choose a beginning from"
        )
        raise UserError(what, str(folder), "leave --meta out, or train longer")
    return replay


def check_steps(steps: tuple[int, ...], frames: int, config: RunConfig) -> None:
    """Raise UserError when steps are asked for without frames to take them on."""
    needed = config.training.batch_length * config.environment.action_repeat
    if any(step < 0 for step in steps) or not steps:
        raise UserError("there are no steps", "--steps", "name numbers of steps, like 0,1,5,10,50")
    if max(steps) and frames < needed:
        what = f"{max(steps)} steps on {frames} frames of the game: a sequence is {needed} frames"
        raise UserError(what, "--adapt_frames", f"choose {needed} or more, or --steps 0")


DRAWN = {"games": charts.games, "adaptation": charts.adaptation}


def save(path: Path, config: RunConfig, frame: int, key: str, rows: dict) -> None:
    """Write the rows of each background as JSON and, next to it, as a picture.

    key   one of `DRAWN`
    """
    write_json(path, {"env_frame": frame, key: rows})
    chart = DRAWN[key](report.shown(config, rows), report.title_of(config, frame))
    films.write_picture(path.with_suffix(".png"), chart)


def show(
    config: RunConfig,
    agent: WorldModelAgent,
    folder: Path,
    side: str,
    label: str,
    source,
    rows: dict[str, dict],
) -> None:
    """Write the film of every game under every mode, games-LABEL.mp4, and its end as PNG."""
    title = f"{config.task}, {verdicts.side_in_words(label, config.has_clips)}"
    with skill_report.looking(agent):
        film, fps = game_film.pages(config, agent, side, source, rows, title)
    films.write_both(folder, f"games-{label}", film, fps)


def adaptation_text(row: dict) -> str:
    """Return the verdict, then the curve as a line."""
    curve = ", ".join(f"{steps}: {value:.1f}" for steps, value in row["returns"].items())
    verdict = "\n  ".join(verdicts.of_adaptation(row))
    return f"{verdict}\n  {row['scope']} adapted, return after so many steps: {curve}"
