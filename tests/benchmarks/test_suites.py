"""Test suites and result files: one-line errors, and no partial files."""

import json
import re
from pathlib import Path

import pytest
import yaml

from benchmarks import (
    downstream,
    games,
    goals,
    latent,
    plane,
    plot,
    reading,
    regret,
    result_files,
    returns,
    skills,
    suite_check,
)
from foreground.configs import renamed
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training import options

SUITE = {
    "tasks": {"walker-stand": None},
    "agents": ["slim"],
    "backgrounds": {"clean": "none"},
    "seeds": [0],
    "processes": 1,
    "folder": "runs/tried",
    "options": "--family.heldout_speeds ''",
}


def written(place: Path, **changes) -> str:
    path = place / "tried.yaml"
    path.write_text(yaml.safe_dump(SUITE | changes))
    return str(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"options": None},  # shlex would read the terminal
        {"options": "--agent 'slim"},
        {"options": "--task \0"},
        {"processes": 0},  # none would ever start
        {"processes": -1},
        {"processes": True},
        {"processes": "many"},
        {"tasks": ["walker-stand"]},
        {"tasks": {"../walker": ""}},
        {"tasks": {"walker-stand": 3}},
        {"tasks": {"walker-stand": '"'}},
        {"agents": "slim"},
        {"agents": [3]},
        {"agents": ["a/b"]},
        {"agents": {"a\0b": "--agent slim"}},
        {"agents": {"slim": None}},
        {"backgrounds": {"clean": None}},
        {"backgrounds": {"a/b": "none"}},
        {"backgrounds": {1: "none"}},
        {"backgrounds": ["none"]},
        {"seeds": 3},
        {"seeds": ["0"]},
        {"seeds": [-1]},
        {"folder": None},
        {"folder": ""},
        {"folder": "a\0b"},
    ],
)
def test_a_suite_of_another_form_is_one_line_that_names_the_key(tmp_path, changes):
    [key] = changes
    with pytest.raises(UserError, match=rf"tried\.yaml: {key}: write "):
        returns.read_suite(written(tmp_path, **changes))


def test_keys_of_any_type_that_are_unknown_are_named(tmp_path):
    path = tmp_path / "tried.yaml"
    path.write_text(yaml.safe_dump(SUITE | {3: 4, "agent": 1}))
    with pytest.raises(UserError, match=r"keys 'agent', 3 are missing or unknown"):
        returns.read_suite(str(path))


def suites() -> list[Path]:
    return [
        path
        for path in sorted(Path(returns.__file__).parent.rglob("*.yaml"))
        if "tasks:" in path.read_text()
    ]


@pytest.mark.slow
def test_the_suites_of_the_project_are_right(tmp_path, monkeypatch):
    """Every command of every suite gives a config, without options that its agent does not read.

    A run that begins with another names one of a suite. Runs of one folder and name are one run.
    """
    assert len(suites()) > 8
    words_of: dict[str, list[str]] = {}
    for suite in map(returns.read_suite, map(str, suites())):
        for name, words in returns.jobs(suite):
            assert words_of.setdefault(f"{suite['folder']}/{name}", words) == words, name
    monkeypatch.chdir(tmp_path)  # where the runs are that others begin with
    for words in words_of.values():
        for place in (words[words.index(word) + 1] for word in words if word == "--init_from"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            begin = runs.read(words_of[place], cuda=False)
            (tmp_path / place / "config.yaml").write_text(options.to_yaml(begin))
    alike = {suite_check.without_seed(words): folder for folder, words in words_of.items()}
    for folder in alike.values():  # one seed of each
        words = words_of[folder]
        assert folder.endswith(f"seed{words[words.index('--seed') + 1]}")
        assert runs.read(words, cuda=False).task in folder


@pytest.mark.parametrize(
    ("suite", "experts"),
    [("modes", "modes_experts"), ("targets", "targets_experts"), ("speeds", "speeds_experts")],
)
def test_every_game_of_a_suite_has_its_expert(suite, experts):
    folder = Path(returns.__file__).parent
    trained, alone = (
        [
            runs.read(words, cuda=False)
            for name, words in returns.jobs(returns.read_suite(str(folder / f"{one}.yaml")))
            if name.endswith("seed0")
        ]
        for one in (suite, experts)
    )
    wanted = {
        (run.task, game) for run in trained for game in (*run.games.train, *run.games.heldout)
    }
    found = [(run.task, *run.games.train) for run in alone]
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert {run.total_frames for run in (*trained, *alone)} == {250_000}


def test_the_page_names_every_suite_with_its_number_of_runs():
    folder = Path(returns.__file__).parent
    page = (folder.parent / "docs/reference/benchmarks.md").read_text()
    told = {}
    for line in re.findall(r"^\| (`\w+\.yaml`.*)", page, re.MULTILINE):
        files, _, numbers, _ = line.split("|")[:4]
        counts = map(int, re.findall(r"\d+(?= x | and \d)", numbers))
        told |= dict(zip(re.findall(r"`(\w+\.yaml)`", files), counts, strict=True))
    there = {
        path.name: len(returns.jobs(returns.read_suite(str(path))))
        for path in folder.glob("*.yaml")
    }
    assert told == there


def test_options_may_name_task_and_seed():
    begin = "--agent finetune --init_from runs/a/{task}-slim-seed{seed}"
    suite = SUITE | {"agents": {"finetune": begin}, "seeds": [3]}
    [(name, words)] = returns.jobs(suite)
    assert name == "walker-stand-finetune-clean-seed3"
    assert "runs/a/walker-stand-slim-seed3" in words


def test_results_of_a_suite_of_ones_own_are_kept_in_its_folder(tmp_path, monkeypatch):
    """Also where it has the name of a published one."""
    ours = Path(returns.__file__).parent / "video.yaml"
    assert returns.opened([str(ours)], "")[2] == returns.RESULTS / "video"
    study = ours.parent / "studies/ablations.yaml"
    assert returns.opened([str(study)], "")[2] == returns.RESULTS / "ablations"
    names = [path.stem for path in suites()]
    assert len(names) == len(set(names)), "two suites would share results/NAME"
    own = tmp_path / "video.yaml"
    own.write_text(yaml.safe_dump(SUITE | {"folder": str(tmp_path / "mine")}))
    assert returns.opened([str(own)], "")[2] == tmp_path / "mine" / "results"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert returns.opened([str(own), "--results", "~/kept"], "")[2] == tmp_path / "kept"
    assert returns.opened([f"--suite={own}", "--results=~/kept"], "")[2] == tmp_path / "kept"


def write_run(folder: Path, **scores) -> Path:
    """A run folder as train.py leaves it: config, metrics and scores."""
    folder.mkdir(parents=True)
    words = [
        "--agent",
        "dreamer",
        "--task",
        "walker-walk",
        "--size",
        "cpu",
        "--background.source",
        "procedural",
    ]
    (folder / "config.yaml").write_text(options.to_yaml(runs.read(words, cuda=False)))
    lines = [
        {"step": 400, "episode/return": 10.0},
        {"step": 500, "evaluation/return_heldout": 1.0, "evaluation/latent/similarity": None},
        {"step": 800, "episode/return": 20.0},
        {"step": 1000, "evaluation/return_heldout": 2.0, "evaluation/return_train": 3.0},
        {"step": 1000, "evaluation/return_heldout": 2.5},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if scores:
        row = {
            "task": "walker-walk",
            "agent": "dreamer",
            "seed": 0,
            "env_frame": 1000,
            "background": "procedural",
        }
        (folder / "scores.json").write_text(json.dumps(row | scores))
    return folder


def test_a_result_has_the_evaluations_of_its_run_and_the_sums_of_its_clips(tmp_path):
    played = {
        "path": "/home/me/clips",
        "sha256": "c" * 64,
        "trained_on": False,
        "clips": {"b.mp4": "b" * 64, "a.mp4": "a" * 64},
    }
    rows = {"heldout": {"mean": 2.5, "interval": [1, 4], "returns": [2.5]}}
    row = result_files.of_run(write_run(tmp_path / "run", scores=rows, sources={"heldout": played}))
    assert row["evaluations"] == {
        "return_heldout": {"xs": [500, 1000], "ys": [1.0, 2.5]},
        "return_train": {"xs": [1000], "ys": [3.0]},
    }
    assert (row["xs"], row["ys"]) == ([400, 800], [10.0, 20.0])
    kept = {"sha256": "c" * 64, "trained_on": False, "number": 2, "sums": ["a" * 64, "b" * 64]}
    assert row["clips"] == {"heldout": kept}
    assert "/home/me" not in json.dumps(row)


def test_a_run_that_is_not_finished_has_curves_and_no_scores(tmp_path):
    row = result_files.of_run(write_run(tmp_path / "run"))
    assert (row["task"], row["method"], row["seed"], row["env_frame"]) == (
        "walker-walk",
        "dreamer",
        0,
        1000,
    )
    assert row["scores"] == {}
    assert row["clips"] == {}
    assert row["ys"] == [10.0, 20.0]


@pytest.mark.parametrize("program", [returns, latent, skills, goals, downstream, games])
def test_help_of_a_program_for_suites(program, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert program.__doc__.splitlines()[0] in said
    assert "--results" in said
    assert "--config" not in said


@pytest.mark.parametrize("program", [plane, plot, regret])
def test_help_of_a_program_for_results(program, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert program.__doc__.splitlines()[0] in said
    assert "--config" not in said


def test_a_variable_that_is_not_set_is_named_before_runs_begin(tmp_path, monkeypatch):
    suite = written(tmp_path, backgrounds={"video": "$FOREGROUND_CLIPS"})
    for value in (None, ""):
        monkeypatch.delenv(
            "FOREGROUND_CLIPS", raising=False
        ) if value is None else monkeypatch.setenv("FOREGROUND_CLIPS", value)
        with pytest.raises(
            UserError, match=r"FOREGROUND_CLIPS is not set.*FOREGROUND_CLIPS=FOLDER python"
        ):
            returns.main([suite])


def test_a_result_from_before_an_option_is_what_was_measured_then():
    words = ["--agent", "infopower", "--task", "walker-walk", "--size", "cpu"]
    now = returns.settings(runs.read(words, cuda=False))
    kept = {
        "command": returns.command_of(words),
        "settings": {key: value for key, value in now.items() if key not in renamed.BEFORE},
    }
    assert returns.outdated(kept, words, cuda=False) == sorted(renamed.BEFORE)
    assert returns.outdated(kept | {"settings": now}, words, cuda=False) == []


@pytest.mark.parametrize("content", ["", '{"task": "walker-st', "[1]", "[" * 100_000, "\0\0"])
def test_a_result_by_halves_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, content):
    suite = written(tmp_path, folder=str(tmp_path / "runs"), options="")
    results = tmp_path / "runs" / "results"
    [(name, _)] = returns.jobs(returns.read_suite(suite))
    results.mkdir(parents=True)
    (results / f"{name}.json").write_text(content)
    (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
    programs = {
        "returns": lambda: returns.main([suite]),
        "latent": lambda: latent.main([suite]),
        "reading": lambda: list(reading.unread(returns.read_suite(suite), results, "skills")),
        "plot": lambda: plot.main([str(results), str(tmp_path / "curve.png")]),
    }
    for program in programs.values():
        with pytest.raises(UserError, match=rf"no whole result: .*{name}\.json: delete it"):
            program()


def test_a_result_appears_whole_and_what_a_stopped_program_left_is_not_read(tmp_path, monkeypatch):
    result_files.write(tmp_path / "a.json", {"x": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    (tmp_path / ".tmp-b.json").write_text('{"x"')
    assert result_files.read_all(tmp_path) == [{"x": 1}]
    monkeypatch.setattr(
        "os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        result_files.write(tmp_path / "a.json", {"x": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_a_path_in_a_circle_is_no_run(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="this is not a run folder"):
        runs.load(tmp_path / "loop")
    with pytest.raises(UserError, match="this is not a run folder"):
        runs.read(["--agent", "finetune", "--init_from", str(tmp_path / "loop")], cuda=False)
