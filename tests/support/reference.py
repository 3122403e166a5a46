"""Compare two versions of the code bit for bit: train, resume and evaluate small runs, and hash the
results.

With the version before a change:

    python -m tests.support.reference write /tmp/reference.json --keep /tmp/runs

With the version after it; --start resumes the old runs:

    python -m tests.support.reference compare /tmp/reference.json
    python -m tests.support.reference compare /tmp/reference.json --start /tmp/runs

The hashes hold on one machine only, so the file stays out of the repository. They omit the names
of weights and fields, so renaming one changes no hash. The exit code is 1 if something differs.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from foreground.training import system

if __name__ == "__main__":
    system.prepare_environment()  # before torch is imported

import torch

from foreground.training import checkpoint
from tests.faults.states import leaves_of, text_of

CUT, END = 200, 260  # env frames: of the run, and of the run after it was resumed
COMMON = """
--device cpu --size cpu --task walker-walk --threads 1 --seed 3 --compile false
--environment.image_size 32 --environment.time_limit 100 --environment.action_repeat 2
--background.source procedural --background.redraw_every 9
--evaluation.episodes 2 --evaluation.training_episodes 1
--training.prefill 100 --training.batch_size 4 --training.batch_length 8
--training.train_ratio 12 --training.log_every 20 --training.video_every 100
--training.checkpoint_every 100 --training.evaluate_every 150
--world_model.depth 4 --world_model.embedding 32 --world_model.units 32
--world_model.rssm.deterministic 32 --world_model.rssm.hidden 32
--actor_critic.units 32 --actor_critic.imag_starts 16 --optimiser.warmup 3
"""
PILOT = ["--world_model.objective.pilot_updates", "4"]  # so that the multiplier moves
SKILLS = ["--skill.duration", "7", "--evaluation.num_skills", "4"]
GAMES = [
    "--family.kind",
    "dynamics",
    "--family.num_games",
    "2",
    "--family.num_heldout_games",
    "1",
    "--modes.num_modes",
    "3",
]
RUNS = {  # hierarchical begins with slim, so that slim comes first
    "infopower": PILOT,
    "slim": [*PILOT, *SKILLS],
    "hierarchical": ["--hierarchy.duration", "5"],
    "mra": [*PILOT, *GAMES, "--modes.units", "8", "--modes.update_every", "2"],
    "dreamer": ["--environment.num_envs", "2"],
}
SKILLS_OF_ANOTHER = "slim-as-it-was"  # the run that hierarchical begins with
MEASURED = "--skills true --skill_number 4 --best_of 2 --goals 2 --plan true --plan_episodes 1"
ADAPTED = (
    "--games true --adapt mass=1.1,gain=0.9 --adapt_frames 60 --steps 0,2 --meta reptile "
    "--meta_rounds 2"
)
EVALUATIONS = {
    "infopower": "--latent true --latent_episodes 4",
    "slim": MEASURED,
    "mra": ADAPTED,
}
LEARNED = (
    "model/",
    "policy/",
    "gradient/",
    "modes/",
    "discovery/",
    "episode/",
    "evaluation/",
    "skills/",
    "clock/",
)
WRITTEN = {
    "scores.json": "scores",
    "skills.json": "skills",
    "latent.json": "readings",
    "games.json": "games",
}
WRITTEN |= {"adaptation.json": "adaptation"}


def call(program: str, words: list[str]) -> None:
    """Run a program of the repository in this process, silently.

    Errors: RuntimeError with what it said.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            importlib.import_module(f"foreground.{program}").main(words)
    except Exception as error:
        raise RuntimeError(f"{program} {' '.join(words)}: {said.getvalue()[-1000:]}") from error


def digest(parts: list[str]) -> str:
    """Return one hash of texts, whatever their order."""
    return f"{len(parts)} {hashlib.sha256(chr(10).join(sorted(parts)).encode()).hexdigest()[:16]}"


def values_of(state) -> str:
    """Return the hash of all values in nested dicts and lists, without their names; what is empty
    does not count.
    """
    values = [value for _, value in leaves_of(state)]
    kept = [
        value
        for value in values
        if value is not None and getattr(value, "size", 1) != 0 and not _is_empty(value)
    ]
    return digest([text_of(value) for value in kept])


def _is_empty(value) -> bool:
    return isinstance(value, torch.Tensor) and not value.numel()


def of_checkpoint(folder: Path) -> dict[str, str]:
    """Return the hashes of the newest checkpoint of a run, by part."""
    state = checkpoint.load(checkpoint.steps(folder / "checkpoints")[-1])
    agent, replay = state["agent"], state["replay"]
    parts = {name: agent[name] for name in agent} | {
        name: state[name] for name in ("clocks", "episodes", "random")
    }
    parts |= {"rows": replay["tail"], "sampler": replay["manifest"]["generator"]}
    parts |= {f"rollout {name}": value for name, value in state["rollout"].items()}
    return {name: values_of(value) for name, value in parts.items()}


def of_metrics(folder: Path) -> str:
    """Return the hash of all metrics that learning and evaluation gave."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [
        f"{row['step']} {key} {row[key]!r}"
        for row in rows
        for key in row
        if key.startswith(LEARNED)
    ]
    return digest(kept)


def of_evaluation(folder: Path) -> dict[str, str]:
    """Return the hashes of the results of an evaluation, by file."""
    found = {}
    for name, key in WRITTEN.items():
        if (folder / name).exists():
            found[name] = digest(
                [json.dumps(json.loads((folder / name).read_text())[key], sort_keys=True)]
            )
    return found


def words_of(agent: str, place: Path, frames: int) -> list[str]:
    """Return the command line of train.py for one of RUNS in a folder of runs."""
    words = [
        *COMMON.split(),
        *RUNS[agent],
        "--agent",
        agent,
        "--folder",
        str(place / agent),
        "--total_frames",
        str(frames),
    ]
    return words + (
        ["--init_from", str(place / SKILLS_OF_ANOTHER)] if agent == "hierarchical" else []
    )


def gather(
    place: Path,
    start: Path | None = None,
    keep: Path | None = None,
    report: Callable[[str, dict[str, str]], None] = lambda prefix, found: None,
) -> dict[str, str]:
    """Train, evaluate and resume every run in a folder; return all hashes.

    start   a folder of runs that stand at CUT, to be resumed in place of new ones
    keep    a folder into which the runs are copied as they stand at CUT
    report  called after each run with the beginning of its names, and all hashes so far
    """
    torch.set_num_threads(1)
    found = {}
    for agent in RUNS:
        run = place / agent
        if start:
            shutil.copytree(start / agent, run)
        else:
            call("train", words_of(agent, place, CUT))
        if keep:
            shutil.copytree(run, keep / agent, dirs_exist_ok=True)
        if agent == "slim":
            shutil.copytree(run, place / SKILLS_OF_ANOTHER)
        parts = {f"at {CUT}": of_checkpoint(run)}
        call("train", words_of(agent, place, END))
        parts |= {
            f"at {END}": of_checkpoint(run),
            "metrics": {"all": of_metrics(run)},
            "evaluation": of_evaluation(run),
        }
        if agent in EVALUATIONS:
            output = place / f"{agent}-evaluation"
            words = [
                "--episodes",
                "2",
                "--background",
                "clean,heldout",
                "--device",
                "cpu",
                "--threads",
                "1",
            ]
            call("eval", [str(run), *words, *EVALUATIONS[agent].split(), "--output", str(output)])
            parts |= {"eval.py": of_evaluation(output)}
        found |= {
            f"{agent}: {part}: {name}": value
            for part, row in parts.items()
            for name, value in row.items()
        }
        report(f"{agent}: ", found)
    return found


def differing(wanted: dict[str, str], found: dict[str, str], prefix: str = "") -> list[str]:
    """Return the names that begin with a prefix and have other hashes."""
    names = sorted(name for name in {*wanted, *found} if name.startswith(prefix))
    return [name for name in names if wanted.get(name) != found.get(name)]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--keep",
        type=Path,
        help="folder in which the runs stay, as they stood before they were resumed",
    )
    parser.add_argument(
        "--start", type=Path, help="folder of such runs, to be resumed in place of new ones"
    )
    given = parser.parse_args(argv)
    wanted = json.loads(given.file.read_text()) if given.verb == "compare" else {}

    def report(prefix: str, found: dict[str, str]) -> None:
        for name in differing(wanted, found, prefix) if wanted else []:
            print(f"differs: {name}: {wanted.get(name)} -> {found.get(name)}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        found = gather(Path(folder), given.start, given.keep, report)
    if given.verb == "write":
        given.file.write_text(json.dumps(found, indent=1, sort_keys=True))
        print(f"{len(found)} hashes written")
        return 0
    left = differing(wanted, found)
    print(f"{len(wanted) - len(left)} of {len(wanted)} hashes are equal")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
