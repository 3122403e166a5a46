"""Suites and the files of their results: what is wrong with one is a line, and a stopped program leaves none by halves."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks import latent, plot, reading, result_files, returns
from configs import run as runs
from errors import UserError

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


def test_the_suites_of_the_project_are_right():
    paths = [path for path in sorted(Path(returns.__file__).parent.glob("*.yaml")) if "tasks:" in path.read_text()]
    assert len(paths) > 8
    for path in paths:
        for name, words in returns.jobs(returns.read_suite(str(path))):
            assert name.endswith(f"seed{words[words.index('--seed') + 1]}")


def test_a_variable_that_is_not_set_is_named_before_runs_begin(tmp_path, monkeypatch):
    suite = written(tmp_path, backgrounds={"video": "$FOREGROUND_CLIPS"})
    for value in (None, ""):
        monkeypatch.delenv("FOREGROUND_CLIPS", raising=False) if value is None else monkeypatch.setenv(
            "FOREGROUND_CLIPS", value
        )
        with pytest.raises(UserError, match=r"FOREGROUND_CLIPS is not set.*FOREGROUND_CLIPS=FOLDER python"):
            returns.main([suite])


def test_a_result_from_before_an_option_is_what_was_measured_then():
    words = ["--agent", "infopower", "--task", "walker-walk", "--size", "cpu"]
    now = returns.settings(runs.read(words, cuda=False)[0])
    kept = {
        "command": returns.command_of(words),
        "settings": {key: value for key, value in now.items() if key not in runs.BEFORE},
    }
    assert returns.outdated(kept, words) == sorted(runs.BEFORE)
    assert returns.outdated(kept | {"settings": now}, words) == []


@pytest.mark.parametrize("content", ["", '{"task": "walker-st', "[1]", "[" * 100_000, "\0\0"])
def test_a_result_by_halves_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, content):
    monkeypatch.setattr(returns, "RESULTS", tmp_path)
    suite = written(tmp_path, folder=str(tmp_path / "runs"))
    [(name, _)] = returns.jobs(returns.read_suite(suite))
    (tmp_path / "tried").mkdir()
    (tmp_path / "tried" / f"{name}.json").write_text(content)
    (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
    programs = {
        "returns": lambda: returns.main([suite]),
        "latent": lambda: latent.main([suite]),
        "reading": lambda: list(reading.unread(returns.read_suite(suite), tmp_path / "tried", "skills")),
        "plot": lambda: plot.main([str(tmp_path / "tried"), str(tmp_path / "curve.png")]),
    }
    for program in programs.values():
        with pytest.raises(UserError, match=rf"no whole result: .*{name}\.json: delete it"):
            program()


def test_a_result_appears_whole_and_what_a_stopped_program_left_is_not_read(tmp_path, monkeypatch):
    result_files.write(tmp_path / "a.json", {"x": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    (tmp_path / ".tmp-b.json").write_text('{"x"')
    assert result_files.read_all(tmp_path) == [{"x": 1}]
    monkeypatch.setattr("os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        result_files.write(tmp_path / "a.json", {"x": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_a_path_in_a_circle_is_no_run(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="this is no run folder"):
        runs.load(tmp_path / "loop")
    with pytest.raises(UserError, match="this is no run folder"):
        runs.read(["--agent", "finetune", "--skills", str(tmp_path / "loop")], cuda=False)
