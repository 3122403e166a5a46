"""Run environments of Gymnasium through train.py and eval.py, with one-line errors."""

import json
from pathlib import Path

import pytest
import yaml

from tests.support.programs import assert_one_line, run

ROOT = Path(__file__).parents[2]
SMALL = """
--agent infopower --device cpu --size cpu --threads 1 --environment.image_size 32
--training.prefill 20 --training.batch_size 4 --training.batch_length 8 --training.train_ratio 4
--training.log_every 20 --training.checkpoint_every 40 --training.evaluate_every 0
--evaluation.episodes 2 --world_model.depth 4 --world_model.embedding 32 --world_model.units 32
--world_model.rssm.deterministic 32 --world_model.rssm.hidden 32
--world_model.objective.pilot_updates 4 --actor_critic.units 32 --actor_critic.imag_starts 16
"""


def train(folder: Path, name: str, frames: int, *words: str, **variables: str):
    task = [
        "--task",
        f"gymnasium:toys/{name}-v0",
        "--env_module",
        "tests.support.toys",
        "--folder",
        folder,
        "--total_frames",
        frames,
    ]
    return run("train.py", *SMALL.split(), *task, *words, **variables)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run in two environments without a snapshot, to 80 frames and then to 120.

    The first part is by a new interpreter, which finds the toys as a user's would.
    """
    folder = tmp_path_factory.mktemp("runs") / "countdown"
    results = [
        train(folder, "Countdown", frames, "--environment.num_envs", "2", **variables)
        for frames, variables in ((80, {"PYTHONPATH": str(ROOT)}), (120, {}))
    ]
    assert [result.returncode for result in results] == [0, 0], results[-1].stderr
    return folder, *results


def test_what_has_no_snapshot_resumes_with_new_episodes_and_says_so(resumed):
    folder, first, second = resumed
    told = [line for line in second.stderr.splitlines() if "no episode under way" in line]
    assert len(told) == 1
    assert told[0].startswith("warning: ")
    assert "snapshot" not in first.stderr
    assert "resumed      at frame 80" in second.stdout
    assert json.loads((folder / "scores.json").read_text())["env_frame"] == 120


def test_continuation_is_learned_and_logged(resumed):
    folder, first, _ = resumed
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["world_model"]["objective"]["terms"]["continuation"] == 1.0
    assert config["world_model"]["objective"]["constraint"][-1] == "continuation"
    assert config["background"]["source"] == "none"
    assert "continuation" in first.stdout
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = {key: value for row in rows for key, value in row.items()}
    assert {
        "model/objective/continuation",
        "model/continuation/explained",
        "policy/continuation",
    } <= last.keys()
    assert last["episode/length"] <= 6


def test_an_evaluation_leaves_out_what_the_environment_does_not_tell_and_says_so(resumed):
    folder, *_ = resumed
    words = [
        "--episodes",
        2,
        "--latent",
        "--latent_episodes",
        8,
        "--output",
        folder.parent / "latent",
    ]
    result = run("eval.py", folder, *words)
    assert result.returncode == 0, result.stderr
    assert "the environment tells no state" in result.stdout
    reading = json.loads((folder.parent / "latent" / "latent.json").read_text())["readings"][
        "clean"
    ]
    assert "reward_explained" in reading
    assert not any(key.startswith(("state/", "similarity")) for key in reading)


def test_clips_that_the_run_could_not_see_are_refused(resumed, tmp_path):
    (tmp_path / "clips").mkdir()
    for background, what in ((tmp_path / "clips", "no video can play"), ("heldout", "no clips")):
        result = run("eval.py", resumed[0], "--background", background)
        assert_one_line(result, what, "choose clean")


def test_what_has_a_snapshot_goes_on(tmp_path):
    for frames in (60, 80):
        result = train(tmp_path / "kept", "Kept", frames)
        assert result.returncode == 0, result.stderr
    assert "no episode under way" not in result.stderr
    assert result.stderr.count("states no time limit") == 1


def test_a_video_plays_behind_an_environment_with_a_simulation(tmp_path):
    video = ["--background.source", "procedural", "--environment.terminates", "false"]
    result = train(tmp_path / "swing", "Swing", 60, *video)
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / "swing" / "scores.json").read_text())["scores"]
    assert {"heldout", "train", "clean"} <= scores.keys()
    config = yaml.safe_load((tmp_path / "swing" / "config.yaml").read_text())
    assert config["environment"]["time_limit"] == 50
    assert "continuation" not in config["world_model"]["objective"]["terms"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--task", "gymnasium:toys/Buttons-v0"], ["Discrete(3)", "continuous actions"]),
        (["--task", "gymnasium:toys/Countdwon-v0"], ["did you mean gymnasium:toys/Countdown-v0?"]),
        (
            ["--task", "gymnasium:toys/Plane-v0", "--background.source", "procedural"],
            ["no video can play", "--background.source"],
        ),
        (
            ["--task", "gymnasium:toys/Plane-v0", "--environment.time_limit", "50"],
            ["time_limit is not read"],
        ),
        (
            ["--task", "gymnasium:toys/Plane-v0", "--family.kind", "dynamics"],
            ["has no family of games"],
        ),
        (
            ["--task", "gymnasium:toys/Plane-v0", "--agent", "slim"],
            ["does not tell use and safety"],
        ),
        (["--task", "walker-walk"], ["env_module is not read", "gymnasium:ENV_ID"]),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, words, parts):
    plain = [
        "--env_module",
        "tests.support.toys",
        "--folder",
        tmp_path / "run",
        "--size",
        "cpu",
        "--device",
        "cpu",
    ]
    assert_one_line(run("train.py", *plain, *words), *parts)
    assert not (tmp_path / "run" / "config.yaml").exists()
