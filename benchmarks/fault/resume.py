"""A run that is stopped and goes on ends where one that was never stopped does, to the bit."""

import random
import signal
import time
from pathlib import Path

from benchmarks.fault import Tries
from benchmarks.fault.runs import begin, good_step, log_of, saving, wait_for
from benchmarks.fault.states import described, differing
from foreground.configs import run as runs
from foreground.training import checkpoint

AGENTS = runs.AGENTS
FRAMES, CHUNK_ROWS = 440, 64
PLACES = ("a save", "an evaluation", "an episode")


def resume(folder: Path, chance: random.Random) -> Tries:
    """One agent after another; told to stop, or killed, once or twice on its way, at any frame: mid-episode, in a save."""
    straight, number, cuts = {}, 0, dict.fromkeys(PLACES, 0)
    while True:
        agent = AGENTS[number % len(AGENTS)]
        number += 1
        words = options_of(agent, folder)
        if agent not in straight:
            straight[agent] = ended(folder / f"straight-{agent}", words)
        run = folder / f"cut{number}-{agent}"
        lost = ""
        for turn in range(chance.choice((1, 1, 2))):
            # Of an agent in turn in each place, in as many rounds as there are places.
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
    """A few frames of it, with clips, several episodes and updates, and skills drawn anew; then more options.

    Those that begin with another run begin with one of slim, which is trained in the folder when it is first asked for.
    """
    words = ["--agent", agent, "--total_frames", str(FRAMES), "--training.train_ratio", "2", "--training.evaluate_every", "200"]
    words += ["--task", "walker-walk", "--background.redraw_every", "7"]
    words += ["--environment.num_envs", "2"] if AGENTS.index(agent) % 4 == 3 else []
    if agent in runs.FOLLOWING:
        skills = folder / "skills"
        if not skills.exists():
            ended(skills, options_of("slim", folder, *more))
        words += ["--init_from", str(skills)]
    return (
        words
        + (["--skill.duration", "9", "--evaluation.num_skills", "2"] if agent in ("slim", "metra", "diayn") else [])
        + [*more]
    )


def cut(run: Path, words: list[str], wanted: str, chance: random.Random) -> tuple[str, str]:
    """Begin or go on, and be told to stop, or killed, in a save, an evaluation or an episode: where, and what was lost."""
    before, mark = good_step(run), run.with_name(f"{run.name}.evaluates")
    mark.unlink(missing_ok=True)
    process, asked = begin(run, *words, mark=mark, chunk_rows=CHUNK_ROWS), chance.choice((signal.SIGTERM, signal.SIGKILL))
    there = {"a save": lambda: saving(run), "an evaluation": mark.exists, "an episode": lambda: good_step(run) > before}
    try:
        # Where it has come beyond its last evaluation it comes to its end.
        lost = wait_for(process, lambda: there[wanted]() or good_step(run) >= FRAMES - 60)
        if wanted == "an episode":
            time.sleep(chance.uniform(0, 0.2))
        place = "an evaluation" if mark.exists() else "a save" if saving(run) else "an episode"
        process.send_signal(asked)
        code = process.wait(60)
    finally:
        process.kill()
        process.wait()
    if not lost and code not in ((-9, 0) if asked == signal.SIGKILL else (143, 0)):  # 0: it was at its end
        lost = f"code {code} after {asked.name}: {log_of(run).read_text()[-200:]!r}"
    return place, lost


def ended(run: Path, words: list[str]) -> dict[str, str]:
    """Let it go to its end; everything of its last checkpoint by place: weights, moments, counters, replay, environments.

    Errors: RuntimeError when it does not come to its end.
    """
    process = begin(run, *words, chunk_rows=CHUNK_ROWS)
    if process.wait(600):
        raise RuntimeError(f"the run failed: {log_of(run).read_text()[-500:]}")
    found = described(checkpoint.load(checkpoint.steps(run / "checkpoints")[-1]))
    found.pop("/provenance/commit")  # the source may be edited while this runs
    return found
