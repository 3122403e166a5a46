"""Games of the runs of a suite: what is read, what is kept, the table."""

import json

from benchmarks import games, reading
from foreground.configs import run as runs

OF = {"cheetah-run": "direction", "reacher-easy": "target"}  # the second has held-out games
ONE = {"kind": "train", "zero_shot": 4.0, "best_of": 5.0, "regret": 0.2, "tried_frames": 8000}
TOLD = {"action": 0.5, "action_cap": 1.4, "game": 0.1, "game_cap": 0.7}


def test_a_run_adapts_to_a_held_out_game_where_there_is_one(tmp_path, monkeypatch):
    configs = {}
    for task, kind in OF.items():
        words = ["--agent", "mra", "--task", task, "--family.kind", kind, "--size", "cpu"]
        configs[tmp_path / task] = runs.read(words, cuda=False)
    monkeypatch.setattr(reading, "unread", lambda *_: [(run.name, run, []) for run in configs])
    monkeypatch.setattr(runs, "load", configs.__getitem__)
    found = {name: words for name, (_, words) in games.to_read({}, tmp_path).items()}
    assert "--adapt" not in found["cheetah-run"]
    held_out = configs[tmp_path / "reacher-easy"].games.heldout[0].name
    assert found["reacher-easy"][-2:] == ["--adapt", held_out]
    assert found["reacher-easy"][-4:-2] == ["--adapt_scope", "actor"]


def test_the_table_has_the_frames_that_a_choice_took(tmp_path):
    row = {"task": "cheetah-run", "background": "clips", "method": "mra"}
    kept = {"games": {"heldout": {"forward": ONE, "backward": ONE, "information": TOLD}}}
    (tmp_path / "games.json").write_text(json.dumps(kept))
    measured, shown = games.measured(tmp_path, row)
    assert shown["frames of best_of"] == 8000
    assert "adaptation" not in measured
    old = {key: value for key, value in ONE.items() if key != "tried_frames"}
    adapted = {"adaptation": {"returns": {"0": 3.0, "10": 4.0}, "frames": 4000}}
    rows = [row | measured | adapted]
    rows += [row | {"method": "old", "games": {"forward": old, "information": TOLD}}]
    head, _, *lines = games.tables(rows).splitlines()
    table = [dict(zip(head.split(" | "), line.split(" | "))) for line in lines]
    assert [line["frames of best_of"] for line in table] == ["8000", "-"]
    assert [line["frames of adapted |"].split()[0] for line in table] == ["4000", "-"]
