"""Goals of the runs of a suite: what is read, what is kept, the table."""

import json

from benchmarks import goals, reading
from foreground.configs import run as runs

ALL = ("hit_3", "end_3", "stay_3", "hit_1", "end_1", "stay_1", "distance")
ALL += ("other_hit_3", "other_end_3", "other_hit_1", "other_end_1", "same_clip")


def test_runs_are_read_on_every_background_and_the_first_seed_untrained(tmp_path, monkeypatch):
    words = ["--agent", "goal", "--size", "cpu", "--background.source", "procedural"]
    config = runs.read(words, cuda=False)
    waiting = [(name, tmp_path / name, ["--seed", seed]) for name, seed in (("a", "0"), ("b", "1"))]
    monkeypatch.setattr(
        reading, "unread", lambda suite, results, key: waiting if key == "goals" else []
    )
    monkeypatch.setattr(runs, "load", lambda _: config)
    read = ["--reach", "--episodes", "1"]
    sides = ["--background", "clean,train,heldout"]
    assert goals.to_read({}, tmp_path) == {
        "a": (tmp_path / "a", [*read, "--random", *sides]),
        "b": (tmp_path / "b", [*read, *sides]),
    }


def test_the_table_has_a_line_for_each_agent_and_background(tmp_path):
    row = {"task": "reacher-easy", "background": "clips", "method": "goal"}
    kept = []
    for hit in (0.25, 0.75):
        found = dict.fromkeys(ALL, 0.123456) | {"hit_3": hit}
        sides = {"heldout": found, "untrained, clean": found}
        (tmp_path / "goals.json").write_text(json.dumps({"goals": sides}))
        measured, shown = goals.measured(tmp_path, row)
        assert shown == {"heldout": hit, "untrained, clean": hit}
        kept.append(row | measured)
    lines = goals.tables([*kept, row]).splitlines()
    assert len(lines) == 4
    rest = " | 0.12 [0.12, 0.12]" * 11
    assert lines[2] == f"| reacher-easy | video | goal | heldout | 2 | 0.50 [0.25, 0.75]{rest} |"
    assert lines[3].startswith("| reacher-easy | video | goal, untrained | clean | 2 | 0.50")
    assert {*goals.COLUMNS.values()} == {*ALL}
