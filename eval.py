"""Evaluate a run: ``python eval.py RUN --episodes 10 --background heldout``. RUN is a run folder or
a checkpoint in it.

Plays whole episodes with the deterministic policy. Writes RUN/evaluation/NAME/, where NAME says
what is evaluated: scores.json, a film of each background as mp4, and the observation beside what
the latent keeps, as mp4 and PNG.

--latent       what can be read from the latent: latent.json
--skills       what the skills do: skills.json
--reach        how near it comes to goal pictures: goals.json
--plan         planning over the skills
--protocol     protocols of distraction, kinds by severities: protocol.json, protocol.png
--games        every game of a family under every mode: games.json
--adapt GAME   how returns there rise by a few steps of learning: adaptation.json
"""

import signal
import sys
from dataclasses import replace
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    # Ctrl-C in the seconds of imports is no traceback; errors.run_main takes over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    system.prepare_environment()  # before torch is imported

import torch

from foreground import build, saved
from foreground.agents.agent import WorldModelAgent
from foreground.configs import run as runs
from foreground.envs import backgrounds, registry
from foreground.envs.distraction import in_words
from foreground.envs.families import Game
from foreground.envs.tasks import ANY_WAY_UP
from foreground.errors import UserError, run_main, say
from foreground.evaluation import (
    clips,
    downstream,
    measures,
    output,
    probes,
    progress,
    protocols,
    report,
    skill_report,
)
from foreground.evaluation.config import EvalConfig
from foreground.evaluation.episodes import Scores
from foreground.evaluation.place import chosen, label_of, place_of
from foreground.evaluation.subject import Subject
from foreground.training import options
from foreground.training.option_help import Manual

MANUAL = Manual(
    usage="python eval.py RUN",
    elsewhere={"config": "leave it out: the options of RUN are in its config.yaml"},
)


def main(argv: list[str]) -> None:
    config = options.parse(EvalConfig, argv, None, "run", EvalConfig.__doc__, manual=MANUAL)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    folder = saved.run_of(Path(config.run))
    own = runs.load(folder)
    config = replace(config, background=clips.named(config.background, own))
    run_config = in_task(
        replace(own, evaluation=replace(own.evaluation, seed=config.seed)), config.task
    )
    game = check(config, run_config)
    device = system.pick_device(config.device)
    clips.look_at(config.background, run_config, config.all_clips)
    changed = clips.check_own(config.background, run_config, folder, config.accept_changes)
    with system.one_line_without_memory(lambda: str(folder)):
        # After the clips: a run that trains meanwhile deletes old checkpoints.
        loaded = saved.load_run(Path(config.run))
        agent, frame = saved.load_agent(run_config, loaded, device)
        actors = [load_actor(run, device) for run in config.latent_actors]
        place = (
            Path(config.output)
            if config.output
            else place_of(config, own, folder, loaded.path.name, bool(changed))
        )
        backgrounds.check_apart(run_config.background, place, "--output")
        with output.opened(place) as out:
            subject = clips.subject_of(run_config, loaded, folder)
            results: dict[str, Scores] = {}

            def write(names: list[str], complete: bool) -> None:
                more = {
                    "options": chosen(config),
                    "files": names,
                    "complete": complete,
                    "changed": changed,
                }
                report.save(out.folder / output.SCORES, run_config, frame, results, subject, **more)

            out.tell_of_earlier()
            out.begin(write)
            readings = evaluate(config, run_config, agent, actors, frame, out, subject, results)
            tell(f"{run_config.agent} on {run_config.task}, frame {frame}, {loaded.path.name}")
            tell(report.verdict(run_config, results))
            tell(report.table(results, subject))
            if readings:
                text = report.latent_text(run_config, readings, config.latent_episodes)
                tell(f"what the latent holds (all of it: latent.json):\n{text}")
            measures.measure(config, run_config, agent, loaded, game, out.folder)
            out.save(complete=True)
    tell(f"written: {place}")


def check(config: EvalConfig, run_config: runs.RunConfig) -> Game | None:
    """Refuse what cannot be evaluated, before a clip is decoded. Return the game of --adapt.

    Raises: UserError.
    """
    if len(set(config.background)) < len(config.background):
        what = f"a background is named twice: {','.join(config.background)}"
        raise UserError(what, "--background", "name each once")
    protocols.check(config, run_config)
    measures.check_skills(config, run_config)
    game = measures.game_of(config, run_config)
    for run in config.latent_actors:
        check_actor(run, run_config)
    return game


def tell(text: str) -> None:
    """Print a text on stdout."""
    say(text, sys.stdout)


def check_actor(run: str, run_config: runs.RunConfig) -> None:
    """Raise UserError for another run that sees or does other things than the run that is read."""
    other = runs.load(saved.run_of(Path(run)))
    for key in ("task", "environment.image_size", "environment.action_repeat"):
        here, there = options.value_of(run_config, key), options.value_of(other, key)
        if here != there:
            what = f"{key} is {there} there and {here} in the run that is read"
            raise UserError(what, f"--latent_actors: {run}", "name runs of one task and one camera")


def load_actor(run: str, device) -> WorldModelAgent:
    """Return the agent of another run.

    Raises: UserError when its observations or actions differ from those of the run that is read.
    """
    loaded = saved.load_run(Path(run))
    return saved.load_agent(runs.load(loaded.folder), loaded, device)[0]


def evaluate(
    config: EvalConfig,
    run_config: runs.RunConfig,
    agent: WorldModelAgent,
    actors: list[WorldModelAgent],
    frame: int,
    out: output.Output,
    subject: Subject,
    results: dict[str, Scores],
) -> dict:
    """Fill `results` with scores by background, saved after each.

    Return what the latent holds, where --latent asks for it.
    """
    place = out.folder
    evaluator = report.Evaluator(run_config, agent, place)
    skill = skill_report.skill_of(agent.skills, config.skill) if config.skill >= 0 else None
    expected = reward_of(config, run_config, agent) if config.plan else None
    readings = {}
    for name in config.background:
        side, source = clips.side_of(name, run_config, config.all_clips)
        warning = subject.plays(name, run_config, side, source)
        if text := subject.text(name):
            tell(f"{name} plays {text}")
        if side != "clean" and (words := in_words(run_config.distraction)):
            tell(f"{name} has the run's distractions: {words}")
        if warning:
            say(f"warning: {warning}")
        results[name] = evaluator.show(
            frame, side, label_of(config, name), config.episodes, source, skill
        )
        if config.random:
            policy = report.uniform_policy(config.seed)
            results[f"random policy, {name}"] = evaluator.score(
                side, config.episodes, source, policy
            )
        make_env = build.environment_maker(run_config, side, source)
        if config.latent:
            readings[name] = probes.inspect(
                agent, make_env, config.latent_episodes, config.seed, actors
            )
            report.save_readings(place / "latent.json", run_config, frame, readings)
        if expected:
            with progress.stage(f"{name}, planned", config.episodes):
                results[f"planned, {name}"] = downstream.planned(
                    agent, make_env, expected, config.episodes, config.seed
                )
        out.save()
    return readings


def reward_of(config: EvalConfig, run_config: runs.RunConfig, agent: WorldModelAgent):
    """Return the reward for planning: the run's own head on its own task, otherwise one fitted on
    its training side.
    """
    if agent.world_model.rewarded and not config.task:
        return agent.world_model.reward
    make_env = build.environment_maker(run_config, run_config.training_side)
    with progress.stage("episodes for the reward head", config.plan_episodes):
        return downstream.fit_reward(agent, make_env, config.plan_episodes, config.seed + 5000)


def in_task(run_config: runs.RunConfig, task: str) -> runs.RunConfig:
    """Return the run's config in another task.

    Raises: UserError for another body, or other actions.
    """
    task = registry.canonical(task)
    if not task or task == run_config.task:
        return run_config
    environment = run_config.environment
    if task not in ANY_WAY_UP:
        environment = replace(environment, start="own")
    other = replace(run_config, task=task, environment=environment)
    build.check_task(other)
    body, here = registry.body_of(run_config.task), registry.body_of(task)
    if body != here:
        raise UserError(
            f"the run's body is {body}, and {task} is of {here}",
            "--task",
            f"choose a task of {body}",
        )
    have, need = (build.action_space(one).shape[0] for one in (run_config, other))
    if have != need:
        raise UserError(
            f"{task} takes {need} actions, and the run gives {have}",
            "--task",
            f"choose {run_config.task}",
        )
    return other


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
