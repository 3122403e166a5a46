"""What eval.py measures in addition to scores: protocols, skills, goals, games, adaptation."""

import sys
from pathlib import Path

from foreground import build, saved
from foreground.agents.agent import WorldModelAgent
from foreground.agents.optimiser import Divergence
from foreground.agents.skills import Skills
from foreground.configs import run as runs
from foreground.envs.families import Game
from foreground.errors import UserError, say
from foreground.evaluation import (
    clips,
    game_report,
    goal_report,
    protocols,
    report,
    skill_report,
)
from foreground.evaluation.config import EvalConfig
from foreground.evaluation.place import label_of


def check_skills(config: EvalConfig, run_config: runs.RunConfig) -> None:
    """Raise UserError when an option needs skills or goals and the run has none."""
    skills = Skills(run_config.skill)
    if config.reach and not {"discovery", "goal_map"} & set(run_config.learners):
        raise UserError(
            "the run reaches no goals", "--reach", "choose a run of goal, slim, metra or diayn"
        )
    if config.reach and not config.goals:
        raise UserError("no goals are asked for", "--goals", "choose 1 or more")
    if config.reach:
        goal_report.check(run_config)
    for name, asked in (
        ("skills", config.skills),
        ("skill", config.skill >= 0),
        ("plan", config.plan),
    ):
        if asked and run_config.has_goals:
            what = "the run has goals in place of skills"
            raise UserError(what, f"--{name}", "choose --reach, or a run of slim, metra or diayn")
        if asked and not skills.size:
            raise UserError(
                "the run has no skills", f"--{name}", "choose a run of slim, metra or diayn"
            )
    if config.skill >= 0:
        skill_report.skill_of(skills, config.skill)


def game_of(config: EvalConfig, run_config: runs.RunConfig) -> Game | None:
    """Return the game of --adapt.

    Raises: UserError for one that is not of the family, or for games where there are none.
    """
    if config.games or config.adapt:
        game_report.check(run_config, "games" if config.games else "adapt")
    if not config.adapt:
        return None
    game_report.check_steps(config.steps, config.adapt_frames, run_config)
    return run_config.games.game(config.adapt)


def measure(
    config: EvalConfig,
    run_config: runs.RunConfig,
    agent: WorldModelAgent,
    loaded: saved.Loaded,
    game: Game | None,
    place: Path,
) -> None:
    """Measure what is asked for in addition to the scores."""
    frame = saved.frame_of(loaded.state, run_config)
    if config.protocol != "none":
        protocols.measure(config, run_config, agent, frame, place)
    if config.skills:
        measure_skills(config, run_config, agent, frame, place)
    if config.reach:
        measure_goals(config, run_config, agent, frame, place)
    if config.games:
        measure_games(config, run_config, agent, frame, place)
    if game:
        try:
            adapt(config, run_config, loaded, agent.device, game, place)
        except Divergence as error:
            raise UserError(str(error), "--adapt", "lower --adapt_rate", exit_code=3) from error


def measure_skills(
    config: EvalConfig, run_config: runs.RunConfig, agent: WorldModelAgent, frame: int, place: Path
) -> None:
    """Print the table of measures by background, and write skills.json."""
    results = {}

    def take(name: str, which: WorldModelAgent, background: str, label: str) -> None:
        side, source = clips.side_of(background, run_config, config.all_clips)
        shown = skill_report.show(
            run_config, which, place, side, label, source, config.goals, config.skill_number
        )
        results[name] = shown.row | skill_report.best_skill(
            run_config, which, side, source, config.best_of
        )
        skill_report.save(place / "skills.json", run_config, frame, results)

    for name in config.background:
        take(name, agent, name, label_of(config, name))
    if config.random:
        untrained = build.make_agent(run_config, build.action_space(run_config), agent.device)
        take(f"untrained, {config.background[0]}", untrained, config.background[0], "untrained")
    text = skill_report.text_of(report.shown(run_config, results), config.skill_number)
    say(f"what the skills do (all of it: skills.json):\n{text}", sys.stdout)


def measure_goals(
    config: EvalConfig, run_config: runs.RunConfig, agent: WorldModelAgent, frame: int, place: Path
) -> None:
    """Print the table of goals by background, and write goals.json."""
    results = {}

    def take(name: str, which: WorldModelAgent, background: str, label: str) -> None:
        side, source = clips.side_of(background, run_config, config.all_clips)
        results[name] = goal_report.show(
            run_config, which, place, side, label, source, config.goals
        )
        goal_report.save(place / "goals.json", frame, results, config.goals)

    for name in config.background:
        take(name, agent, name, label_of(config, name))
    if config.random:
        untrained = build.make_agent(run_config, build.action_space(run_config), agent.device)
        take(f"untrained, {config.background[0]}", untrained, config.background[0], "untrained")
    text = goal_report.text_of(report.shown(run_config, results), config.goals)
    say(f"how near it comes to goals (all of it: goals.json):\n{text}", sys.stdout)


def measure_games(
    config: EvalConfig, run_config: runs.RunConfig, agent, frame: int, place: Path
) -> None:
    """Print the table of games and modes by background, and write games.json."""
    results = {}
    for name in config.background:
        side, source = clips.side_of(name, run_config, config.all_clips)
        results[name] = game_report.table_of(run_config, agent, side, source, config.episodes)
        game_report.save(place / "games.json", run_config, frame, "games", results)
        label = label_of(config, name)
        game_report.show(run_config, agent, place, side, label, source, results[name])
        modes, words = run_config.modes.num_modes, report.in_words(run_config, name)
        say(game_report.text_of(words, results[name], modes, config.episodes), sys.stdout)


def adapt(
    config: EvalConfig,
    run_config: runs.RunConfig,
    loaded: saved.Loaded,
    device,
    game: Game,
    place: Path,
) -> None:
    """Print the curve of adaptation by background, each from the trained agent, and write
    adaptation.json.
    """
    results = {}
    how = (
        config.steps,
        config.adapt_frames,
        config.adapt_scope,
        config.adapt_rate,
        config.meta,
        config.meta_rounds,
    )
    for name in config.background:
        agent, frame = saved.load_agent(run_config, loaded, device)
        played = clips.side_of(name, run_config, config.all_clips)
        results[name] = game_report.adapt(
            run_config, agent, loaded, game, *played, *how, config.episodes
        )
        game_report.save(place / "adaptation.json", run_config, frame, "adaptation", results)
        words = report.in_words(run_config, name)
        say(f"{words}: {game_report.adaptation_text(results[name])}", sys.stdout)
