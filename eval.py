"""Evaluate a run: ``python eval.py RUN --episodes 10 --background heldout``. RUN is a run folder or
a checkpoint in it.

Plays whole episodes with the deterministic policy. Writes RUN/evaluation/NAME/, where NAME says
what is evaluated: scores.json, a film of each background as mp4, and the observation beside what
the latent keeps, as mp4 and PNG.

--latent       what can be read from the latent: latent.json
--skills       what the skills do: skills.json
--plan         planning over the skills
--games        every game of a family under every mode: games.json
--adapt GAME   how returns there rise by a few steps of learning: adaptation.json
"""

import os
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    # Ctrl-C in the seconds of imports is no traceback; errors.run_main takes over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    system.prepare_environment()  # before torch is imported

import torch

from foreground import build, saved
from foreground.agents.agent import WorldModelAgent
from foreground.agents.optimiser import Divergence
from foreground.agents.skills import Skills
from foreground.configs import run as runs
from foreground.envs import backgrounds, registry
from foreground.envs.families import Game
from foreground.errors import UserError, run_main, say
from foreground.evaluation import (
    clips,
    downstream,
    game_report,
    output,
    probes,
    progress,
    report,
    skill_report,
)
from foreground.evaluation.subject import Subject
from foreground.option import config_class, option
from foreground.training import checkpoint, options
from foreground.training.option_help import Manual
from foreground.training.values import shown

LATENT = "with --latent", lambda config: config.latent
SKILLS = "with --skills", lambda config: config.skills
PLAN = "with --plan", lambda config: config.plan
ADAPT = "with --adapt", lambda config: config.adapt
META = "with --adapt and --meta", lambda config: config.adapt and config.meta != "none"


@config_class
class EvalConfig:
    """Foreground: evaluate a run, with the deterministic policy."""

    run: str = option(help="Run folder, or one checkpoint folder in it.", path=True)
    episodes: int = option(10, "Episodes per background.", ge=1)
    background: tuple[str, ...] = option(
        ("heldout",),
        "What plays behind the robot: clean, train, heldout, or a path to other videos "
        "(its held-out side); several "
        r"with commas between, and \, for a comma in a path.",
        path=True,
    )
    all_clips: bool = option(
        False, "Of a path play all clips, whatever their side; of one file, that one."
    )
    output: str = option(
        "",
        "Folder of the results; without it RUN/evaluation/NAME, where NAME says "
        "checkpoint, task, background and what is "
        "measured. An earlier evaluation in the same folder stays until this one is "
        "complete, and is then replaced.",
        path=True,
    )
    accept_changes: bool = option(
        False,
        "Score with the run's clips as they are now, although they are not those that it "
        "was trained with.",
    )
    seed: int = option(1000, "Seed of the first episode.", ge=0, le=2**31 - 1)
    random: bool = option(
        False,
        "Play the random policy, too, and with --skills the untrained agent: the floor "
        "that a score is held against.",
    )
    latent: bool = option(
        False, "Also fit probes: what of the simulator's state and of the clip the latent holds."
    )
    latent_episodes: int = option(
        64,
        "Episodes for the probes, half to fit, half to score; few find too little.",
        ge=4,
        read_if=LATENT,
    )
    latent_actors: tuple[str, ...] = option(
        (),
        "Runs whose policies move the robot in these episodes, with commas between; none: "
        "RUN's own. The same list for "
        "several runs makes their latents comparable: each reads the same episodes.",
        path=True,
        read_if=LATENT,
    )
    task: str = option("", "Play another task of the same body; without it the run's own.")
    skill: int = option(-1, "Play one skill by its id, throughout; -1: as they are drawn.", ge=-1)
    skills: bool = option(
        False,
        "Also measure the skills: identifiability, coverage, goals, the best one's return, "
        "gaps between backgrounds.",
    )
    skill_number: int = option(
        48, "Skills that are measured; 3 rollouts each.", ge=2, read_if=SKILLS
    )
    best_of: int = option(
        16, "Skills of which the best is looked for on the task; 0: none.", ge=0, read_if=SKILLS
    )
    goals: int = option(50, "Goals that skills are sent to; 0: none.", ge=0, read_if=SKILLS)
    plan: bool = option(
        False, "Also play by planning over skills: no policy is learned, a reward head is fitted."
    )
    plan_episodes: int = option(
        8, "Episodes with random skills that this reward head is fitted on.", ge=1, read_if=PLAN
    )
    games: bool = option(
        False, "Also play every game of the run's family, held-out ones too, under every mode."
    )
    adapt: str = option(
        "",
        "Adapt to a game: a name, or numbers that describe it, like speed=3 or mass=0.6,gain=1.2.",
    )
    steps: tuple[int, ...] = option(
        (0, 1, 5, 10, 50), "Steps of adaptation after which it is played.", ge=0, read_if=ADAPT
    )
    adapt_frames: int = option(
        4000, "Env frames of the game that these steps learn from.", ge=0, read_if=ADAPT
    )
    adapt_scope: str = option(
        "relation",
        "What adaptation moves: relation and modes, or the whole actor.",
        choices=("relation", "actor"),
        read_if=ADAPT,
    )
    adapt_rate: float = option(
        1e-3, "Learning rate of a step of adaptation.", gt=0.0, read_if=ADAPT
    )
    meta: str = option(
        "none",
        "How to choose where adaptation begins, on the run's own games.",
        choices=("none", "reptile", "fomaml"),
        read_if=ADAPT,
    )
    meta_rounds: int = option(30, "Rounds of that choice.", ge=1, read_if=META)
    device: str = option("auto", "Where to run the networks.", choices=("auto", "cpu", "cuda"))
    threads: int = option(
        0, "Threads of torch on the CPU; 0: one for each core, as in train.py.", ge=0, le=4096
    )


MANUAL = Manual(
    usage="python eval.py RUN",
    elsewhere={"config": "leave it out: the options of RUN are in its config.yaml"},
)


def main(argv: list[str]) -> None:
    config = options.parse(EvalConfig, argv, None, "run", EvalConfig.__doc__, manual=MANUAL)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    folder = saved.run_of(Path(config.run))
    own = runs.load(folder)
    run_config = in_task(
        replace(own, evaluation=replace(own.evaluation, seed=config.seed)), config.task
    )
    if len(set(config.background)) < len(config.background):
        what = f"a background is named twice: {','.join(config.background)}"
        raise UserError(what, "--background", "name each once")
    check_skills(config, run_config)  # what is refused is refused before a clip is decoded
    game, device = game_of(config, run_config), system.pick_device(config.device)
    for run in config.latent_actors:
        check_actor(run, run_config)
    clips.look_at(config.background, run_config, config.all_clips)
    changed = clips.check_own(config.background, run_config, folder, config.accept_changes)
    with system.one_line_without_memory(lambda: str(folder)):
        # After the clips: a run that trains meanwhile deletes old checkpoints.
        loaded = saved.load_run(Path(config.run))
        agent, frame = load(run_config, loaded, device)
        actors = [load_actor(run, device) for run in config.latent_actors]
        place = (
            Path(config.output)
            if config.output
            else place_of(config, own, folder, loaded.path.name, bool(changed))
        )
        backgrounds.check_apart(run_config.background, place, "--output")
        with output.opened(place) as out:
            subject, results = clips.subject_of(run_config, loaded, folder), {}

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
            tell(report.verdict(results))
            tell(report.table(results, subject))
            if readings:
                text = report.latent_text(readings, config.latent_episodes)
                tell(f"what the latent holds (all of it: latent.json):\n{text}")
            measure(config, run_config, agent, loaded, game, out.folder)
            out.save(complete=True)
    tell(f"written: {place}")


# Options that a folder's name says in another way, or that change no result.
NAMED = {
    "run",
    "output",
    "background",
    "all_clips",
    "task",
    "skill",
    "adapt",
    "accept_changes",
    "device",
    "threads",
}
KINDS = ("random", "latent", "skills", "plan", "games")


def chosen(config: EvalConfig) -> dict:
    """Return the options of an evaluation that are not in its name's first words, episodes and seed
    always.
    """
    asked = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.name not in (*NAMED, *KINDS)
    }
    asked["latent_actors"] = tuple(map(os.path.abspath, config.latent_actors))
    defaults = {field.name: field.default for field in fields(config)}
    return {
        name: value
        for name, value in asked.items()
        if name in ("episodes", "seed") or value != defaults[name]
    }


def place_of(
    config: EvalConfig, own: runs.RunConfig, folder: Path, checkpoint_name: str, changed: bool
) -> Path:
    """Return the folder of this evaluation: one that may have another result has another one.

    changed   whether it is accepted that clips are not the run's
    """
    sums = clips.sums_of(config.background, own, config.all_clips, changed)
    sides = [
        side if side in clips.SIDES else Path(os.path.abspath(side)).name
        for side in config.background
    ]
    kinds = (
        ["all_clips"] * config.all_clips
        + [kind for kind in KINDS if getattr(config, kind)]
        + ["changed"] * changed
    )
    kinds += [f"skill={config.skill}"] * (config.skill >= 0) + [f"adapt={config.adapt}"] * bool(
        config.adapt
    )
    ordinary = {"episodes": EvalConfig.episodes, "seed": EvalConfig.seed}
    kinds += [
        f"{name}={shown(value)}"
        for name, value in chosen(config).items()
        if value != ordinary.get(name)
    ]
    task = config.task if registry.canonical(config.task) != own.task else ""
    exact = [name + sums.get(side, "") for name, side in zip(sides, config.background)]
    ways = [[checkpoint_name, task, "+".join(each), *kinds] for each in (sides, exact)]
    return output.place_of(folder, *ways)


def measure(
    config: EvalConfig,
    run_config: runs.RunConfig,
    agent: WorldModelAgent,
    loaded: saved.Loaded,
    game: Game | None,
    place: Path,
):
    """Measure what is asked for beside the scores: skills, games, adaptation to a game."""
    frame = frame_of(loaded.state, run_config)
    if config.skills:
        measure_skills(config, run_config, agent, frame, place)
    if config.games:
        measure_games(config, run_config, agent, frame, place)
    if game:
        try:
            adapt(config, run_config, loaded, agent.device, game, place)
        except Divergence as error:
            raise UserError(str(error), "--adapt", "lower --adapt_rate", exit_code=3) from error


def tell(text: str) -> None:
    """Print a text. Ignore a closed reader: what was measured is stored anyway."""
    say(text, sys.stdout)


def load(run_config: runs.RunConfig, loaded: saved.Loaded, device) -> tuple[WorldModelAgent, int]:
    """Return a new agent with what a checkpoint holds, and the env frame that it was kept at."""
    plain = replace(run_config, compile="false")  # nothing here is called often enough
    agent, state = build.make_agent(plain, build.action_space(run_config), device), loaded.state
    with checkpoint.fits(loaded.path):
        agent.load_training_state(state["agent"], optimisers=False)
        return agent, frame_of(state, run_config)


def frame_of(state: dict, run_config: runs.RunConfig) -> int:
    """Return the env frame that a checkpoint was kept at."""
    return int(state["clocks"]["agent_step"]) * run_config.environment.action_repeat


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
    return load(runs.load(loaded.folder), loaded, device)[0]


def evaluate(
    config: EvalConfig,
    run_config: runs.RunConfig,
    agent: WorldModelAgent,
    actors: list[WorldModelAgent],
    frame: int,
    out: output.Output,
    subject: Subject,
    results: dict,
) -> dict:
    """Fill `results` with scores by background, saved after each.

    Return, when asked, what the latent holds.
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
            report.save_readings(
                place / "latent.json", frame, readings, report.title_of(run_config, frame)
            )
        if expected:
            with progress.stage(f"{name}, planned", config.episodes):
                results[f"planned, {name}"] = downstream.planned(
                    agent, make_env, expected, config.episodes, config.seed
                )
        out.save()
    return readings


def label_of(config: EvalConfig, background: str) -> str:
    """Return a name for files: two folders of clips may have the same name."""
    return (
        background
        if background in clips.SIDES
        else f"{config.background.index(background)}-{Path(background).name}"
    )


def reward_of(config: EvalConfig, run_config: runs.RunConfig, agent: WorldModelAgent):
    """Return the reward for planning: the run's own head on its own task, otherwise one fitted on
    its training clips.
    """
    if agent.world_model.rewarded and not config.task:
        return agent.world_model.reward
    side = "clean" if run_config.background.source == "none" else "train"
    make_env = build.environment_maker(run_config, side)
    with progress.stage("episodes for the reward head", config.plan_episodes):
        return downstream.fit_reward(agent, make_env, config.plan_episodes, config.seed + 5000)


def measure_skills(
    config: EvalConfig, run_config: runs.RunConfig, agent: WorldModelAgent, frame: int, place: Path
) -> None:
    """Print the table of measures by background, and write skills.json."""
    results = {}

    def take(name: str, which: WorldModelAgent, background: str, label: str) -> None:
        side, source = clips.side_of(background, run_config, config.all_clips)
        row, *_ = skill_report.show(
            run_config, which, place, side, label, source, config.goals, config.skill_number
        )
        results[name] = row | skill_report.best_skill(
            run_config, which, side, source, config.best_of
        )
        skill_report.save(place / "skills.json", frame, results, report.title_of(run_config, frame))

    for name in config.background:
        take(name, agent, name, label_of(config, name))
    if config.random:
        untrained = build.make_agent(run_config, build.action_space(run_config), agent.device)
        take(f"untrained, {config.background[0]}", untrained, config.background[0], "untrained")
    tell(
        "what the skills do (all of it: "
        f"skills.json):\n{skill_report.text_of(results, config.skill_number)}"
    )


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


def measure_games(
    config: EvalConfig, run_config: runs.RunConfig, agent, frame: int, place: Path
) -> None:
    """Print the table of games and modes by background, and write games.json."""
    results = {}
    for name in config.background:
        side, source = clips.side_of(name, run_config, config.all_clips)
        results[name] = game_report.table_of(run_config, agent, side, source, config.episodes)
        game_report.save(
            place / "games.json", frame, "games", results, report.title_of(run_config, frame)
        )
        tell(game_report.text_of(name, results[name], run_config.modes.num_modes, config.episodes))


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
        agent, frame = load(run_config, loaded, device)
        played = clips.side_of(name, run_config, config.all_clips)
        results[name] = game_report.adapt(
            run_config, agent, loaded, game, *played, *how, config.episodes
        )
        game_report.save(
            place / "adaptation.json",
            frame,
            "adaptation",
            results,
            report.title_of(run_config, frame),
        )
        tell(f"{name}: {game_report.adaptation_text(results[name])}")


def check_skills(config: EvalConfig, run_config: runs.RunConfig) -> None:
    """Raise UserError when an option needs skills and the run has none."""
    skills = Skills(run_config.skill)
    for name, asked in (
        ("skills", config.skills),
        ("skill", config.skill >= 0),
        ("plan", config.plan),
    ):
        if asked and not skills.size:
            raise UserError(
                "the run has no skills", f"--{name}", "choose a run of slim, metra or diayn"
            )
    if config.skill >= 0:
        skill_report.skill_of(skills, config.skill)


def in_task(run_config: runs.RunConfig, task: str) -> runs.RunConfig:
    """Return the run's config in another task.

    Raises: UserError for another body, or other actions.
    """
    task = registry.canonical(task)
    if not task or task == run_config.task:
        return run_config
    other = replace(run_config, task=task)
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
