"""Options: precedence, strictness in one line with the place and the nearest name, help, and the round trip."""

import dataclasses
import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from configs import run as runs
from configs.manual import ELSEWHERE, FIRST
from errors import UserError
from option import option
from training.options import differences, from_dict, help_text, leaves, load_yaml, parse, to_dict, to_yaml, value_of
from training.values import shown


@dataclass(frozen=True)
class Model:
    deterministic: int = option(128, help="Size of the deterministic state.", ge=1, le=4096)
    strides: tuple[int, ...] = option((2, 2), help="Strides of the encoder.", ge=1)
    learning_rate: float = option(1e-4, help="Step size.", gt=0, lt=1)


@dataclass(frozen=True)
class Train:
    """Train an agent."""

    task: str = option("walker-walk", help="The task.")
    agent: str = option("infopower", help="The agent.", choices=("infopower", "dreamer"))
    rewards: dict[str, float] = option({"task": 1.0}, help="Weight of each reward.", ge=0)
    compile: bool = option(False, help="Compile the step functions.")
    frames: int = option(1000, help="Env frames of the run.", ge=1)
    limit: int | None = option(None, help="Stop early.", ge=0)
    offset: int = option(0, help="Any whole number.")
    scale: float = option(1.0, help="Any number.")
    world_model: Model = option(Model, help="The world model.")
    critic: Model = option(Model(deterministic=64), help="A section with defaults of its own.")

    def __post_init__(self):
        if self.limit is not None and self.limit > self.frames:
            raise ValueError("limit is larger than frames")


@pytest.fixture
def presets(tmp_path) -> Path:
    (tmp_path / "small.yaml").write_text("# A small world model.\nworld_model:\n  deterministic: 32\n  strides: [4]\n")
    (tmp_path / "smaller.yaml").write_text("base: small\nworld_model:\n  deterministic: 16\nframes: 1e3\n")
    (tmp_path / "rewards.yaml").write_text("rewards:\n  task: 1\n  empowerment: 1e-1\nlimit: 7\n")
    return tmp_path


def read(presets: Path, *argv: str) -> Train:
    return parse(Train, list(argv), presets)[0]


def error(presets: Path, *argv: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(Train, list(argv), presets)
    message = str(caught.value)
    assert message.startswith("error: ")
    assert message.isprintable()
    assert caught.value.exit_code == 2
    return message


def test_defaults(presets):
    config, provenance = parse(Train, [], presets)
    assert config == Train()
    assert config.critic.deterministic == 64
    assert set(provenance.values()) == {"default"}


def test_flags_of_every_type(presets):
    config = read(
        presets,
        "--task",
        "cup-catch",
        "--rewards",
        "task=1,empowerment=0.1",
        "--compile",
        "true",
        "--frames=2e3",
        "--limit",
        "5",
        "--world_model.strides",
        "1,2,3",
        "--critic.learning_rate",
        "1e-3",
    )
    assert config == Train(
        task="cup-catch",
        rewards={"task": 1.0, "empowerment": 0.1},
        compile=True,
        frames=2000,
        limit=5,
        world_model=Model(strides=(1, 2, 3)),
        critic=Model(deterministic=64, learning_rate=1e-3),
    )
    assert isinstance(config.frames, int)
    assert read(presets, "--limit", "none").limit is None


def test_precedence_and_provenance(presets):
    config, provenance = parse(
        Train,
        ["--world_model.deterministic", "8", "--config", "smaller", "--config", "rewards", "--critic.strides", "3"],
        presets,
    )
    assert config.world_model == Model(deterministic=8, strides=(4,))
    assert config.critic == Model(deterministic=64, strides=(3,))
    assert config.rewards == {"task": 1.0, "empowerment": 0.1}
    assert (config.frames, config.limit) == (1000, 7)
    assert provenance["world_model.deterministic"] == "--world_model.deterministic"
    assert Path(provenance["world_model.strides"]).name == "small.yaml"
    assert Path(provenance["frames"]).name == "smaller.yaml"
    assert provenance["task"] == "default"
    assert read(presets, "--config", "smaller", "--config", "small").world_model.deterministic == 32
    assert read(presets, "--config", str(presets / "small.yaml")).world_model.deterministic == 32


def test_positional(presets):
    assert parse(Train, ["cup-catch", "--frames", "5"], presets, positional="task")[0].task == "cup-catch"


@pytest.mark.parametrize("argv", [["--compile"], ["--compile", "--frames", "3"], ["--compile", "true"], ["--compile=true"]])
def test_a_switch_may_stand_alone(presets, argv):
    assert read(presets, *argv).compile is True


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--tsak", "x"], ["--tsak", "--task"]),
        (["--world_model.determinstic", "3"], ["--world_model.deterministic"]),
        (["--deterministic", "3"], ["--world_model.deterministic"]),
        (["--world-model.strides", "3"], ["--world_model.strides"]),
        (["--agent", "infopwer"], ["--agent", "did you mean infopower?"]),
        (["--frames", "0"], ["--frames", "at least 1"]),
        (["--frames", "1.5"], ["--frames", "a whole number"]),
        (["--frames", "true"], ["--frames", "a whole number"]),
        (["--frames", "9" * 6000], ["--frames"]),
        (["--world_model.learning_rate", "nan"], ["--world_model.learning_rate", "a number"]),
        (["--world_model.learning_rate", "1"], ["more than 0 and less than 1"]),
        (["--world_model.learning_rate", "0"], ["more than 0 and less than 1"]),
        (["--world_model.strides", "1,x"], ["--world_model.strides", "a whole number"]),
        (["--world_model.strides", "1,0"], ["at least 1"]),
        (["--compile", "yes"], ["--compile", "true or false"]),
        (["--frames"], ["--frames", "value is missing"]),
        (["--frames", "--compile", "true"], ["--frames", "value is missing"]),
        (["--rewards", "task"], ["--rewards", "task=1"]),
        (["--rewards", "task=-1"], ["at least 0"]),
        (["--task", "a\nb"], ["--task"]),
        (["walker"], ["walker", "--option value"]),
        (["--config", "smal"], ["--config", "did you mean small?"]),
        (["--config", "../small"], ["--config"]),
        (["--config"], ["--config", "a preset"]),
        (["--world_model", "3"], ["--world_model"]),
        (["--limit", "2000"], ["limit is larger than frames"]),
        (["--frames", "1e20"], ["--frames", "at most 9007199254740992"]),
        (["--frames", "9" * 25], ["--frames", "at most 9007199254740992"]),
        (["--offset", "-1e20"], ["--offset", "at least -9007199254740992"]),
        (["--scale", "1e300"], ["--scale", "at most 3.4e+38"]),
        (["--scale", "-1e300"], ["--scale", "at least -3.4e+38"]),
        (["--rewards", "task=1,other=1e39"], ["--rewards", "at most 3.4e+38"]),
        (["--world_model.strides", "1,1e20"], ["--world_model.strides", "at most 9007199254740992"]),
    ],
)
def test_flag_mistakes(presets, argv, words):
    message = error(presets, *argv)
    assert all(word in message for word in words), message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("world_modle: {}", ["bad.yaml", "world_model"]),
        ("world_model:\n  determinstic: 3", ["bad.yaml: world_model", "did you mean deterministic?"]),
        ("world_model: 3", ["bad.yaml: world_model", "not a section"]),
        ("frames: -1", ["bad.yaml: frames", "at least 1"]),
        ("frames: [1]", ["bad.yaml: frames", "a whole number"]),
        ("frames: true", ["bad.yaml: frames"]),
        ("compile: 1", ["bad.yaml: compile"]),
        ("task: {a: 1}", ["bad.yaml: task"]),
        ("rewards: {task: .nan}", ["bad.yaml: rewards"]),
        ("rewards: {1: 2}", ["bad.yaml: rewards"]),
        ("frames: 3\nframes: 4", ["bad.yaml, line 2", "twice"]),
        ("frames: [", ["bad.yaml, line 1"]),
        ("- 1", ["bad.yaml"]),
        ("? [a, b]\n: 1", ["bad.yaml"]),
        ("!!python/object/apply:os.system ['true']", ["bad.yaml"]),
        ("base: bad", ["bad.yaml", "each other"]),
        ("base: [1]", ["--config"]),
        ("a: &x [*x]\nframes: *x", ["bad.yaml"]),
        ("task: " + "[" * 1500, ["bad.yaml"]),
        ("task: 2024-99-99", ["bad.yaml"]),
        ("frames: " + "9" * 6000, ["bad.yaml, line 1", "longer than"]),
        ("frames: 0x" + "f" * 6000, ["bad.yaml, line 1", "longer than"]),  # Python reads it and does not print it
        ("base: 0x" + "f" * 6000, ["bad.yaml, line 1", "longer than"]),
        ("frames: " + ":".join(["59"] * 400) + ".0", ["bad.yaml, line 1", "longer than"]),
        ("frames: 1_0" + "0" * 30, ["bad.yaml: frames", "at most 9007199254740992"]),
        ("x: !!bool foo", ["bad.yaml, line 1", "'foo' is no bool"]),
        ("\nx: !!int ''", ["bad.yaml, line 2", "'' is no int"]),
        ("x: !!float ''", ["bad.yaml, line 1", "'' is no float"]),
        ("x: !!timestamp foo", ["bad.yaml, line 1", "'foo' is no timestamp"]),
        ("!!map foo", ["bad.yaml, line 1", "expected a mapping"]),
        ("world_model: &a {deterministic: 8}\ncritic: {<<: *a}", ["bad.yaml, line 2", "<< is not taken"]),
        ("\udcff", ["bad.yaml"]),
    ],
)
def test_preset_mistakes(presets, text, words):
    (presets / "bad.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    message = error(presets, "--config", "bad")
    assert all(word in message for word in words), message
    assert len(message) < 500 + len(str(presets))


def test_a_preset_runs_no_code_and_lies_in_its_folder(presets, monkeypatch):
    monkeypatch.chdir(presets)
    (presets / "bad.yaml").write_text("!!python/object/apply:os.mkdir ['executed']")
    error(presets, "--config", "bad")
    assert not (presets / "executed").exists()
    (presets / "inner").mkdir()
    with pytest.raises(UserError, match="unknown preset"):
        parse(Train, ["--config", "../small"], presets / "inner")


def test_a_preset_file_that_is_not_there(presets):
    message = error(presets, "--config", "nowhere/smal.yaml")
    assert "no such file" in message
    assert "did you mean small?" in message


def test_a_required_option(presets):
    @dataclass(frozen=True)
    class Evaluate:
        run: str = option(help="The run folder.")

    with pytest.raises(UserError, match=r"must be given is missing.*run"):
        parse(Evaluate, [], presets)
    assert parse(Evaluate, ["--run", "x"], presets)[0].run == "x"
    assert "Must be given." in help_text(Evaluate, presets)


def test_round_trip_and_differences(presets):
    config = read(presets, "--config", "smaller", "--rewards", "a=0.1,b=1e-9", "--limit", "3")
    assert from_dict(Train, to_dict(config)) == config
    assert from_dict(Train, yaml.safe_load(to_yaml(config))) == config
    (presets / "saved.yaml").write_text(to_yaml(config))
    assert from_dict(Train, load_yaml(presets / "saved.yaml")) == config
    other = dataclasses.replace(config, frames=77, world_model=dataclasses.replace(config.world_model, strides=(9,)))
    assert differences(config, other) == ["frames", "world_model.strides"]
    assert differences(config, config) == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.frames = 3
    with pytest.raises(UserError, match=r"config\.yaml: world_model: did you mean strides"):
        from_dict(Train, {"world_model": {"stride": 1}}, "config.yaml")


def test_defaults_are_not_shared():
    Train().rewards["task"] = 5.0
    assert Train().rewards == {"task": 1.0}


def test_help(presets, capsys):
    with pytest.raises(SystemExit) as end:
        parse(Train, ["--frames", "3", "--help"], presets)
    assert end.value.code == 0
    text = capsys.readouterr().out
    for sentence in (
        "Train an agent.",
        "Options of world_model: The world model.\n",
        "--world_model.strides  whole numbers like 1,2,3",
        "Size of the deterministic state. Must be at least 1 and at most 4096. Default: 64.",
        "One of infopower, dreamer. Default: infopower.",
        "Default: task=1.0.",
        "Default: none.",
        "A small world model.",
    ):
        assert sentence in text, sentence


def helped(capsys, *argv: str) -> str:
    """What train.py --help says, its lines joined."""
    with pytest.raises(SystemExit) as end:
        runs.read([*argv, "--help"] if "--help" not in argv else list(argv), cuda=False)
    assert end.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_shows_what_this_command_line_would_use(capsys):
    text = helped(capsys, "--size", "cpu", "--seed", "7")
    assert re.search(r"--training\.batch_size a whole number .{,80} Value: 8, by size_cpu\.yaml\.", text)
    assert "Value: 7, by --seed." in text
    assert "--size a text" in text
    assert "Value: 12m, by after" not in text
    assert re.search(
        r"--training\.batch_size a whole number .{,80} Value: 16, by size_12m\.yaml\.", helped(capsys, "--size", "12m")
    )
    assert "Value: contrastive=1.0,predictability=1.0,reward=20.0, by c_dreamer.yaml" in helped(capsys, "--agent", "c_dreamer")


def test_help_shows_values_that_follow_from_others(capsys):
    words = ["--size", "cpu", "--task", "cartpole-swingup"]
    repeat = runs.read(words, cuda=False)[0].environment.action_repeat
    assert repeat > 0
    assert re.search(rf"--environment\.action_repeat .{{,150}} Value: {repeat}, by the other options\.", helped(capsys, *words))
    text = helped(capsys, *words, "--environment.action_repeat", str(repeat + 3))
    assert f"Value: {repeat + 3}, by --environment.action_repeat." in text


def test_help_has_what_people_touch_first_and_all_when_asked(capsys):
    short, long = helped(capsys), helped(capsys, "--help", "all")
    options = re.findall(r" --([\w.]+) ", short.partition("Tasks, for")[0])
    assert 20 <= len(set(options) - {"help"}) <= 30
    assert "more with --help all" in short
    assert "--world_model.kl_balance" not in short
    assert "Tasks, for --task: acrobot-swingup, " in short
    assert "walker-run" in short
    for agent in runs.AGENTS:
        assert f" {agent} " in short.partition("Agents, for --agent:")[2]
    keys = leaves(runs.RunConfig)
    assert all(f"--{key} " in long for key in keys)
    assert "Options of world_model.contrastive: Contrastive term (read with the information term contrastive)" in long
    assert "Read where --world_model.contrastive.bound is nce or nwj. Default: 0.1." in long
    assert "Read by every agent but hierarchical. Default: 0.5." in long
    assert set(FIRST) <= set(keys)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("env", "--task"),
        ("env_id", "--task"),
        ("learning_rate", "--optimiser.model_rate"),
        ("lr", "--optimiser.model_rate"),
        ("total_timesteps", "--frames"),
        ("total-timesteps", "--frames"),
        ("steps", "--frames"),
        ("num_envs", "--environment.number"),
        ("wandb", "TensorBoard"),
        ("batch_size", "did you mean --training.batch_size?"),
        ("sed", "did you mean --seed?"),
        ("quantum_flux", ": see --help all"),
        ("zzz", ": see --help all"),
    ],
)
def test_options_of_other_programs_have_an_answer_and_nothing_is_guessed(name, answer):
    with pytest.raises(UserError) as caught:
        runs.read([f"--{name}", "1"], cuda=False)
    assert answer in str(caught.value)


def test_every_answer_names_options_that_exist_and_stands_for_none_that_does():
    keys = leaves(runs.RunConfig)
    for names, answer in ELSEWHERE.items():
        assert not set(names) & set(keys)
        assert [key for key in re.findall(r"--([\w.]+\w)", answer) if key not in keys] == []


@pytest.mark.parametrize(
    ("agent", "key", "value", "when"),
    [
        ("dreamer", "world_model.contrastive.bound", "nwj", "the information term contrastive"),
        ("dreamer", "world_model.objective.minimum", "2", "constraint names terms"),
        ("dreamer", "world_model.empowerment.units", "64", "the information term empowerment"),
        ("dreamer", "world_model.picture_frames", "7", "without the information term reconstruction"),
        ("infopower", "discovery.units", "64", "discovery is among --actor_critic.rewards"),
        ("infopower", "modes.round", "3", "agents with modes"),
        ("infopower", "skill.hold", "10", "agents with skills"),
        ("infopower", "hierarchy.units", "64", "agent hierarchical"),
        ("infopower", "family.speeds", "1,2", "--family.kind is speed"),
        ("mra", "family.number", "3", "--family.kind is dynamics"),
        ("infopower", "evaluation.latent_episodes", "8", "--evaluation.latent is true"),
        ("infopower", "evaluation.skills", "0", "agents with skills"),
        ("infopower_redundancy", "world_model.contrastive.temperature", "1", "bound is nce or nwj"),
        ("diayn", "discovery.multiplier", "2", "--discovery.form is wasserstein"),
        ("infopower", "world_model.rssm.gaussian_size", "8", "latent is gaussian"),
        ("infopower_paper", "world_model.rssm.groups", "8", "latent is categorical"),
        ("infopower", "background.heldout_fraction", "0.5", "--background.source is a path"),
        ("infopower", "background.skip_damaged", "true", "--background.source is a path"),
        ("mra", "optimiser.average", "0.9", "those with modes"),
        ("slim", "actor_critic.replay_value", "0.3", "without skills"),
    ],
)
def test_an_option_that_the_agent_does_not_read_is_refused(tmp_path, agent, key, value, when):
    words = ["--agent", agent, "--size", "cpu"]
    with pytest.raises(UserError) as caught:
        runs.read([*words, f"--{key}", value], cuda=False)
    assert f"{key} is not read with these options: --{key}: leave it out; it is read" in str(caught.value)
    assert when in str(caught.value)
    nested = value
    for name in reversed(key.split(".")):
        nested = {name: nested}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(nested))
    with pytest.raises(UserError, match=f"mine.yaml: {key}: leave it out"):
        runs.read([*words, "--config", str(tmp_path / "mine.yaml")], cuda=False)
    assert value_of(runs.read(words, cuda=False, ours=[f"--{key}", value])[0], key) is not None


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
    with pytest.raises(UserError, match=f"{key} is not read.*leave it out; it is read where --background.source is not none"):
        runs.read([*words, "none"], cuda=False)
    for source in ("starter", "procedural", "agent:walker-walk", "/some/folder"):
        assert shown(value_of(runs.read([*words, source], cuda=False)[0], key)) == value
    runs.read(["--config", "protocol_infopower", "--background.source", "none"], cuda=False)  # a preset is no choice


@pytest.mark.parametrize("source", ["none", "procedural", "agent:walker-walk"])
def test_a_split_is_asked_for_where_there_is_a_folder(source):
    words = ["--background.heldout_fraction", "0.5", "--background.source"]
    with pytest.raises(UserError, match=r"heldout_fraction is not read.*--background\.source is a path"):
        runs.read([*words, source], cuda=False)
    assert runs.read([*words, "videos"], cuda=False)[0].background.heldout_fraction == 0.5


def test_a_value_that_is_there_anyway_is_no_choice():
    runs.read(["--agent", "dreamer", "--size", "cpu", "--world_model.contrastive.bound", "nce"], cuda=False)
    runs.read(["--agent", "infopower", "--size", "cpu", "--actor_critic.gradient", "path"], cuda=False)
    with pytest.raises(UserError, match="feedback is not read"):
        runs.read(["--actor_critic.gradient", "score", "--actor_critic.feedback", "0"], cuda=False)
    runs.read(["--size", "cpu", "--actor_critic.feedback", "0"], cuda=False)  # the size's gradient is the path's


def test_a_config_that_was_written_with_options_that_nothing_reads_is_loaded(tmp_path):
    config = dataclasses.replace(runs.RunConfig(), agent="dreamer")
    mapping = to_dict(config)
    mapping["modes"]["round"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(mapping))
    assert runs.load(tmp_path).modes.round == 3


@dataclass(frozen=True)
class Paths:
    place: str = option("", "A folder.", path=True)
    places: tuple[str, ...] = option((), "Some folders.", path=True)
    text: str = option("", "No path.")


def test_the_home_folder_is_known_in_every_path(presets, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    read = parse(Paths, ["--place=~/r", "--places", "~/a,b,~/c", "--text", "~/t"], presets)[0]
    assert read == Paths("/home/me/r", ("/home/me/a", "b", "/home/me/c"), "~/t")
    (presets / "mine.yaml").write_text("place: ~/x\nplaces: [~/y]\n")
    monkeypatch.setenv("HOME", str(presets))
    assert parse(Paths, ["--config", "~/mine.yaml"], "nowhere")[0] == Paths(f"{presets}/x", (f"{presets}/y",))


@pytest.mark.parametrize("key", ["folder", "skills", "background.source"])
def test_the_paths_of_a_run_are_paths(key):
    assert leaves(runs.RunConfig)[key].metadata["path"]


def test_a_comma_behind_a_backslash_is_part_of_a_name(presets):
    places = ("/x/my,clips", "clean")
    read = parse(Paths, ["--places", r"/x/my\,clips, clean"], presets)[0]
    assert read.places == places
    assert from_dict(Paths, yaml.safe_load(to_yaml(read))) == read
    assert parse(Paths, ["--places", shown(places)], presets)[0] == read
    assert parse(Paths, ["a,b", "c"], presets, positional="places")[0].places == ("a,b", "c")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--world_model.rssm.blocks", "3"], ["256 is not a multiple of blocks 3", "world_model.rssm.blocks"]),
        (["--actor_critic.min_std", "2"], ["actor_critic.min_std", "less than 0.6"]),
        (["--actor_critic.max_std", "0.05"], ["actor_critic.min_std", "max_std 0.05", "less than 0.0495"]),
        (["--actor_critic.initial_std", "0.1"], ["actor_critic.min_std", "initial_std 0.1"]),
        (["--actor_critic.rewards", ""], ["actor_critic.rewards", "like task=1"]),
        (["--actor_critic.rewards", "task=-1"], ["--actor_critic.rewards", "at least 0"]),
        (["--world_model.objective.minimum", "10", "--world_model.objective.maximum", "1"], ["objective.minimum", "1.0 or"]),
        (["--frames", "600", "--training.batch_length", "301"], ["training.batch_length", "300 or less"]),
        (["--frames", "600", "--environment.number", "20"], ["training.batch_length", "15 or less"]),
        (["--frames", "2000"], ["training.prefill", "less than 2000"]),
        (["--environment.action_repeat", "20", "--environment.time_limit", "10"], ["longer than an episode", "10 or less"]),
        (["--environment.number", "65"], ["--environment.number", "at most 64"]),
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
        ("actor_critic.scale_floor", "1e300", "3.4e+38"),
        ("actor_critic.slow_every", "1e20", "9007199254740992"),
        ("modes.number", "4097", "4096"),
        ("skill.size", "4097", "4096"),
        ("family.number", "4097", "4096"),
        ("training.train_ratio", "1e30", "1000000.0"),
    ],
)
def test_a_size_that_no_machine_has_is_refused_with_its_bound(key, value, bound):
    with pytest.raises(UserError, match=rf"--{key}: give a value (.* and )?at most {re.escape(bound)}$"):
        runs.read(["--size", "cpu", f"--{key}", value], cuda=False)


@pytest.mark.parametrize("preset", sorted(path.stem for path in runs.PRESETS.glob("*.yaml")))
def test_presets_keep_within_the_bounds(preset):
    parse(runs.RunConfig, ["--config", preset], runs.PRESETS)


def test_help_for_a_reader_that_is_gone(presets):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += "from test_options import Train\nfrom training.options import parse\n"
    code += f"parse(Train, ['--help'], {str(presets)!r})"
    for stream in (">&-", "| true"):
        shell = ["bash", "-c", f'set -o pipefail; "$0" -W ignore -c "$1" {stream}', sys.executable, code]
        done = subprocess.run(shell, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
        assert "Traceback" not in done.stderr


def test_size_follows_the_device():
    assert runs.read([], cuda=True)[0].size == "12m"
    assert runs.read(["--device", "cpu"], cuda=True)[0].size == "cpu"
    assert runs.read([], cuda=False)[0].size == "cpu"


@pytest.mark.parametrize(
    ("task", "repeat"), [("cheetah-run", 4), ("cartpole-swingup", 4), ("walker-run", 2), ("reacher-easy", 2), ("fish-swim", 2)]
)
def test_action_repeat_and_train_ratio_follow_from_the_control_interval(task, repeat):
    config, _ = runs.read(["--size", "cpu", "--task", task], cuda=False)
    assert config.environment.action_repeat == repeat
    assert config.training.train_ratio == 8 * repeat
    chosen, _ = runs.read(["--size", "cpu", "--task", task, "--environment.action_repeat", "3"], cuda=False)
    assert (chosen.environment.action_repeat, chosen.training.train_ratio) == (3, 24)
    chosen, _ = runs.read(["--size", "cpu", "--task", task, "--training.train_ratio", "5"], cuda=False)
    assert (chosen.environment.action_repeat, chosen.training.train_ratio) == (repeat, 5)
    assert runs.by_rule(config) == config


def test_any_command_line_gives_a_config_or_one_line(presets):
    rng = random.Random(0)
    keys = ["task", "agent", "rewards", "compile", "frames", "limit", "world_model.strides", "config", "world_model"]
    texts = ["", "1", "-1", "0.5", "nan", "true", "a=1", "a=b,", ",", "=", "1,2", "small", "none", "\0", "\udc80"]
    outcomes = set()
    for _ in range(3000):
        argv = []
        for _ in range(rng.randrange(4)):
            argv += [f"--{rng.choice(keys)}", *rng.choices(texts, k=rng.choice((1, 1, 1, 1, 0, 2)))]
        try:
            outcomes.add(type(parse(Train, argv, presets)[0]))
        except UserError as mistake:
            outcomes.add(UserError if str(mistake).isprintable() else repr(argv))
    assert outcomes == {Train, UserError}


def test_imports_no_torch():
    code = "import sys, training.options; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
