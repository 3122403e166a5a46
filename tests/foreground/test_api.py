"""Test the Python API on a small run, and the notebook that shows it."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import foreground
from tests.support.programs import SMALL, run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    done = run("train.py", *SMALL, "--total_frames", 400, "--folder", folder)
    assert done.returncode == 0, done.stderr
    return folder


def python(code: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, foreground; print(sorted({'torch', 'numpy', 'gymnasium', 'mujoco'} & "
        "set(sys.modules)))"
    )
    assert python(code).strip() == "[]"


def test_the_api_is_ten_names_at_most_and_all_exist():
    import foreground.api

    assert foreground.__all__ == foreground.api.__all__
    assert len(foreground.__all__) <= 10
    assert all(hasattr(foreground, name) for name in foreground.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = foreground.nothing


def test_a_player_has_the_return_of_the_evaluation(trained):
    """The same weights, episode and policy: once through the API's own loop, once through
    `evaluate`.
    """
    loaded = foreground.load_run(trained)
    assert (loaded.frame, loaded.folder, loaded.config.task) == (400, trained, "cartpole-balance")
    expected = loaded.evaluate(1, side="clean", seed=3)
    env, player = loaded.make_env("clean"), loaded.player()
    for _ in range(2):  # the second time after `reset`
        observation, total, ended = env.reset(seed=3)[0], 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(player(observation))
            total, ended = total + reward, terminated or truncated
        assert total == pytest.approx(expected.returns[0], rel=1e-6)
        player.reset()
    env.close()


def test_scores_and_metrics_are_those_of_the_files(trained):
    scores = foreground.read_scores(trained)
    assert scores == json.loads((trained / "scores.json").read_text())["scores"]
    assert set(scores) == {"heldout", "train", "clean", "random policy, heldout"}
    frames, returns = foreground.read_metrics(trained, "episode/return")
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert list(zip(frames, returns)) == [
        (row["step"], row["episode/return"]) for row in rows if "episode/return" in row
    ]
    with pytest.raises(foreground.UserError, match="did you mean episode/return"):
        foreground.read_metrics(trained, "episode/retrun")
    loaded = foreground.load_run(trained)
    assert foreground.read_scores(loaded) == scores
    assert np.array_equal(foreground.read_metrics(loaded, "episode/return"), (frames, returns))


def test_what_a_notebook_shows_is_short(trained):
    loaded = foreground.load_run(trained)
    assert repr(loaded) == (
        f"Run({str(trained)!r}, agent='infopower', task='cartpole-balance', frame=400)"
    )
    assert repr(foreground.Scores([1.0, 2.0], np.zeros((9, 64, 64, 3)))) == (
        "Scores(mean=1.5, episodes=2)"
    )
    code = "import foreground; print([n for n in dir(foreground) if not n.startswith('_')])"
    assert python(code).strip() == str(sorted(foreground.__all__))


def test_wrong_arguments_are_one_line(trained):
    loaded = foreground.load_run(trained)
    player = loaded.player()
    image = np.zeros((32, 32, 3), np.uint8)
    calls = {
        "0 episodes give no score": lambda: loaded.evaluate(0),
        "unknown side 'held-out': side: did you mean heldout?": lambda: loaded.evaluate(
            1, "held-out"
        ),
        "choose one of clean, heldout, train": lambda: loaded.make_env("behind"),
        "torch has no device 'gpu' here": lambda: foreground.load_run(trained, device="gpu"),
        r"the image is float32 \(32, 32, 3\).*give uint8 \(32, 32, 3\)": lambda: player(
            image.astype(np.float32)
        ),
        r"the image is uint8 \(16, 32, 3\)": lambda: player(image[::2]),
        "task: import the module that registers it first": lambda: foreground.make_env(
            "gymnasium:my/A"
        ),
        "did you mean gymnasium:Pendulum": lambda: foreground.make_env("gymnasium:Pendulun-v1"),
        "no such file or folder: /nope: give a folder": lambda: foreground.make_env(
            "walker-walk", clips="/nope"
        ),
        "size: give a value": lambda: foreground.make_env("walker-walk", size=7),
    }
    for words, call in calls.items():
        with pytest.raises(foreground.UserError, match=words) as error:
            call()
        assert "--" not in str(error.value)


@pytest.mark.parametrize(
    "call",
    [foreground.load_run, foreground.read_scores, lambda path: foreground.read_metrics(path, "x")],
)
def test_a_folder_that_is_no_run_is_one_line(tmp_path, call):
    with pytest.raises(foreground.UserError, match=str(tmp_path)):
        call(tmp_path)


def test_an_environment_without_a_run():
    with foreground.make_env(
        "walker-walk", clips="procedural", side="heldout", size=32, action_repeat=3
    ) as env:
        observation, _ = env.reset(seed=0)
        assert (observation.shape, observation.dtype) == ((32, 32, 3), np.uint8)
        assert env.step(env.action_space.sample())[4]["env_frames"] == 3
    importlib.import_module("tests.support.toys")
    with foreground.make_env("gymnasium:toys/Plane-v0", size=32) as env:
        assert env.reset(seed=0)[0].shape == (32, 32, 3)
    with pytest.raises(foreground.UserError, match="walker-walk"):
        foreground.make_env("walker-wlak")


def test_gymnasium_finds_the_environments_by_their_module(tmp_path):
    """In a process that imported nothing of ours. Gymnasium 1 has no plug-in entry point."""
    assert not hasattr(gymnasium.envs.registration, "load_plugin_envs")
    code = (
        "import gymnasium; env = gymnasium.make('foreground.envs:dmc/cartpole-swingup-v0', "
        "size=32)\n"
    )
    assert python(code + "print(env.reset(seed=0)[0].shape)").strip() == "(32, 32, 3)"


def test_the_notebook_runs(trained, monkeypatch, capsys):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.setenv("FOREGROUND_RUN", str(trained))
    cells = json.loads((ROOT / "docs/notebooks/api.ipynb").read_text())["cells"]
    cells = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict = {}
    for cell in cells:
        exec(compile(cell, "api.ipynb", "exec"), names)
    pyplot.close("all")
    printed = capsys.readouterr().out
    assert "cartpole-balance infopower 400 env frames" in printed
    assert printed.endswith("(64, 64, 3)\n(84, 84, 3)\n")
