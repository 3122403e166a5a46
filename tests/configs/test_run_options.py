"""Test options of a run: those its agent reads, paths, bounds, derived values."""

import dataclasses
import re

import pytest
import yaml

from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training.options import leaves, parse, to_dict, value_of
from foreground.training.values import shown


@pytest.mark.parametrize(
    ("agent", "key", "value", "when"),
    [
        ("dreamer", "world_model.contrastive.estimator", "nwj", "the information term contrastive"),
        ("dreamer", "world_model.objective.multiplier_min", "2", "constraint names terms"),
        ("dreamer", "world_model.empowerment.units", "64", "the information term empowerment"),
        (
            "dreamer",
            "world_model.decoder_frames",
            "7",
            "without the information term reconstruction",
        ),
        ("infopower", "discovery.units", "64", "discovery is among --actor_critic.rewards"),
        ("infopower", "modes.update_every", "3", "agents with modes"),
        ("infopower", "skill.duration", "10", "agents with skills"),
        ("infopower", "hierarchy.units", "64", "agent hierarchical"),
        ("infopower", "family.speeds", "1,2", "--family.kind is speed"),
        ("mra", "family.num_games", "3", "--family.kind is dynamics"),
        ("infopower", "evaluation.latent_episodes", "8", "--evaluation.latent is true"),
        ("infopower", "evaluation.num_skills", "0", "agents with skills"),
        (
            "infopower_redundancy",
            "world_model.contrastive.temperature",
            "1",
            "estimator is nce, nwj, mi_alpha or cmim",
        ),
        ("diayn", "discovery.multiplier_init", "2", "--discovery.kind is wasserstein"),
        ("infopower", "world_model.rssm.gaussian_size", "8", "latent is gaussian"),
        ("infopower_paper", "world_model.rssm.groups", "8", "latent is categorical"),
        ("infopower", "background.heldout_fraction", "0.5", "--background.source is a path"),
        ("infopower", "background.skip_damaged", "true", "--background.source is a path"),
        ("slim", "actor_critic.replay_value_coef", "0.3", "without skills"),
    ],
)
def test_an_option_that_the_agent_does_not_read_is_refused(tmp_path, agent, key, value, when):
    words = ["--agent", agent, "--size", "cpu"]
    with pytest.raises(UserError) as caught:
        runs.read([*words, f"--{key}", value], cuda=False)
    assert f"{key} is not read with these options: --{key}: leave it out; it is read" in str(
        caught.value
    )
    assert when in str(caught.value)
    nested = value
    for name in reversed(key.split(".")):
        nested = {name: nested}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(nested))
    with pytest.raises(UserError, match=f"mine.yaml: {key}: leave it out"):
        runs.read([*words, "--config", str(tmp_path / "mine.yaml")], cuda=False)
    assert value_of(runs.read(words, cuda=False, ours=[f"--{key}", value]), key) is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("background.window", "32"),
        ("background.redraw_every", "50"),
        ("background.grey", "true"),
        ("background.max_frames", "100"),
        ("background.max_bytes", "100000"),
        ("environment.mask", "sky"),
    ],
)
def test_what_needs_clips_is_refused_where_none_play(key, value):
    words = [f"--{key}", value, "--size", "cpu", "--background.source"]
    with pytest.raises(
        UserError,
        match=f"{key} is not read.*leave it out; it is read where --background.source is not none",
    ):
        runs.read([*words, "none"], cuda=False)
    for source in ("starter", "procedural", "agent:walker-walk", "/some/folder"):
        assert shown(value_of(runs.read([*words, source], cuda=False), key)) == value
    runs.read(
        ["--config", "protocol_infopower", "--background.source", "none"], cuda=False
    )  # a preset is no choice


@pytest.mark.parametrize("source", ["none", "procedural", "agent:walker-walk"])
def test_a_split_is_asked_for_where_there_is_a_folder(source):
    words = ["--background.heldout_fraction", "0.5", "--background.source"]
    with pytest.raises(
        UserError, match=r"heldout_fraction is not read.*--background\.source is a path"
    ):
        runs.read([*words, source], cuda=False)
    assert runs.read([*words, "videos"], cuda=False).background.heldout_fraction == 0.5


def test_a_value_that_is_there_anyway_is_no_choice():
    runs.read(
        ["--agent", "dreamer", "--size", "cpu", "--world_model.contrastive.estimator", "nce"],
        cuda=False,
    )
    runs.read(
        ["--agent", "infopower", "--size", "cpu", "--actor_critic.actor_grad", "both"],
        cuda=False,
    )
    with pytest.raises(UserError, match="policy_input_grad is not read"):
        runs.read(
            ["--actor_critic.actor_grad", "reinforce", "--actor_critic.policy_input_grad", "0"],
            cuda=False,
        )
    runs.read(
        ["--size", "cpu", "--actor_critic.policy_input_grad", "0"], cuda=False
    )  # the size's gradient is the path's


def test_a_config_that_was_written_with_options_that_nothing_reads_is_loaded(tmp_path):
    config = dataclasses.replace(runs.RunConfig(), agent="dreamer")
    mapping = to_dict(config)
    mapping["modes"]["update_every"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(mapping))
    assert runs.load(tmp_path).modes.update_every == 3


@pytest.mark.parametrize("key", ["folder", "init_from", "background.source"])
def test_the_paths_of_a_run_are_paths(key):
    assert leaves(runs.RunConfig)[key].metadata["path"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["--world_model.rssm.blocks", "3"],
            ["256 is not a multiple of blocks 3", "world_model.rssm.blocks"],
        ),
        (["--actor_critic.min_std", "2"], ["actor_critic.min_std", "less than 0.6"]),
        (
            ["--actor_critic.max_std", "0.05"],
            ["actor_critic.min_std", "max_std 0.05", "less than 0.0495"],
        ),
        (["--actor_critic.initial_std", "0.1"], ["actor_critic.min_std", "initial_std 0.1"]),
        (["--actor_critic.rewards", ""], ["actor_critic.rewards", "like task=1"]),
        (["--actor_critic.rewards", "task=-1"], ["--actor_critic.rewards", "at least 0"]),
        (
            [
                "--world_model.objective.multiplier_min",
                "10",
                "--world_model.objective.multiplier_max",
                "1",
            ],
            ["objective.multiplier_min", "1.0 or"],
        ),
        (
            ["--total_frames", "600", "--training.batch_length", "301"],
            ["training.batch_length", "300 or less"],
        ),
        (
            ["--total_frames", "600", "--environment.num_envs", "20"],
            ["training.batch_length", "15 or less"],
        ),
        (["--total_frames", "2000"], ["training.prefill", "less than 2000"]),
        (
            ["--environment.action_repeat", "20", "--environment.time_limit", "10"],
            ["longer than an episode", "10 or less"],
        ),
        (["--environment.num_envs", "65"], ["--environment.num_envs", "at most 64"]),
    ],
)
def test_values_that_do_not_go_together(argv, words):
    with pytest.raises(UserError) as caught:
        runs.read(["--size", "cpu", *argv], cuda=False)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("key", "value", "bound"),
    [
        ("world_model.units", "1e20", "65536"),
        ("world_model.layers", "1e29", "100"),
        ("world_model.random_shift", "1e20", "64"),
        ("world_model.free_nats", "1e300", "3.4e+38"),
        ("world_model.rssm.deterministic", "1e19", "65536"),
        ("world_model.rssm.blocks", "4097", "4096"),
        ("world_model.rssm.groups", "4097", "4096"),
        ("world_model.rssm.classes", "4097", "4096"),
        ("world_model.objective.pilot_updates", "1e19", "10000000"),
        ("world_model.objective.terms", "reward=1e39", "3.4e+38"),
        ("actor_critic.layers", "1000000", "100"),
        ("actor_critic.horizon", "1e29", "10000"),
        ("actor_critic.return_norm_min", "1e300", "3.4e+38"),
        ("actor_critic.target_update_every", "1e20", "9007199254740992"),
        ("modes.num_modes", "4097", "4096"),
        ("skill.size", "4097", "4096"),
        ("family.num_games", "4097", "4096"),
        ("training.train_ratio", "1e30", "1000000.0"),
    ],
)
def test_a_size_that_no_machine_has_is_refused_with_its_bound(key, value, bound):
    with pytest.raises(
        UserError, match=rf"--{key}: give a value (.* and )?at most {re.escape(bound)}$"
    ):
        runs.read(["--size", "cpu", f"--{key}", value], cuda=False)


@pytest.mark.parametrize("preset", sorted(path.stem for path in runs.PRESETS.glob("*.yaml")))
def test_presets_keep_within_the_bounds(preset):
    parse(runs.RunConfig, ["--config", preset], runs.PRESETS)


@pytest.mark.parametrize(
    ("key", "value", "answer"),
    [
        ("commander", "skil_prior", "did you mean skill_prior?"),
        ("learners", "model,imaginatio", "did you mean imagination?"),
        ("world_model.contrastive.estimator", "nwjj", "did you mean nwj?"),
        (
            "discovery.kind",
            "metra",
            "choose one of classifier, contrastive, lipschitz, temporal, wasserstein",
        ),
    ],
)
def test_a_name_that_its_registry_lacks_is_refused_with_the_options(key, value, answer):
    with pytest.raises(UserError, match=rf"unknown value .*: --{key}: ") as caught:
        runs.read(["--agent", "slim", "--size", "cpu", f"--{key}", value], cuda=False)
    assert answer in str(caught.value)


def test_size_follows_the_device():
    assert runs.read([], cuda=True).size == "12m"
    assert runs.read(["--device", "cpu"], cuda=True).size == "cpu"
    assert runs.read([], cuda=False).size == "cpu"


@pytest.mark.parametrize(
    ("task", "repeat"),
    [
        ("cheetah-run", 4),
        ("cartpole-swingup", 4),
        ("walker-run", 2),
        ("reacher-easy", 2),
        ("fish-swim", 2),
    ],
)
def test_action_repeat_and_train_ratio_follow_from_the_control_interval(task, repeat):
    config = runs.read(["--size", "cpu", "--task", task], cuda=False)
    assert config.environment.action_repeat == repeat
    assert config.training.train_ratio == 8 * repeat
    chosen = runs.read(
        ["--size", "cpu", "--task", task, "--environment.action_repeat", "3"], cuda=False
    )
    assert (chosen.environment.action_repeat, chosen.training.train_ratio) == (3, 24)
    chosen = runs.read(["--size", "cpu", "--task", task, "--training.train_ratio", "5"], cuda=False)
    assert (chosen.environment.action_repeat, chosen.training.train_ratio) == (repeat, 5)
    assert runs.by_rule(config) == config
