"""Test the search: values drawn from ranges, and ASHA trials with small programs."""

import csv
import io
import json
import random

import pytest
import yaml

from benchmarks import ranges, returns, search
from benchmarks.program import Job
from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training import options
from tests.support import loopback

loopback.close_to_others()
RATE = "optimiser.model_lr"
SUITE = {
    "tasks": {"walker-stand": None},
    "agents": ["dreamer"],
    "backgrounds": {"clean": "none"},
    "seeds": [0],
    "processes": 1,
    "options": f"--size cpu --total_frames 9000 --training.evaluate_every 1000 --{RATE} 1e-5..1e-3",
}
# Nine evaluations, each the sampled rate times the frame; SIGTERM saves, and it resumes.
PROGRAM = """
import json, os, signal, sys, time
run, rate = sys.argv[1], float(sys.argv[2])
place = os.path.join(run, "frame")
frame = int(open(place).read()) if os.path.exists(place) else 0

def stop(number, _):
    print("saved at", frame, flush=True)
    sys.exit(128 + number)

signal.signal(signal.SIGTERM, stop)
print("begun at", frame, flush=True)
while frame < 9000:
    time.sleep(0.25)
    frame += 1000
    with open(os.path.join(run, "metrics.jsonl"), "a") as file:
        file.write(json.dumps({"step": frame, "evaluation/return_clean": rate * frame}) + "\\n")
    open(place, "w").write(str(frame))
row = {"task": "walker-stand", "agent": "dreamer", "seed": 0, "env_frame": frame}
row["background"] = "none"
with open(os.path.join(run, "scores.json"), "w") as file:
    json.dump(row | {"scores": {"clean": {"mean": rate * frame}}}, file)
"""


def written(place, **changes) -> str:
    path = place / "searched.yaml"
    path.write_text(yaml.safe_dump(SUITE | {"folder": str(place / "runs")} | changes))
    return str(path)


def test_what_is_a_range():
    assert ranges.read("1e-5..1e-3") == ranges.Between(1e-5, 1e-3, whole=False)
    assert ranges.read("8..64") == ranges.Between(8, 64, whole=True)
    assert ranges.read("-1..1.5") == ranges.Between(-1, 1.5, whole=False)
    assert ranges.read("64..8") == ranges.Between(8, 64, whole=True)
    assert ranges.read("nce|nwj") == ranges.OneOf(("nce", "nwj"))
    plain = ["", "3", "../clips", "a..b", "1..", "..", "1...2", "a|", "|", "walker-stand"]
    assert [ranges.read(text) for text in plain] == [None] * len(plain)


def test_numbers_that_are_drawn():
    source = random.Random(0)
    whole = [int(ranges.read("3..5").draw(source)) for _ in range(200)]
    assert set(whole) == {3, 4, 5}
    wide = [float(ranges.read("1e-5..1e-1").draw(source)) for _ in range(400)]
    assert all(1e-5 <= value <= 1e-1 for value in wide)
    assert 0.4 < sum(value < 1e-3 for value in wide) / 400 < 0.6  # the middle in the logarithm
    narrow = [float(ranges.read("1..3.0").draw(source)) for _ in range(400)]
    assert 0.4 < sum(value < 2 for value in narrow) / 400 < 0.6
    counts = [int(ranges.read("1..1000").draw(source)) for _ in range(400)]
    assert 0.4 < sum(value < 32 for value in counts) / 400 < 0.6
    assert {ranges.read("a|b").draw(source) for _ in range(50)} == {"a", "b"}


def test_a_trial_draws_the_same_for_an_option_in_all_runs():
    words = [
        "--agent",
        "slim",
        "--actor_critic.reward_scales",
        "use=1..100",
        "--skill.duration",
        "4|8",
        "--seed=0",
    ]
    drawn, values = ranges.drawn(words, 3)
    assert list(values) == ["actor_critic.reward_scales use", "skill.duration"]
    assert drawn[3] == f"use={values['actor_critic.reward_scales use']}"
    assert (drawn[5], drawn[6]) == (values["skill.duration"], "--seed=0")
    assert ranges.drawn(words, 3)[1] == values
    assert ranges.drawn(["--skill.duration=4|8"], 3)[0] == [
        f"--skill.duration={values['skill.duration']}"
    ]
    assert len({ranges.drawn(words, trial)[0][3] for trial in range(20)}) > 5
    names = {ranges.named("run", 3, each) for each in (values, values | {"skill.duration": "5"})}
    assert len(names) == 2
    assert all(returns.valid_name(name) for name in names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"options": "--size cpu"},
            r"there is no range in the options of walker-stand-dreamer-clean-seed0",
        ),
        (
            {"options": f"--total_frames 9000 --{RATE} 1e-5..1e-3"},
            r"training\.evaluate_every: choose 1000 or so",
        ),
        ({"options": f"--training.evaluate_every 1000 --{RATE} -1..0"}, r"out of range"),
    ],
)
def test_a_suite_that_cannot_be_searched_is_one_line(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        search.main([written(tmp_path, **changes)])


def test_the_best_trial_ends_others_are_stopped_and_the_same_command_starts_nothing(
    tmp_path, monkeypatch, capsys
):
    pytest.importorskip("ray", reason="ray is not installed: pip install -e .[cluster]")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def job(name, words, folder):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.yaml").write_text(options.to_yaml(runs.read(words, cuda=False)))
        rate = words[words.index(f"--{RATE}") + 1]
        return Job(name, [str(program), str(folder / name), rate], folder / f"{name}.log")

    monkeypatch.setattr(returns, "job", job)
    words = [
        written(tmp_path),
        "--trials",
        "6",
        "--address",
        "local",
        "--results",
        str(tmp_path / "kept"),
    ]
    search.main(words)
    said = capsys.readouterr().out
    row = json.loads(said.splitlines()[-1])
    text = (tmp_path / "kept" / "search.csv").read_text()
    assert text in said
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["run", "trial", "ended", "env_frame", "return", RATE]
    rates = [float(each[RATE]) for each in rows]
    assert len(rows) == 6
    top = rows[rates.index(max(rates))]
    assert (top["ended"], top["env_frame"]) == ("finished", "9000")
    assert float(top["return"]) == pytest.approx(max(rates) * 9000)
    stopped = [each for each in rows if each["ended"] == "stopped"]
    assert stopped
    assert all(int(each["env_frame"]) < 9000 for each in stopped)
    [run] = {each["run"] for each in rows}
    best = row["best"][run]
    assert (best["trial"], best[RATE]) == (top["trial"], top[RATE])
    assert (row["trials"], row["failed"]) == (6, [])
    for each in stopped:
        assert "saved at" in (tmp_path / "runs" / f"{run}-{each['trial']}.log").read_text()
    before = sorted((path.name, path.read_text()) for path in (tmp_path / "runs").glob("*.log"))
    finished = [name for name, log in before if "saved at" not in log]
    search.main(words)
    after = dict(
        sorted((path.name, path.read_text()) for path in (tmp_path / "runs").glob("*.log"))
    )
    assert [name for name, log in before if name in finished and after[name] != log] == []
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["best"][run] == best
