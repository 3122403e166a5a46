"""Train an agent.

``python train.py --help`` lists every option; the same command on the same folder resumes.
"""

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    # Ctrl-C in the seconds of imports is no traceback; errors.run_main takes over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    system.prepare_environment()  # before torch is imported

import numpy as np
import torch

from foreground import build, messages, preflight, ranks, records, same, saved
from foreground.agents.optimiser import Divergence
from foreground.configs import run as runs
from foreground.envs import backgrounds
from foreground.errors import UserError, run_main, say
from foreground.evaluation import apart, interrupt, output, report
from foreground.training import board, common, identity, lock, options
from foreground.training.evaluating import Evaluating
from foreground.training.files import remove_abandoned
from foreground.training.logger import Logger
from foreground.training.progress import Progress
from foreground.training.rollout import Rollout, layout_of
from foreground.training.trainer import Trainer


def main(argv: list[str]) -> None:
    ranks.join()
    config, folder = ranks.agreed(lambda: prepare(argv))
    # Which has a handler of Python's own.
    for number in set(system.stop_signals()) - {signal.SIGINT}:
        signal.signal(number, ended)
    device = ranks.agreed(lambda: system.pick_device(config.device))
    torch.set_num_threads(config.threads or torch.get_num_threads())
    ranks.agreed(lambda: system.set_matmul(config.matmul))
    system.git_commit()
    with (
        ranks.agreed(lambda: lock.lock(ranks.folder(folder))) as held,
        system.one_line_without_memory(lambda: str(folder)),
    ):
        same.check_same(config, folder)  # again: another run may have begun and ended there since
        changes = same.check_made(config, folder)
        if not ranks.rank():
            for each in (folder, *(folder / "evaluation").glob("*/")):
                remove_abandoned(each)
        train(config, folder, device, held, changes)


def ended(number: int, _) -> None:
    """Clean up a run that was asked to stop before anything could be saved, processes included."""
    for other in system.stop_signals():
        signal.signal(other, lambda *_: None)  # once is enough
    raise SystemExit(128 + number)


def prepare(argv: list[str]) -> tuple[runs.RunConfig, Path]:
    """Return what is asked for, and where.

    Raises: UserError, before a file is written.
    """
    config = runs.read(argv, torch.cuda.is_available())
    config = replace(
        config, background=backgrounds.resolved(config.background), ranks=ranks_of(config)
    )
    build.check_task(config)
    build.check_agent(config)
    folder = same.same_run(config, build.run_folder(config))
    backgrounds.check_apart(config.background, folder, "--folder")
    same.check_same(config, folder)
    if same.begins_with_another(config, folder):
        saved.find_run(Path(config.init_from))
    build.check_background(config)  # last, since it may have clips to decode
    same.check_made(config, folder)
    return config, folder


def ranks_of(config: runs.RunConfig) -> int:
    """Return the number of ranks.

    Raises: UserError where another number is asked for.
    """
    if config.ranks not in (1, ranks.number()):
        what = f"{config.ranks} ranks are asked for, and {ranks.number()} started"
        raise UserError(
            what,
            "--ranks",
            f"start train.py by torchrun --nproc-per-node {config.ranks}, or leave it out",
        )
    return ranks.number()


def train(
    config: runs.RunConfig, folder: Path, device, held: lock.Lock, changes: identity.Changes
) -> None:
    envs = build.training_environments(config)
    try:
        trainer, evaluator, replay_text = ranks.agreed(
            lambda: assemble(config, folder, device, held, envs)
        )
        sentences = trainer.resume()
        origin = (
            begin_with(trainer.agent, config)
            if config.init_from and trainer.checkpointer.saved is None
            else None
        )
        for sentence in sentences:
            say(f"warning: {sentence}")
        if ranks.rank():
            ranks.agreed(lambda: None)
            work(trainer, common.Unwritten(), common.Unwritten())
        else:
            done = ranks.agreed(
                lambda: records.write(config, folder, trainer.env_frame, changes, origin)
            )
            if not done:
                output.reopen(folder)
            if endless := build.limit_warning(config):
                say(f"warning: {endless}")
            if leak := evaluator.leak():
                say(f"warning: {leak}")
            for line in messages.at_start(
                config, trainer.agent, trainer, replay_text, device, folder
            ):
                say(line, sys.stdout)
            work_aloud(config, trainer, evaluator, folder, done)
        if trainer.stop_signal:
            # So that a script does not take it for done.
            raise SystemExit(128 + trainer.stop_signal)
    finally:
        envs.close()


def assemble(
    config: runs.RunConfig, folder: Path, device, held: lock.Lock, envs
) -> tuple[Trainer, report.Evaluator, str]:
    """Return the trainer of this rank, the evaluator, and what is to be said of the replay.

    The weights are drawn from the run's seed, all else from that of the rank.
    """
    own = replace(config, seed=ranks.seed(config.seed))
    space = envs.single_action_space
    needed = preflight.check_model(config, space, device)
    agent = build.make_agent(config, space, device)
    if ranks.rank():
        torch.manual_seed(own.seed)
    layout = layout_of(envs) | agent.spec.layout
    replay, replay_text = build.make_replay(own, layout, device, needed)
    evaluator = report.Evaluator(config, agent, ranks.folder(folder))
    making = apart.Making(config, space, device, torch.get_num_threads(), folder)
    trainer = Trainer(
        config.training,
        config.total_frames,
        config.environment.action_repeat,
        agent,
        Rollout(envs, agent.initial_state(envs.num_envs), own.seed, layout),
        replay,
        ranks.folder(folder),
        envs.metadata.get("render_fps", 20),
        evaluator.during_training,
        held.check,
        system.provenance(device) | {"renderer": build.renderer()},
        None if ranks.rank() else Evaluating(folder, making),
    )
    return trainer, evaluator, replay_text


def work(trainer: Trainer, logger: Logger, progress: Progress) -> None:
    """Train, with the other ranks if there are any.

    Raises: UserError where the last checkpoint could not be written.
    """
    listen(trainer)
    learn(trainer, logger, progress)
    ranks.leave()
    progress.close()
    if trainer.checkpointer.saved_at != trainer.env_frame:
        remedy = "see to it (make room); the same command continues from the checkpoint before"
        raise UserError(
            f"the last checkpoint could not be written ({trainer.checkpointer.not_saved})",
            str(trainer.folder),
            remedy,
        )


def work_aloud(
    config: runs.RunConfig, trainer: Trainer, evaluator: report.Evaluator, folder: Path, done: bool
) -> None:
    """Train and evaluate, with metrics, progress and results."""
    with Logger(folder, resume_step=trainer.env_frame) as logger:
        logger.text("config", f"```yaml\n{options.to_yaml(config)}```")
        logger.options(
            {key: options.value_of(config, key) for key in board.OPTIONS},
            skills=config.skill.size > 0,
        )
        evaluator.logger = logger
        progress = Progress(
            max(config.total_frames, trainer.env_frame), trainer.env_frame, config.training.prefill
        )
        began, first = time.monotonic(), (trainer.env_frame, trainer.update)
        work(trainer, logger, progress)
        if not trainer.stop_signal:
            say(messages.at_end(config, trainer, done, first, time.monotonic() - began), sys.stdout)
            finish(evaluator, trainer, progress, folder)
        if trainer.stop_signal:
            say(messages.when_stopped(config, trainer), sys.stdout)


def begin_with(agent, config: runs.RunConfig) -> identity.Origin:
    """Load the weights of another run; say and return their source."""
    loaded = saved.load_pretrained(agent, config)
    other, folder, name = runs.load(loaded.folder), loaded.folder, loaded.path.name
    if not ranks.rank():
        say(
            f"begins with  {other.agent} on {other.task}, "
            f"{folder.name}/{loaded.path.parent.name}/{name}",
            sys.stdout,
        )
    return identity.Origin(str(folder), name, loaded.sha256)


def listen(trainer: Trainer) -> None:
    """Handle the stop signals: training ends with a checkpoint after this step, an evaluation at
    once.

    The handler only sets plain values, since a second signal may arrive while it runs.
    """

    def told(number: int, _) -> None:
        trainer.stop_signal = trainer.stop_signal or number
        interrupt.ask()

    interrupt.ask(False)
    for number in system.stop_signals():
        signal.signal(number, told)


def finish(evaluator: report.Evaluator, trainer: Trainer, progress: Progress, folder: Path) -> None:
    """Run the final evaluation. Everything is saved before, so it may be interrupted."""
    try:
        scores = evaluator.final(trainer.env_frame)[evaluator.fresh_side]
        frame, evaluations = trainer.env_frame, trainer.evaluations
        score = float(np.mean(scores.returns[: evaluator.during]))
        evaluations.offer(frame, evaluations.saved_at(frame), score, progress)
        skills = evaluator.learned()
        if skills:
            say(skills, sys.stdout)
            say(
                f"see them: {messages.skills(folder, evaluator.config.has_goals)}",
                sys.stdout,
            )
        elif evaluations.best.frame is not None:
            say(
                f"best checkpoint: frame {evaluations.best.frame}, return "
                f"{evaluations.best.score:.1f}, {folder / 'best'}",
                sys.stdout,
            )
        say(f"watch it: {messages.tensorboard(folder)}", sys.stdout)
    except interrupt.Interrupted:
        return


def learn(trainer: Trainer, logger: Logger, progress: Progress) -> None:
    """Train; turn known failures into one line and their exit code."""

    def where() -> str:
        return f"frame {trainer.env_frame}, update {trainer.update}"

    try:
        with system.one_line_without_memory(where):
            trainer.run(logger, progress)
    except Divergence as error:
        if ranks.rank():  # it is one on every rank, and rank 0 says so
            raise SystemExit(3) from error
        remedy = (
            "continue from the last checkpoint with a lower --optimiser.model_lr, or the rate of "
            "that module; "
        )
        remedy += (
            "should it end so again, that one was too late: delete it, and the one before is taken"
        )
        raise UserError(str(error), where(), remedy, exit_code=3) from error
    except (BrokenPipeError, EOFError, ConnectionError) as error:
        raise UserError(
            "an environment's process ended", where(), "run the same command again, it resumes", 5
        ) from error


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
