"""Run suites as a user does: small real runs, two at a time; finished runs do not start again."""

import json
from pathlib import Path

import pytest

from benchmarks import downstream, engine, latent, pool, reading, returns, skills
from foreground.configs import run as runs
from foreground.errors import UserError
from tests.faults import start
from tests.support.programs import PLAIN

OPTIONS = [word for index, word in enumerate(PLAIN) if "--task" not in (word, PLAIN[index - 1])]
OPTIONS = [
    word
    for index, word in enumerate(OPTIONS)
    if "--background.source" not in (word, OPTIONS[index - 1])
]
OPTIONS = [
    word for index, word in enumerate(OPTIONS) if "--threads" not in (word, OPTIONS[index - 1])
]


def write_suite(folder: Path, **changes) -> str:
    suite = {
        "tasks": {"cartpole-balance": ""},
        "agents": ["c_dreamer", "repo"],
        "backgrounds": {"video": "procedural"},
        "seeds": [0],
        "processes": 2,
        "folder": str(folder / "runs"),
        "options": " ".join(map(str, OPTIONS)) + " --total_frames 400",
    }
    path = folder / "small_suite.yaml"
    path.write_text(json.dumps(suite | changes))  # JSON is YAML
    return str(path)


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(latent, "EPISODES", 8)
    return tmp_path / "runs" / "results"


@pytest.fixture
def forked(monkeypatch) -> None:
    """Programs as forks of one process, which spares their imports."""

    def train(self, job, slot):
        return start.Run(job.words[1:], job.log, pool.environment(slot))

    def evaluate(run, words, log, slot):
        log = Path(f"{run}.{log}.log")
        return start.Run(
            [str(run), *words, "--threads", "1"], log, pool.environment(slot), program="eval"
        )

    monkeypatch.setattr(engine.Local, "start", train)
    monkeypatch.setattr(reading, "start", evaluate)


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_runs_are_made_once_read_once_and_a_failure_is_told(tmp_path, results, monkeypatch, capsys):
    suite = write_suite(tmp_path)
    returns.main([suite])
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["runs"] == 2
    name = "cartpole-balance-repo-video-seed0"
    means = map(str, json.loads(last)["scores"][name].values())
    assert f"| {name} | {' | '.join(means)} |" in lines
    files = sorted(results.glob("*.json"))
    rows = [json.loads(path.read_text()) for path in files]
    assert [row["method"] for row in rows] == ["c_dreamer", "repo"]
    assert set(rows[0]) == {
        "task", "method", "seed", "env_frame", "background", "hardware", "commit", "scores", "xs",
        "ys", "command", "settings", "evaluations", "clips", "checkpoint", "checkpoint_sha256"
    }  # fmt: skip
    assert len(rows[0]["xs"]) == len(rows[0]["ys"]) == 4  # episodes of 100 frames
    assert rows[0]["command"].startswith(
        "python train.py --agent c_dreamer --task cartpole-balance --seed 0"
    )
    latent.main([suite])
    assert last_line(capsys) == {"read": 2, "failed": []}
    readings = [json.loads(path.read_text())["latent"] for path in files]
    assert 0 <= readings[0]["state/network/mean"] <= 1
    names = [path.stem for path in files]
    assert readings[0]["actors"] == readings[1]["actors"] == names  # both read the episodes of both

    with monkeypatch.context() as patch:
        patch.setattr(
            engine.Local, "start", lambda *_: pytest.fail("a finished run was started again")
        )
        patch.setattr(reading, "start", lambda *_: pytest.fail("a latent was read again"))
        returns.main([suite])
        latent.main([suite])
        files[0].unlink()  # its run ended, and the suite was killed before it wrote the result
        returns.main([suite, "--only", "0/2"])
        assert last_line(capsys)["runs"] == 1
        assert json.loads(files[0].read_text()) == {
            key: rows[0][key] for key in rows[0] if key != "latent"
        }
    capsys.readouterr()
    (tmp_path / "empty").mkdir()  # only the run itself looks for clips in it
    backgrounds = {"video": "procedural", "empty": str(tmp_path / "empty")}
    suite = write_suite(tmp_path, agents=["c_dreamer"], backgrounds=backgrounds)
    with pytest.raises(SystemExit, match="1"):
        returns.main([suite])
    # The others are finished all the same.
    assert "c_dreamer-video-seed0" in capsys.readouterr().out


def test_skills_of_labelled_agents_are_measured(tmp_path, results, forked, monkeypatch, capsys):
    monkeypatch.setattr(skills, "WORDS", [*skills.WORDS, "--goals", "2", "--skill_number", "4"])
    agents = {
        "short": "--agent metra --skill.duration 5 --evaluation.num_skills 0 "
        "--optimiser.warmup 1{seed}"
    }
    suite = write_suite(tmp_path, agents=agents)
    returns.main([suite])
    skills.main([suite])
    assert last_line(capsys) == {"read": 1, "failed": []}
    row = json.loads((results / "cartpole-balance-short-video-seed0.json").read_text())
    assert row["method"] == "short"
    assert row["settings"]["optimiser.warmup"] == 10
    assert set(row["skills"]) == {"clean", "train", "heldout", "untrained, clean"}
    assert -1 < row["skills"]["heldout"]["identifiability/nats"] <= 1.4
    skills.main([suite])
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1]) == {"read": 0, "failed": []}
    assert len(lines) == (2 + 4) + 1 + (2 + 1) + 1  # measures, a line between, gaps, JSON
    assert lines[2].startswith("| cartpole-balance | video | short | clean | 1 | ")
    few = ["--best_of", "2", "--episodes", "1", "--plan_episodes", "1"]
    monkeypatch.setattr(downstream, "WORDS", [*downstream.WORDS, *few])
    downstream.main([suite])
    assert last_line(capsys) == {"read": 1, "failed": []}
    worth = json.loads((results / "cartpole-balance-short-video-seed0.json").read_text())[
        "downstream"
    ]
    assert set(worth) == {"clean", "heldout"}
    assert all(0 < value < 1 for side in worth.values() for value in side.values())
    downstream.main([suite])
    assert last_line(capsys) == {"read": 0, "failed": []}
    seeds = [{**row, "skills": {"clean": {"identifiability/nats": nats}}} for nats in (0.5, 1.0)]
    measured = dict.fromkeys([skills.COLUMNS[name] for name in skills.GAPS], 1.0)
    sides = [
        {"clean": measured, "heldout": measured | {"identifiability/nats": nats}}
        for nats in (0.5, 0.0)
    ]
    gaps = skills.gaps([{**row, "skills": side} for side in sides]).splitlines()
    assert gaps[-1].endswith("| 0.75 | 0.00 | 0.00 | 0.00 |")
    assert "| clean | 2 | 0.75 [0.50, 1.00] | - |" in skills.table(seeds)


def test_places_of_skills_grow_by_frames_in_a_table():
    row = {"task": "cheetah-run", "background": "clips", "method": "metra"}
    curves = [{"xs": [100_000, 200_000], "ys": [4.0, 9.0]}, {"xs": [100_000], "ys": [6.0]}]
    rows = [{**row, "evaluations": {skills.GROWING: curve}} for curve in curves]
    assert skills.growth([row]) == ""
    assert skills.growth([*rows, row]).splitlines() == [
        "| task | trained on | agent | places at 100,000 | places at 200,000 |",
        "|---|---|---|---|---|",
        "| cheetah-run | video | metra | 5.00 [4.00, 6.00] | 9.00 |",
    ]


def test_worth_of_skills_as_a_table():
    row = {"task": "walker-stand", "background": "clips", "method": "slim"}
    one = {"best_skill": 0.5, "mean_skill": 0.25, "planned": 0.75}
    other = {"best_skill": 0.25, "mean_skill": 0.125, "planned": 0.3}
    rows = [{**row, "downstream": {"clean": one, "heldout": other}}] * 2
    rows += [{**row, "background": "none", "downstream": {"clean": other}}, row]
    lines = downstream.tables(rows).splitlines()
    assert lines[2] == "| walker-stand | clean | slim | 1 | 0.25 | 0.12 | 0.30 | - | - | - | - |"
    half = (
        "0.50 [0.50, 0.50] | 0.25 [0.25, 0.25] | 0.75 [0.75, 0.75] | 0.25 [0.25, 0.25] | "
        "0.12 [0.12, 0.12] | 0.30 [0.30, 0.30]"
    )
    assert lines[3] == f"| walker-stand | video | slim | 2 | {half} | 0.50 |"


def test_a_result_is_outdated_when_a_setting_behind_its_command_is_another():
    words = ["--agent", "infopower", "--task", "walker-stand", "--device", "cpu"]
    now = returns.settings(runs.read(words, cuda=False))
    kept = {"command": returns.command_of(words), "settings": now}
    assert returns.outdated(kept, words, cuda=False) == []
    assert returns.outdated(kept, [*words, "--seed", "1"], cuda=False) == ["command"]
    preset = now | {"world_model.objective.multiplier_min": 1.0}
    assert returns.outdated(kept | {"settings": preset}, words, cuda=False) == [
        "world_model.objective.multiplier_min"
    ]
    younger = {key: value for key, value in now.items() if key != "training.capacity"}
    assert returns.outdated(kept | {"settings": younger}, words, cuda=False) == []
    # Nothing is known of it.
    assert returns.outdated({"command": kept["command"]}, words, cuda=False) == ["settings"]


def test_a_suite_with_a_wrong_key_is_refused(tmp_path):
    with pytest.raises(UserError, match="agent"):
        returns.read_suite(write_suite(tmp_path, agent="infopower"))


def test_auto_takes_the_cores(tmp_path):
    assert returns.read_suite(write_suite(tmp_path, processes="auto"))["processes"] >= 1
