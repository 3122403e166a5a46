"""Test options: precedence, one-line errors with place and nearest name, the round trip."""

import copy
import dataclasses
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from foreground.errors import UserError
from foreground.option import config_class, option
from foreground.training.options import differences, from_dict, load_yaml, parse, to_dict, to_yaml
from foreground.training.values import shown
from tests.support.train_options import Model, Train, error, read, write_presets


@pytest.fixture
def presets(tmp_path) -> Path:
    return write_presets(tmp_path)


def test_defaults(presets):
    assert parse(Train, [], presets) == Train()


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
        critic=Model(learning_rate=1e-3),
    )
    assert isinstance(config.frames, int)
    assert read(presets, "--limit", "none").limit is None


def test_precedence(presets):
    config = read(
        presets,
        *(
            "--world_model.deterministic",
            "8",
            "--config",
            "smaller",
            "--config",
            "rewards",
            "--critic.strides",
            "3",
        ),
    )
    assert config.world_model == Model(deterministic=8, strides=(4,))
    assert config.critic == Model(strides=(3,))
    assert config.rewards == {"task": 1.0, "empowerment": 0.1}
    assert (config.frames, config.limit) == (1000, 7)
    assert read(presets, "--config", "smaller", "--config", "small").world_model.deterministic == 32
    assert read(presets, "--config", str(presets / "small.yaml")).world_model.deterministic == 32


def test_positional(presets):
    assert (
        parse(Train, ["cup-catch", "--frames", "5"], presets, positional="task").task == "cup-catch"
    )


@pytest.mark.parametrize(
    "argv",
    [["--compile"], ["--compile", "--frames", "3"], ["--compile", "true"], ["--compile=true"]],
)
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
        (
            ["--world_model.objective.contrastive.source", "1"],
            ["unknown option --world_model.objective.contrastive.source: "],
        ),
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
        (
            ["--world_model.strides", "1,1e20"],
            ["--world_model.strides", "at most 9007199254740992"],
        ),
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
        (
            "world_model:\n  determinstic: 3",
            ["bad.yaml: world_model", "did you mean deterministic?"],
        ),
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
        (
            "frames: 0x" + "f" * 6000,
            ["bad.yaml, line 1", "longer than"],
        ),  # Python reads it and does not print it
        ("base: 0x" + "f" * 6000, ["bad.yaml, line 1", "longer than"]),
        ("frames: " + ":".join(["59"] * 400) + ".0", ["bad.yaml, line 1", "longer than"]),
        ("frames: 1_0" + "0" * 30, ["bad.yaml: frames", "at most 9007199254740992"]),
        ("x: !!bool foo", ["bad.yaml, line 1", "'foo' is no bool"]),
        ("\nx: !!int ''", ["bad.yaml, line 2", "'' is no int"]),
        ("x: !!float ''", ["bad.yaml, line 1", "'' is no float"]),
        ("x: !!timestamp foo", ["bad.yaml, line 1", "'foo' is no timestamp"]),
        ("!!map foo", ["bad.yaml, line 1", "expected a mapping"]),
        (
            "world_model: &a {deterministic: 8}\ncritic: {<<: *a}",
            ["bad.yaml, line 2", "<< is not taken"],
        ),
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


def test_a_required_option(presets, capsys):
    @config_class
    class Evaluate:
        run: str = option(help="The run folder.")

    with pytest.raises(UserError, match=r"must be given is missing.*run"):
        parse(Evaluate, [], presets)
    assert parse(Evaluate, ["--run", "x"], presets).run == "x"
    with pytest.raises(SystemExit):
        parse(Evaluate, ["--help"], presets)
    assert "Must be given." in capsys.readouterr().out


def test_round_trip_and_differences(presets):
    config = read(presets, "--config", "smaller", "--rewards", "a=0.1,b=1e-9", "--limit", "3")
    assert from_dict(Train, to_dict(config)) == config
    assert from_dict(Train, yaml.safe_load(to_yaml(config))) == config
    (presets / "saved.yaml").write_text(to_yaml(config))
    assert from_dict(Train, load_yaml(presets / "saved.yaml")) == config
    other = dataclasses.replace(
        config, frames=77, world_model=dataclasses.replace(config.world_model, strides=(9,))
    )
    assert differences(config, other) == ["frames", "world_model.strides"]
    assert differences(config, config) == []
    with pytest.raises(UserError, match=r"config\.yaml: world_model: did you mean strides"):
        from_dict(Train, {"world_model": {"stride": 1}}, "config.yaml")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"frames": 0}, "greater than or equal to 1"),
        ({"frames": 1.5}, "valid integer"),
        ({"frames": "3"}, "valid integer"),
        ({"frames": True}, "valid integer"),
        ({"frames": 2**60}, "less than or equal to 9007199254740992"),
        ({"scale": float("nan")}, "finite number"),
        ({"agent": "infopwer"}, "one of infopower, dreamer"),
        ({"rewards": {"task": -1.0}}, "greater than or equal to 0"),
        ({"task": "a\nb"}, "isprintable"),
        ({"world_model": {"deterministic": 8}}, "instance of Model"),
        ({"frame": 3}, "Unexpected keyword"),
    ],
)
def test_values_are_checked_in_python_too(change, problem):
    with pytest.raises(ValidationError, match=problem):
        Train(**change)
    if "frame" not in change:
        with pytest.raises(ValidationError, match=problem):
            dataclasses.replace(Train(), **change)


def test_a_config_is_copied_and_sent_to_other_processes():
    config = Train(rewards={"task": 2.0}, world_model=Model(strides=(3, 1)))
    for made in (
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        dataclasses.replace(config),
    ):
        assert made == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.frames = 3


def test_defaults_are_not_shared():
    Train().rewards["task"] = 5.0
    assert Train().rewards == {"task": 1.0}


@config_class
class Paths:
    place: str = option("", "A folder.", path=True)
    places: tuple[str, ...] = option((), "Some folders.", path=True)
    text: str = option("", "No path.")


def test_the_home_folder_is_known_in_every_path(presets, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    read = parse(Paths, ["--place=~/r", "--places", "~/a,b,~/c", "--text", "~/t"], presets)
    assert read == Paths("/home/me/r", ("/home/me/a", "b", "/home/me/c"), "~/t")
    (presets / "mine.yaml").write_text("place: ~/x\nplaces: [~/y]\n")
    monkeypatch.setenv("HOME", str(presets))
    assert parse(Paths, ["--config", "~/mine.yaml"], "nowhere") == Paths(
        f"{presets}/x", (f"{presets}/y",)
    )


def test_a_comma_behind_a_backslash_is_part_of_a_name(presets):
    places = ("/x/my,clips", "clean")
    read = parse(Paths, ["--places", r"/x/my\,clips, clean"], presets)
    assert read.places == places
    assert from_dict(Paths, yaml.safe_load(to_yaml(read))) == read
    assert parse(Paths, ["--places", shown(places)], presets) == read
    assert parse(Paths, ["a,b", "c"], presets, positional="places").places == ("a,b", "c")


def test_any_command_line_gives_a_config_or_one_line(presets):
    rng = random.Random(0)
    keys = [
        "task",
        "agent",
        "rewards",
        "compile",
        "frames",
        "limit",
        "world_model.strides",
        "config",
        "world_model",
    ]
    texts = [
        "",
        "1",
        "-1",
        "0.5",
        "nan",
        "true",
        "a=1",
        "a=b,",
        ",",
        "=",
        "1,2",
        "small",
        "none",
        "\0",
        "\udc80",
    ]
    outcomes = set()
    for _ in range(3000):
        argv = []
        for _ in range(rng.randrange(4)):
            argv += [f"--{rng.choice(keys)}", *rng.choices(texts, k=rng.choice((1, 1, 1, 1, 0, 2)))]
        try:
            outcomes.add(type(parse(Train, argv, presets)))
        except UserError as mistake:
            outcomes.add(UserError if str(mistake).isprintable() else repr(argv))
    assert outcomes == {Train, UserError}


def test_imports_no_torch():
    code = "import sys, foreground.training.options; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
