"""Evaluate a run: ``python eval.py RUN --episodes 10 --background heldout``. RUN is a run folder or a checkpoint in it.

Plays whole episodes with the deterministic policy and writes RUN/evaluation/: scores.json, an mp4 a background, and the
observation beside what the latent keeps, as mp4 and PNG. With --latent: what can be read from the latent, latent.json.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from training import system

system.prepare_environment()  # before torch is imported

import torch  # noqa: E402

import build  # noqa: E402
from agents.agent import Agent  # noqa: E402
from configs import run as runs  # noqa: E402
from errors import UserError, run_main  # noqa: E402
from evaluation import probes, report  # noqa: E402
from option import option  # noqa: E402
from training import checkpoint, options  # noqa: E402


@dataclass(frozen=True)
class EvalConfig:
    """Foreground: evaluate a run, with the deterministic policy."""

    run: str = option(help="Run folder, or one checkpoint folder in it.")
    episodes: int = option(10, "Episodes per background.", ge=1)
    background: tuple[str, ...] = option(
        ("heldout",),
        "What plays behind the robot: clean, train, heldout, or a path to other videos (its held-out side); several "
        "with commas between.",
    )
    seed: int = option(1000, "Seed of the first episode.", ge=0)
    random: bool = option(False, "Play the random policy, too: the floor that a score is held against.")
    latent: bool = option(False, "Also fit probes: what of the simulator's state and of the clip the latent holds.")
    latent_episodes: int = option(64, "Episodes for the probes, half to fit, half to score; few find too little.", ge=4)
    latent_actors: tuple[str, ...] = option(
        (),
        "Runs whose policies move the robot in these episodes, with commas between; none: RUN's own. The same list for "
        "several runs makes their latents comparable: each reads the same episodes.",
    )
    device: str = option("auto", "Where to run the networks.", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "Threads of torch on the CPU; 0: one for each core.", ge=0)


def main(argv: list[str]) -> None:
    config, _ = options.parse(EvalConfig, argv, runs.PRESETS, positional="run", description=EvalConfig.__doc__)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    folder, path = find(Path(config.run))
    run_config = options.from_dict(runs.RunConfig, options.load_yaml(folder / "config.yaml"), str(folder / "config.yaml"))
    run_config = replace(run_config, evaluation=replace(run_config.evaluation, seed=config.seed))
    for name in config.background:  # a damaged clip is found before the first episode, not after the last
        build.environment_maker(run_config, *side_of(name, run_config))
    device = system.pick_device(config.device)
    with system.one_line_without_memory(lambda: str(folder)):
        agent, frame = load(run_config, path, device)
        actors = [load_actor(run, run_config, device) for run in config.latent_actors]
        output = folder / "evaluation"
        output.mkdir(exist_ok=True)
        results, readings = evaluate(config, run_config, agent, actors, frame, output)
    print(f"{run_config.agent} on {run_config.task}, frame {frame}, {path.name}")
    print(report.table(results))
    report.save(output / "scores.json", run_config, frame, results)
    for name, reading in readings.items():
        print(f"what the latent holds, {name}:\n{report.reading_table(reading)}")
    if readings:
        report.save_readings(output / "latent.json", frame, readings)
    print(f"written: {output}")


def load(run_config: runs.RunConfig, path: Path, device) -> tuple[Agent, int]:
    """The agent of a checkpoint, and the env frame that it was kept at."""
    env = build.environment_maker(run_config, "clean")()
    space = env.action_space
    env.close()
    agent, state = build.make_agent(run_config, space, device), checkpoint.load(path)
    agent.load_training_state(state["agent"], optimisers=False)
    return agent, state["clocks"]["agent_step"] * run_config.environment.action_repeat


def load_actor(run: str, run_config: runs.RunConfig, device) -> Agent:
    """The agent of another run. Errors: UserError when it sees or does other things than the run that is read."""
    folder, path = find(Path(run))
    other = options.from_dict(runs.RunConfig, options.load_yaml(folder / "config.yaml"), str(folder / "config.yaml"))
    for key in ("task", "environment.image_size", "environment.action_repeat"):
        here, there = options.value_of(run_config, key), options.value_of(other, key)
        if here != there:
            what = f"{key} is {there} there and {here} in the run that is read"
            raise UserError(what, f"--latent_actors: {run}", "name runs of one task and one camera")
    return load(other, path, device)[0]


def evaluate(
    config: EvalConfig, run_config: runs.RunConfig, agent: Agent, actors: list[Agent], frame: int, output: Path
) -> tuple[dict, dict]:
    """Scores and, when asked, what the latent holds, by background."""
    evaluator = report.Evaluator(run_config, agent, output)
    results, readings = {}, {}
    for index, name in enumerate(config.background):
        side, source = side_of(name, run_config)
        label = name if source is None else f"{index}-{Path(name).name}"  # two folders may have one name
        results[name] = evaluator.show(frame, side, label, config.episodes, source)
        if config.random:
            policy = report.uniform_policy(config.seed)
            results[f"random policy, {name}"] = evaluator.score(side, config.episodes, source, policy)
        if config.latent:
            make_env = build.environment_maker(run_config, side, source)
            readings[name] = probes.inspect(agent, make_env, config.latent_episodes, config.seed, actors)
    return results, readings


def find(path: Path) -> tuple[Path, Path]:
    """A run folder or a checkpoint folder -> (run folder, checkpoint). Errors: UserError where there is none."""
    path = path.resolve()
    folder = path.parent.parent if (path / "MANIFEST.json").exists() else path
    if not (folder / "config.yaml").is_file():
        raise UserError("this is no run folder", str(path), "give a folder that train.py wrote (it holds config.yaml)")
    if folder != path:
        return folder, path
    newest, sentences = checkpoint.latest(folder / "checkpoints")
    for sentence in sentences:
        print(f"warning: {sentence}", file=sys.stderr)
    if newest is None:
        raise UserError("no checkpoint can be read", str(folder / "checkpoints"), "train longer, or choose another run")
    return folder, newest


def side_of(name: str, config: runs.RunConfig):
    """What --background means -> (side, clips' config or None for the run's own)."""
    if name in ("clean", "train", "heldout"):
        if name != "clean" and config.background.source == "none":
            raise UserError(f"the run has no clips, so no {name} side", "--background", "choose clean, or a path to videos")
        return name, None
    return "heldout", replace(config.background, source=name)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
