"""Test the text of --help, and the answers to options of other programs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from foreground.configs import run as runs
from foreground.configs.manual import ELSEWHERE, FIRST
from foreground.errors import UserError
from foreground.training.options import leaves, parse
from tests.support.train_options import Train, write_presets


@pytest.fixture
def presets(tmp_path) -> Path:
    return write_presets(tmp_path)


def test_help(presets, capsys):
    with pytest.raises(SystemExit) as end:
        parse(Train, ["--frames", "3", "--help"], presets)
    assert end.value.code == 0
    text = capsys.readouterr().out
    for sentence in (
        "Train an agent.",
        "Options of world_model: The world model.\n",
        "--world_model.strides  whole numbers like 1,2,3",
        "Size of the deterministic state. Must be at least 1 and at most 4096. Default: 128.",
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
    assert re.search(
        r"--training\.batch_size a whole number .{,80} Value: 8, by size_cpu\.yaml\.", text
    )
    assert "Value: 7, by --seed." in text
    assert "--size a text" in text
    assert "Value: cpu, by --size." in text
    assert "Usage: python train.py [--option value ...]" in text
    assert "Value: cpu, by default (auto)." in helped(capsys, "--device", "cpu")
    assert "Value: 12m, by after" not in text
    assert re.search(
        r"--training\.batch_size a whole number .{,80} Value: 16, by size_12m\.yaml\.",
        helped(capsys, "--size", "12m"),
    )
    assert "Value: contrastive=1.0,predictability=1.0,reward=20.0, by c_dreamer.yaml" in helped(
        capsys, "--agent", "c_dreamer"
    )


def test_help_shows_values_that_follow_from_others(capsys):
    words = ["--size", "cpu", "--task", "cartpole-swingup"]
    repeat = runs.read(words, cuda=False).environment.action_repeat
    assert repeat > 0
    assert re.search(
        rf"--environment\.action_repeat .{{,150}} Value: {repeat}, by the other options\.",
        helped(capsys, *words),
    )
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
    assert (
        "Options of world_model.contrastive: Contrastive term"
        " (read with the information term contrastive)" in long
    )
    assert "contrastive.estimator is nce, nwj, mi_alpha or cmim. Default: 0.1." in long
    assert "Read by every agent but hierarchical. Default: 0.5." in long
    assert set(FIRST) <= set(keys)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("env", "--task"),
        ("env_id", "--task"),
        ("learning_rate", "--optimiser.model_lr"),
        ("lr", "--optimiser.model_lr"),
        ("total_timesteps", "--total_frames"),
        ("total-timesteps", "--total_frames"),
        ("steps", "--total_frames"),
        ("num_envs", "--environment.num_envs"),
        ("wandb", "TensorBoard"),
        ("batch_size", "did you mean --training.batch_size?"),
        ("sed", "did you mean --seed?"),
        ("skill.count", "choose one of --skill.size, --skill.kind, --skill.duration"),
        ("skills.count", "choose one of --skill.size, --skill.kind, --skill.duration"),
        ("skil.size", "did you mean --skill.size?"),
        ("learning_rat", "--optimiser.model_lr"),
        ("world_model.learning_rate", "--optimiser.model_lr"),
        ("model_lrr", "did you mean --optimiser.model_lr?"),
        ("training.batchsize", "did you mean --training.batch_size?"),
        ("anything.batch_size", "did you mean --training.batch_size?"),
        ("rssm.groups", "did you mean --world_model.rssm.groups?"),
        ("world_model", "name an option of it, like --world_model."),
        ("world_model.zzz", ": see --help all"),
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


def test_help_for_a_reader_that_is_gone(presets):
    code = "from tests.support.train_options import Train\n"
    code += "from foreground.training.options import parse\n"
    code += f"parse(Train, ['--help'], {str(presets)!r})"
    for stream in (">&-", "| true"):
        shell = [
            "bash",
            "-c",
            f'set -o pipefail; "$0" -W ignore -c "$1" {stream}',
            sys.executable,
            code,
        ]
        done = subprocess.run(shell, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        assert "Traceback" not in done.stderr
