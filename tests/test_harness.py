"""The harness as a user runs it: real runs, small ones, two side by side; what is done is not done again."""

import json
from pathlib import Path

import pytest
from test_cli import SMALL

from benchmarks import latent, returns
from errors import UserError

OPTIONS = [word for index, word in enumerate(SMALL) if "--task" not in (word, SMALL[index - 1])]
OPTIONS = [word for index, word in enumerate(OPTIONS) if "--background.source" not in (word, OPTIONS[index - 1])]
OPTIONS = [word for index, word in enumerate(OPTIONS) if "--threads" not in (word, OPTIONS[index - 1])]


def write_suite(folder: Path, **changes) -> str:
    suite = {
        "tasks": {"cartpole-balance": ""},
        "agents": ["c_dreamer"],
        "backgrounds": {"video": "procedural"},
        "seeds": [0, 1],
        "processes": 2,
        "folder": str(folder / "runs"),
        "options": " ".join(map(str, OPTIONS)) + " --frames 400",
    }
    path = folder / "small_suite.yaml"
    path.write_text(json.dumps(suite | changes))  # JSON is YAML
    return str(path)


def test_runs_are_made_once_read_once_and_a_failure_is_told(tmp_path, monkeypatch, capsys):
    for module in (returns, latent):
        monkeypatch.setattr(module, "EPISODES", 4, raising=False)
    root = returns.ROOT
    results = root / "results" / "small_suite"
    suite = write_suite(tmp_path)
    try:
        returns.main([suite])
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert last["runs"] == 2
        files = sorted(results.glob("*.json"))
        rows = [json.loads(path.read_text()) for path in files]
        assert [row["seed"] for row in rows] == [0, 1]
        assert set(rows[0]) == {
            "task", "agent", "seed", "env_frame", "background", "hardware", "commit", "scores", "xs", "ys", "command"
        }  # fmt: skip
        assert len(rows[0]["xs"]) == len(rows[0]["ys"]) == 4  # episodes of 100 frames
        assert rows[0]["command"].startswith("python train.py --agent c_dreamer --task cartpole-balance --seed 0")
        latent.main([suite])
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"read": 2, "failed": []}
        assert 0 <= json.loads(files[0].read_text())["latent"]["state/network/mean"] <= 1

        monkeypatch.setattr(returns, "start", lambda *_: pytest.fail("a finished run was started again"))
        monkeypatch.setattr(latent, "start", lambda *_: pytest.fail("a latent was read again"))
        returns.main([suite])
        latent.main([suite])
        capsys.readouterr()
        monkeypatch.undo()
        with pytest.raises(SystemExit, match="1"):
            returns.main([write_suite(tmp_path, agents=["c_dreamer", "nobody"], seeds=[0])])
        assert "c_dreamer-video-seed0" in capsys.readouterr().out  # the others are finished all the same
    finally:
        for path in results.glob("*.json"):
            path.unlink()
        results.rmdir()


def test_a_suite_with_a_wrong_key_is_refused(tmp_path):
    with pytest.raises(UserError, match="agent"):
        returns.read_suite(write_suite(tmp_path, agent="infopower"))


def test_auto_takes_the_cores(tmp_path):
    assert returns.read_suite(write_suite(tmp_path, processes="auto"))["processes"] >= 1
