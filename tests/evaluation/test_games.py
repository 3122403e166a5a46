"""Test families of games by command: train, resume, evaluate, adapt, refusals."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import games as read_games
from benchmarks import regret, returns
from foreground import build, saved
from foreground.agents.adaptation import META, Adaptation
from foreground.configs import run as runs
from foreground.envs.families import Game
from foreground.errors import UserError
from foreground.evaluation import films, game_report, games, inference, measures
from foreground.evaluation.config import EvalConfig
from foreground.training import checkpoint
from tests.support.programs import SMALL, assert_one_line, run, written

FEW = [
    "--family.kind",
    "dynamics",
    "--family.num_games",
    "2",
    "--family.num_heldout_games",
    "1",
    "--modes.num_modes",
    "3",
]
FEW += ["--modes.units", "8", "--modes.update_every", "2", "--evaluation.episodes", "1"]


@pytest.fixture(scope="module")
def games_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("games") / "mra"
    result = run(
        "train.py", *SMALL, *FEW, "--agent", "mra", "--total_frames", 400, "--folder", folder
    )
    assert result.returncode == 0, result.stderr
    return folder


def test_a_run_of_games_logs_its_modes_and_resumes(games_run):
    rows = [json.loads(line) for line in (games_run / "metrics.jsonl").read_text().splitlines()]
    told = {key: value for row in rows for key, value in row.items()}
    assert told["modes/information/action_cap"] == pytest.approx(math.log(3))
    assert {"modes/game_0/slack", "modes/game_1/return_2", "model/games/explained"} <= set(told)
    before = checkpoint.load(checkpoint.latest(games_run / "checkpoints")[0])["agent"]
    again = run(
        "train.py", *SMALL, *FEW, "--agent", "mra", "--total_frames", 500, "--folder", games_run
    )
    assert "resumed      at frame 400" in again.stdout, again.stderr
    after = checkpoint.load(checkpoint.latest(games_run / "checkpoints")[0])["agent"]
    assert before["weights"]["modes.returns"].shape == (2, 3)
    for counter in ("modes.updates", "modes.seen"):  # they continue
        assert after["weights"][counter].sum() > before["weights"][counter].sum() > 0
    steps = [state["optimisers"]["relation"]["steps"] for state in (before, after)]
    assert steps == [int(state["weights"]["modes.updates"]) // 2 for state in (before, after)]


def test_another_method_begins_with_its_world_model(games_run, tmp_path):
    words = [
        "--device",
        "cpu",
        "--threads",
        "1",
        "--training.prefill",
        "100",
        "--background.source",
        "procedural",
    ]
    words += [
        "--evaluation.episodes",
        "1",
        "--training.batch_length",
        "8",
        "--training.train_ratio",
        "1",
        "--total_frames",
        "300",
    ]
    words += [
        "--agent",
        "finetune",
        "--init_from",
        games_run,
        "--task",
        "cartpole-balance",
        "--folder",
        tmp_path / "run",
    ]
    config = runs.read([str(word) for word in words], cuda=False)
    agent = build.make_agent(config, build.action_space(config), "cpu")
    saved.load_pretrained(agent, config)
    there = checkpoint.load(checkpoint.latest(games_run / "checkpoints")[0])["agent"]["weights"]
    name = "world_model.encoder.project.weight"
    assert torch.equal(agent.state_dict()[name], there[name])


def test_games_are_played_and_adapted_to(games_run):
    words = [
        "--games",
        "--adapt",
        "mass=0.6",
        "--steps",
        "0,2",
        "--adapt_frames",
        100,
        "--meta",
        "reptile",
        "--meta_rounds",
        1,
    ]
    result = run(
        "eval.py", games_run, "--episodes", 1, "--background", "clean", "--threads", 1, *words
    )
    place = written(result)
    kept = json.loads((place / "games.json").read_text())["games"]["clean"]
    assert "-clean-games-adapt=mass=0.6-episodes=1-" in place.name
    assert "games of training: the mode chosen without a frame returns" in result.stdout
    assert result.stdout.count("too few to tell: 1 episode") == 2  # of the games, and of adaptation
    for name in ("games", "adaptation", "games-clean"):
        assert (place / f"{name}.png").stat().st_size > 5000
    assert films.length(place / "games-clean.mp4") > 50
    family = runs.load(games_run).games
    frames = runs.load(games_run).environment.time_limit
    names = [game.name for game in (*family.train, *family.heldout)]
    assert list(kept) == [*names, "information"]
    assert [kept[name]["kind"] for name in names] == ["train", "train", "heldout"]
    for name in names:
        assert sum(kept[name][f"probability_{mode}"] for mode in range(3)) == pytest.approx(
            1, abs=1e-5
        )
        assert kept[name]["regret"] * kept[name]["best_of"] == pytest.approx(
            kept[name]["best_of"] - kept[name]["zero_shot"]
        )
        assert name in result.stdout
        assert 0 <= kept[name]["infer_right"] <= 1
        assert kept[name]["infer_interval"] is None  # of one episode
        assert kept[name]["tried_frames"] == 3 * frames
    adapted = json.loads((place / "adaptation.json").read_text())["adaptation"]["clean"]
    assert adapted["game"] == "mass=0.6,friction=1,gain=1"
    assert set(adapted["returns"]) == {"0", "2"}
    assert adapted["frames"] == 100
    assert (adapted["infer_frames"], adapted["best_of_frames"]) == (frames, 3 * frames)
    assert adapted["intervals"] == {"0": None, "2": None}
    row = {"task": "cartpole-balance", "method": "mra", "games": kept, "adaptation": adapted}
    clean, video = row | {"background": "none"}, row | {"background": "starter"}
    text = read_games.tables([clean, clean, video])
    assert text.splitlines()[2].startswith("| cartpole-balance | clean | mra | 2 | ")
    assert text.splitlines()[3].startswith("| cartpole-balance | video | mra | 1 | ")
    assert f"{adapted['returns']['2']:.0f}" in text


def test_regret_is_against_the_expert_of_the_game(tmp_path, monkeypatch, capsys):
    """Two tasks have games of one name; adaptation was measured in one game."""
    monkeypatch.setattr(returns, "RESULTS", tmp_path)
    rows = [
        ("games", "mra", "one", 0, {"a": 60.0, "b": -10.0}),
        ("games", "mra", "one", 1, {"a": 20.0, "b": -30.0}),
        ("games", "mra", "two", 0, {"a": 5.0, "b": 5.0}),
    ]
    rows += [
        ("experts", "only_a", task, 0, {"a": best}) for task, best in (("one", 80.0), ("two", 10.0))
    ]
    rows += [("experts", "only_b", "one", 0, {"b": -10.0})]
    for suite, method, task, seed, found in rows:
        (tmp_path / suite).mkdir(exist_ok=True)
        kept = {name: {"zero_shot": value, "infer": value + 4} for name, value in found.items()}
        row = {"method": method, "task": task, "games": {"information": {}} | kept}
        row["adaptation"] = {"game": "a", "returns": {"10": 70.0, "5": 0.0}}
        (tmp_path / suite / f"{task}-{method}-seed{seed}.json").write_text(json.dumps(row))
    regret.main(["benchmarks/studies/games.yaml", "benchmarks/studies/experts.yaml"])
    *lines, last = capsys.readouterr().out.splitlines()
    table = json.loads(last)
    assert set(table) == {"one, a", "two, a", "one, b"}
    assert table["one, a"]["expert"] == 80.0
    found = table["one, a"]["mra"]
    assert found["zero_shot"] == {
        "return": 40.0,
        "seeds": 2,
        "regret": 0.5,
        "interval": [20.0, 60.0],
        "regret_interval": [0.25, 0.75],
    }
    assert found["infer"]["return"] == 44.0
    assert found["adapted, 10 steps"]["regret"] == 0.125
    assert table["two, a"]["mra"]["zero_shot"] == {"return": 5.0, "seeds": 1, "regret": 0.5}
    assert table["one, b"]["mra"]["zero_shot"]["regret"] == 1.0
    assert "| one, a | 80.0 | mra | zero_shot | 40 [20, 60], regret 0.50 [0.25, 0.75] |" in lines
    with pytest.raises(UserError, match="no run whose games were read"):
        regret.main(["benchmarks/studies/games.yaml", "benchmarks/studies/information_plane.yaml"])


def test_the_expert_of_a_game_is_the_best_and_may_return_nothing():
    experts = {"a": {"one, a": {"zero_shot": [80.0]}}, "b": {"one, a": {"zero_shot": [20.0]}}}
    experts |= {"c": {"two, a": {"zero_shot": [0.0, 0.0]}}}
    assert regret.experts_of(experts) == {"one, a": 80.0, "two, a": 0.0}
    agents = {"mra": {name: {"zero_shot": [5.0, 5.0]} for name in ("one, a", "two, a")}}
    found = regret.regrets(agents, experts)["two, a"]["mra"]["zero_shot"]
    assert found == {"return": 5.0, "seeds": 2, "interval": [5.0, 5.0]}
    assert regret.cell(found) == "5.00 [5.00, 5.00], regret -"


def test_backgrounds_are_not_taken_for_seeds(tmp_path):
    content = Path("benchmarks/modes.yaml").read_text()
    suite = tmp_path / "suite.yaml"
    suite.write_text(content.replace("{video: $KINETICS}", "{video: starter, clean: none}"))
    with pytest.raises(UserError, match="2 backgrounds would be taken for seeds"):
        regret.returns_of(str(suite))


def test_what_cannot_be_adapted_to_is_one_line(games_run):
    result = run("eval.py", games_run, "--threads", 1, "--adapt", "mass=9")
    assert_one_line(result, "mass 9 is outside of the family's range")


def test_steps_without_frames_and_skills_of_modes_are_refused(games_run):
    config, *_ = loaded(games_run)
    with pytest.raises(UserError, match="50 steps on 0 frames of the game"):
        game_report.check_steps((0, 50), 0, config)
    game_report.check_steps((0,), 0, config)
    with pytest.raises(UserError, match="the run has no skills"):
        measures.check_skills(EvalConfig(run="", skills=True), config)


def test_a_run_of_one_game_has_no_games():
    config = runs.read(["--agent", "infopower"], cuda=False)
    with pytest.raises(UserError, match="has no modes"):
        game_report.check(config, "games")


def loaded(games_run):
    config = runs.load(games_run)
    agent = build.make_agent(config, build.action_space(config), "cpu")
    path = checkpoint.latest(games_run / "checkpoints")[0]
    agent.load_training_state(checkpoint.load(path)["agent"], optimisers=False)
    return config, agent, path


def test_the_return_of_a_mode_is_that_of_the_mode(games_run, monkeypatch):
    """With the mode as speed, modes differ by their behaviour, in the game that is named."""
    config, agent, _ = loaded(games_run)
    seen = []

    def select_action(state, condition, noise):
        seen.append(condition[:, 3:].unique(dim=0))
        return (
            condition[:, :3].argmax(-1, keepdim=True) - 1.0
        )  # to the left, not at all, to the right

    monkeypatch.setattr(agent, "select_action", select_action)
    game = config.games.heldout[0]
    make_env = build.environment_maker(config, "clean", None, (game,))
    row = games.modes_in(agent, make_env, game, 2, 0)
    assert row["mode_1"] > 1.2 * max(row["mode_0"], row["mode_2"])
    assert row["best"] == 1
    assert all(np.allclose(one, game.descriptor, atol=1e-6) for one in seen)


def test_the_game_is_inferred_from_its_rewards(games_run, monkeypatch):
    """A head for which only the second game explains the rewards; the truth that the environment
    tells is not used.
    """
    config, agent, _ = loaded(games_run)
    candidates = (*config.games.train, *config.games.heldout)
    second = torch.tensor(candidates[1].descriptor)
    seen = []

    def log_prob(feature, game, reward):
        assert torch.isfinite(reward).all()
        return -torch.cdist(game, second[None])[:, 0]

    def select_action(state, condition, noise):
        seen.append(condition[:, 3:].clone())
        return torch.zeros(len(condition), 1)

    monkeypatch.setattr(agent.world_model.terms["games"], "log_prob", log_prob)
    monkeypatch.setattr(agent, "select_action", select_action)
    make_env = build.environment_maker(config, "clean", None, (candidates[0],))
    total, shares = inference.play(agent, make_env, candidates, [0, 1])
    assert total.shape == (2,)
    assert shares.sum(1) == pytest.approx([1, 1])
    assert (shares[:, 1] > 0.95).all()
    # The reward of the second image is the first that is taken in; the act after it uses it.
    assert all(torch.allclose(one, second.expand(2, -1)) for one in seen[2:])
    assert inference.answers(agent)


def test_few_returns_have_no_interval():
    assert games.interval_of(np.ones(4)) is None
    low, high = games.interval_of(np.array([0.0, 0, 0, 10, 10]))
    assert 0 <= low < 4 < high <= 10


def test_frames_of_a_game_are_of_that_game(games_run):
    config, agent, _ = loaded(games_run)
    game = config.games.heldout[0]
    replay = games.gather(agent, build.environment_maker(config, "clean", None, (game,)), 60, 0)
    batch = replay.sample(8, 10)
    assert torch.allclose(batch["game"], torch.tensor(game.descriptor).expand(8, 10, -1))
    assert set(batch["condition"].argmax(-1).flatten().tolist()) <= {0, 1, 2}
    assert batch["reward"].std() > 0


def test_the_run_s_own_replay_is_what_meta_learning_reads(games_run):
    config, agent, path = loaded(games_run)
    replay = game_report.replay_of(config, saved.load_run(path))
    assert len(replay) >= 100
    adapting = Adaptation(agent, "actor", 1e-3)
    before = adapting.snapshot()
    for kind in META:
        games.begin(adapting, kind, games.batches_of(replay, 4, 8), 1, 1, 0.5)
    assert any(not torch.equal(one, other) for one, other in zip(before, adapting.snapshot()))


def test_a_replay_that_is_too_short_to_begin_from_is_one_line(games_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(games_run, run)
    config, _, _ = loaded(run)
    path = checkpoint.latest(run / "checkpoints")[0]
    config = replace(
        config, total_frames=4000, training=replace(config.training, batch_length=1000)
    )
    with pytest.raises(UserError, match="no 1000 steps in a row") as refused:
        game_report.replay_of(config, saved.load_run(path))
    assert refused.value.exit_code == 2


def test_information_is_between_nothing_and_its_cap(games_run):
    config, agent, path = loaded(games_run)
    told = games.information(
        agent, game_report.replay_of(config, saved.load_run(path)).sample(8, 8)
    )
    assert (
        -0.02 <= told["action"] <= told["action_cap"] == pytest.approx(math.log(3))
    )  # a draw a mode
    assert told["game"] <= told["game_cap"] == pytest.approx(math.log(2))


def test_a_game_is_a_plain_thing():
    assert Game("a", (1.0,)) == Game("a", (1.0,))
