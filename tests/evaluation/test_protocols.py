"""Protocols of distraction: their rows against published numbers, the table, and the files."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from foreground import build
from foreground.agents.skills import SkillConfig, Skills
from foreground.configs import run as runs
from foreground.envs import own_files
from foreground.envs.backgrounds import BackgroundConfig
from foreground.envs.distraction import DistractionConfig
from foreground.errors import UserError
from foreground.evaluation import clips, protocols
from foreground.evaluation.config import EvalConfig
from foreground.evaluation.episodes import Scores
from foreground.training import options
from tests.support.programs import SMALL

FILM = np.zeros((30, 64, 64, 3), np.uint8)
PROCEDURAL = ("heldout", BackgroundConfig("procedural", window=32, grey=True, redraw_every=50))


def own(task: str = "walker-walk", *words: str) -> runs.RunConfig:
    given = ["--task", task, "--background.source", "none", *words]
    return runs.read(given, cuda=False)


def by_key(protocol: str, config: runs.RunConfig, moves: bool = True) -> dict:
    return {row.key: row for row in protocols.rows_of(protocol, config, PROCEDURAL, moves)}


@pytest.mark.parametrize(
    ("level", "scale", "number"),
    # google-research, distracting_control/suite_utils.py: DIFFICULTY_SCALE, DIFFICULTY_NUM_VIDEOS
    [("easy", 0.1, 4), ("medium", 0.2, 8), ("hard", 0.3, 0)],
)
@pytest.mark.parametrize("moves", [False, True])
def test_dcs_has_the_published_scales_and_numbers_of_videos(level, scale, number, moves):
    rows = by_key("dcs", own(), moves)
    assert len(rows) == 1 + 4 * 3
    camera, colour, video, both = (
        rows[f"dcs {kind}", level].config for kind in ("camera", "colour", "video", "all")
    )
    assert camera.distraction == DistractionConfig(camera=scale, dynamic=moves)
    assert colour.distraction == DistractionConfig(colour=scale, dynamic=moves)
    assert both.distraction == DistractionConfig(camera=scale, colour=scale, dynamic=moves)
    assert video.distraction == DistractionConfig()
    assert camera.background.source == colour.background.source == "none"
    expected = BackgroundConfig("procedural", max_clips=number, still=not moves)
    assert video.background == both.background == expected


# suite_utils.py, get_background_kwargs: ground_plane_alpha is 1 on walker and cheetah, 0 on
# reacher, 0.3 elsewhere
@pytest.mark.parametrize(
    ("task", "mask"),
    [
        ("walker-walk", "sky"),
        ("cheetah-run", "sky"),
        ("reacher-easy", "sky_and_floor"),
        ("finger-spin", "sky_and_floor"),
    ],
)
def test_the_floor_of_dcs_stays_where_the_suite_shows_it(task, mask):
    assert by_key("dcs", own(task))["dcs all", "hard"].config.environment.mask == mask


def test_dmc_gb_has_the_published_numbers_of_videos_and_masks():
    """dmcontrol-generalization-benchmark, src/env/wrappers.py: VideoWrapper, ColorWrapper."""
    rows = by_key("dmc_gb", own())
    assert len(rows) == 1 + 4
    for level in ("easy", "hard"):
        color = rows["dmc_gb color", level].config
        assert color.distraction == DistractionConfig(palette=level)
        assert color.background.source == "none"
    for level, number, mask in (("easy", 10, "sky"), ("hard", 100, "sky_and_floor")):
        video = rows["dmc_gb video", level].config
        assert video.background == BackgroundConfig("procedural", max_clips=number)
        assert video.environment.mask == mask
        assert video.distraction == DistractionConfig()


def test_the_first_row_is_the_clean_task_and_every_row_can_be_played():
    config = own("cartpole-swingup", "--distraction.noise", "3", "--environment.time_limit", "50")
    rows = protocols.rows_of("all", config, PROCEDURAL)
    assert len(rows) == len({row.key for row in rows}) == 1 + 12 + 4 + 18
    assert (rows[0].key, rows[0].side) == (("clean", ""), "clean")
    clean = build.environment_maker(rows[0].config, rows[0].side)()
    plain, _ = clean.reset(seed=0)
    assert clean.distraction is None
    assert clean.background is None
    for row in rows[1:]:
        env = build.environment_maker(row.config, row.side)()
        for seed in (0, 1):  # a wandering corruption may begin with nothing
            differs = (env.reset(seed=seed)[0] != plain).any()
            if differs:
                break
        assert differs, row.key
        env.close()


@pytest.mark.parametrize(
    "name",
    ["dcs_easy", "dcs_medium", "dcs_hard"]
    + [f"dmc_gb_{kind}_{level}" for kind in ("color", "video") for level in ("easy", "hard")],
)
def test_presets_are_read_by_train(name):
    config = runs.read(["--task", "walker-walk", "--config", f"protocol_{name}"], cuda=False)
    assert config.distracted


def test_shares_and_their_intervals():
    clean = Scores([100.0, 200.0, 300.0, 400.0, 500.0], FILM)
    half = Scores([50.0, 100.0, 150.0, 200.0, 250.0], FILM)
    assert protocols.share(half, clean) == (0.5, pytest.approx((0.5, 0.5)))  # episodes are pairs
    value, ends = protocols.share(Scores([0.0, 100.0, 300.0, 300.0, 50.0], FILM), clean)
    assert value == 0.5
    assert 0.1 < ends[0] < 0.45
    assert 0.55 < ends[1] < 0.9
    few = Scores([1.0, 2.0], FILM)
    assert protocols.share(few, few) == (1.0, None)
    nothing = Scores([0.0] * 5, FILM)
    value, ends = protocols.share(half, nothing)
    assert np.isnan(value)
    assert ends is None


def test_the_table_has_a_line_for_each_kind():
    clean = Scores([100.0, 200.0, 300.0, 400.0, 500.0], FILM)
    half = Scores([50.0, 100.0, 150.0, 200.0, 250.0], FILM)
    results = {("clean", ""): clean, ("video", "easy"): half, ("video", "hard"): clean}
    lines = protocols.table(results).splitlines()
    assert lines[1].startswith("clean: 300.0 [")
    assert lines[2].split() == ["easy", "hard"]
    assert lines[3].startswith("video")
    assert "150.0 [" in lines[3]
    assert "50 % [50, 50]" in lines[3]
    assert "100 % [100, 100]" in lines[3]


def test_a_protocol_writes_its_files(tmp_path, capsys):
    words = [str(word) for word in SMALL]
    config = runs.read([*words, "--environment.time_limit", "8"], cuda=False)
    config = replace(config, background=BackgroundConfig("none"))
    agent = build.make_agent(config, build.action_space(config), "cpu")
    asked = EvalConfig("run", episodes=1, protocol="dmc_gb", background=("clean",))
    results = protocols.measure(asked, config, agent, 123, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"protocol.json", "protocol.png", protocols.EVENTS}
    assert all(own_files.NAMES.fullmatch(name) for name in names)
    written = json.loads((tmp_path / "protocol.json").read_text())
    assert (written["env_frame"], written["protocol"], written["side"]) == (
        123,
        "dmc_gb",
        "heldout",
    )
    assert len(written["rows"]) == len(results) == 5
    assert written["rows"][1]["returns"] == results["dmc_gb color", "easy"].returns
    board = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    (point,) = board.Scalars("protocol/dmc_gb_video_hard/return")
    assert (point.step, point.value) == (123, pytest.approx(results["dmc_gb video", "hard"].mean))
    assert board.Images("protocol/frames")[0].width > 200
    said = capsys.readouterr()
    assert "dmc_gb color" in said.out
    assert "clips, the held-out side of starter" in said.out
    assert "severities of up to 100 clips" in said.err


def test_a_protocol_plays_the_skill_that_is_asked_for(monkeypatch, tmp_path):
    class Played(Exception):
        """The policy of the first row."""

    def play(maker, policy, *_):
        raise Played(policy)

    heard = []
    agent = SimpleNamespace(
        device=torch.device("cpu"),
        skills=Skills(SkillConfig(size=2)),
        initial_state=lambda number: number,
        act=lambda *_, commander, explore: (heard.append(commander), None),
    )
    monkeypatch.setattr(protocols, "play", play)
    for skill, expected in ((-1, None), (12, [[0, 1]] * 3)):  # a quarter of 48 directions
        asked = EvalConfig("run", protocol="corruption", background=("clean",), skill=skill)
        with pytest.raises(Played) as played:
            protocols.measure(asked, own("walker-walk"), agent, 0, tmp_path)
        act, memory = played.value.args[0](SimpleNamespace(num_envs=3))
        act(memory, np.zeros(3), np.ones(3))
        held = heard.pop()
        assert (
            expected is None if held is None else np.allclose(held.condition, expected, atol=1e-6)
        )


def test_a_protocol_for_another_environment_is_refused():
    config = runs.read(["--task", "gymnasium:Hopper-v5"], cuda=False)
    with pytest.raises(UserError, match=r"tasks of dm_control's suite: --protocol"):
        protocols.check(EvalConfig("run", protocol="dcs"), config)
    placed = own("walker-walk", "--environment.floor", "place")
    for name in ("dmc_gb", "all"):
        with pytest.raises(UserError, match="tell this run the place: --protocol: choose dcs or"):
            protocols.check(EvalConfig("run", protocol=name), placed)
    for name in ("dcs", "corruption"):
        protocols.check(EvalConfig("run", protocol=name, background=("clean",)), placed)
        assert len(by_key(name, placed)) > 12
    several = EvalConfig("run", protocol="dcs", background=("clean", "heldout"))
    with pytest.raises(UserError, match="of one background"):
        protocols.check(several, own())


def test_clips_that_are_gone_are_missed_before_the_first_episode(tmp_path):
    config = replace(own(), background=BackgroundConfig(str(tmp_path / "gone")))
    with pytest.raises(UserError, match="the run's clips are not there any more"):
        protocols.check(EvalConfig("run", protocol="dcs", background=("clean",)), config)


@pytest.mark.parametrize("protocol", ["none", "dmc_gb"])
def test_a_protocol_that_has_no_static_version_refuses_one(protocol):
    words = ["run", "--protocol", protocol, "--dynamic", "false"]
    with pytest.raises(UserError, match="with --protocol dcs, corruption or all"):
        options.parse(EvalConfig, words, None, "run", "")
    words[2] = "all"
    assert options.parse(EvalConfig, words, None, "run", "").dynamic is False


def test_the_clips_of_a_protocol():
    bare, filmed = own(), replace(own(), background=BackgroundConfig("procedural"))
    noisy = own("walker-walk", "--distraction.noise", "3")
    sides = [clips.named(("auto",), config) for config in (bare, noisy, filmed)]
    assert sides == [("clean",), ("heldout",), ("heldout",)]
    asked = EvalConfig("run", protocol="dcs", background=("heldout",))
    clean = replace(asked, background=("clean",))
    assert protocols.clips_of(asked, noisy) == ("heldout", BackgroundConfig())
    assert protocols.clips_of(clean, bare) == ("heldout", BackgroundConfig())
    assert protocols.clips_of(clean, filmed) == ("heldout", filmed.background)
    assert protocols.clips_of(asked, filmed) == ("heldout", filmed.background)
    train = replace(asked, background=("train",))
    assert protocols.clips_of(train, filmed) == ("train", filmed.background)
