"""A stopped and resumed run ends exactly, bit by bit, like an uninterrupted one."""

import random
import signal
import time
from pathlib import Path

from foreground.configs import run as runs
from foreground.training import checkpoint
from tests.faults import Tries
from tests.faults.runs import begin, good_step, log_of, saving, wait_for
from tests.faults.states import described, differing

AGENTS = runs.AGENTS
FRAMES = 440
CHUNK_ROWS = 64
PLACES = ("a save", "an evaluation", "an episode")


def resume(folder: Path, chance: random.Random) -> Tries:
    """Agent by agent: stop or kill it once or twice, in an episode, a save or an evaluation."""
    straight: dict[str, dict[str, str]] = {}
    number = 0
    cuts = dict.fromkeys(PLACES, 0)
    while True:
        agent = AGENTS[number % len(AGENTS)]
        number += 1
        words = options_of(agent, folder)
        if agent not in straight:
            straight[agent] = ended(folder / f"straight-{agent}", words)
        run = folder / f"cut{number}-{agent}"
        lost = ""
        for turn in range(chance.choice((1, 1, 2))):
            # Each agent is stopped in each place in turn, in as many rounds as there are places.
            wanted = PLACES[(sum(divmod(number - 1, len(AGENTS))) + turn) % len(PLACES)]
            place, said = cut(run, words, wanted, chance)
            cuts[place] += 1
            lost = lost or said
        found = ended(run, words)
        if not lost and found != straight[agent]:
            lost = differing(straight[agent], found)
        if not lost and number % 30 == 0 and not all(cuts.values()):
            lost = f"stopped in {cuts}: not everywhere"
        yield lost and f"{agent}: {lost}"


def options_of(agent: str, folder: Path, *more: str) -> list[str]:
    """Return the options of a short run with clips, several episodes, updates and new skills; then
    more options.

    Agents that start from another run start from one of slim, which is trained in the folder when
    first needed.
    """
    words = [
        "--agent",
        agent,
        "--total_frames",
        str(FRAMES),
        "--training.train_ratio",
        "2",
        "--training.evaluate_every",
        "200",
    ]
    words += ["--task", "walker-walk", "--background.redraw_every", "7"]
    words += ["--environment.num_envs", "2"] if AGENTS.index(agent) % 4 == 3 else []
    if agent in runs.FOLLOWING:
        skills = folder / "skills"
        if not skills.exists():
            ended(skills, options_of("slim", folder, *more))
        words += ["--init_from", str(skills)]
    return (
        words
        + (
            ["--skill.duration", "9", "--evaluation.num_skills", "2"]
            if agent in ("slim", "metra", "diayn")
            else []
        )
        + [*more]
    )


def cut(run: Path, words: list[str], wanted: str, chance: random.Random) -> tuple[str, str]:
    """Start or resume a run, and stop or kill it in the wanted place.

    Return the place, and what was lost.
    """
    before = good_step(run)
    mark = run.with_name(f"{run.name}.evaluates")
    mark.unlink(missing_ok=True)
    process = begin(run, *words, mark=mark, chunk_rows=CHUNK_ROWS)
    asked = chance.choice((signal.SIGTERM, signal.SIGKILL))
    there = {
        "a save": lambda: saving(run),
        "an evaluation": mark.exists,
        "an episode": lambda: good_step(run) > before,
    }
    try:
        # After its last evaluation the run continues to its end.
        lost = wait_for(process, lambda: there[wanted]() or good_step(run) >= FRAMES - 60)
        if wanted == "an episode":
            time.sleep(chance.uniform(0, 0.2))
        place = "an evaluation" if mark.exists() else "a save" if saving(run) else "an episode"
        process.send_signal(asked)
        code = process.wait(60)
    finally:
        process.kill()
        process.wait()
    # 0: it had ended.
    if not lost and code not in ((-9, 0) if asked == signal.SIGKILL else (143, 0)):
        lost = f"code {code} after {asked.name}: {log_of(run).read_text()[-200:]!r}"
    return place, lost


def ended(run: Path, words: list[str]) -> dict[str, str]:
    """Run to the end; return every leaf of the last checkpoint: weights, moments, counters, replay,
    environments.

    Raises: RuntimeError when the run fails.
    """
    process = begin(run, *words, chunk_rows=CHUNK_ROWS)
    if process.wait(600):
        raise RuntimeError(f"the run failed: {log_of(run).read_text()[-500:]}")
    found = described(checkpoint.load(checkpoint.steps(run / "checkpoints")[-1]))
    found.pop("/provenance/commit")  # the source may be edited meanwhile
    return found
