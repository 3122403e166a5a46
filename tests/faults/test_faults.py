"""Test each class of the fault harness in short, and that it reports losses."""

import json
import os

import numpy as np
import pytest

from foreground.errors import UserError
from foreground.training import files
from tests.faults import __main__ as faults
from tests.faults import checkpoint_ablation, disk, world

COUNTS = {
    "kill": 2,
    "term": 2,
    "concurrent_runs": 2,
    "disk_full": 1,
    "resume": 1,
    "checkpoint_ablation": 2,
    "damage": 30,
    "hostile": 40,
    "config": 200,
}
COUNTS |= {"video": 40, "non_finite": 15, "worker": 4, "physics": 40, "clock": 20, "soak": 1}


def measured(capsys, *words: str) -> dict:
    faults.main(list(words))
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", list(faults.FAULTS))
def test_faults_are_survived(tmp_path, capsys, monkeypatch, name):
    if name == "disk_full":
        try:
            disk.check()
        except UserError:
            pytest.skip("no disk in memory can be mounted here")
    # A "minute" is longer than an evaluation, during which no step is saved.
    for constant, value in (("MINUTE", 4.0), ("WARM", 1500), ("GROWTH", 0.2)):
        monkeypatch.setattr(world, constant, value)
    row = measured(capsys, name, "--count", str(COUNTS[name]), "--folder", str(tmp_path))
    assert row.pop("worst_seconds") < 120
    assert row == {"fault": name, "tried": COUNTS[name], "survived": COUNTS[name], "lost": 0}
    assert not os.listdir(tmp_path)


def test_what_is_lost_is_counted_and_said(tmp_path, capsys, monkeypatch):
    def tries(folder, chance):
        (folder / "work").mkdir()
        yield ""
        yield "a weight"
        yield ""

    monkeypatch.setattr(
        faults, "FAULTS", {"toy": tries, "other": lambda *_: (one for one in [""] * 3)}
    )
    with pytest.raises(SystemExit) as stopped:
        faults.main(["all", "--count", "3", "--folder", str(tmp_path)])
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert said.err == "toy, try 1: a weight\n"
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [(row["fault"], row["tried"], row["lost"]) for row in rows] == [
        ("toy", 3, 1),
        ("other", 3, 0),
        ("all", 6, 1),
    ]
    assert not os.listdir(tmp_path)


def test_a_loader_that_trusts_is_found_out(tmp_path, capsys, monkeypatch):
    """Nothing compared with its listing: bits that flipped go through, and the harness says so."""
    monkeypatch.setattr(files, "_compare", lambda *_: None)
    with pytest.raises(SystemExit):
        faults.main(["damage", "--count", "12", "--folder", str(tmp_path)])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["lost"] > 2


def test_a_slope_that_five_percent_hide_is_seen():
    """100 kB a minute of 100 MB are 3 % in half an hour."""
    level = [100_000_000 + 5_000 * (minute % 3) for minute in range(30)]
    assert abs(world.rise(level)) < world.SLOPE / 10
    assert (
        world.rise([value + 100_000 * minute for minute, value in enumerate(level)]) > world.SLOPE
    )


def test_chance_is_no_slope_and_a_leak_is():
    """With minutes that differ by 1 %: none is seen in nearly all of 200 half hours, 0.2 % a minute
    in nearly all.
    """
    random = np.random.default_rng(0)
    seen = {}
    for leak in (0, 0.002):
        rows = 1 + leak * np.arange(30) + random.normal(0, 0.01, (200, 30))
        seen[leak] = np.mean([world.rise(list(row)) > world.SLOPE for row in rows])
    assert seen[0] < 0.01
    assert seen[0.002] > 0.95


def test_the_spare_half_of_a_draw_counts_only_where_one_is_left_over():
    here = {"/random/has_uint32": 0, "/random/uinteger": 7, "/random/state": 3}
    assert checkpoint_ablation.spare("/random/uinteger", here)
    assert not checkpoint_ablation.spare("/random/uinteger", here | {"/random/has_uint32": 1})
    assert not checkpoint_ablation.spare("/random/state", here)


def test_an_unknown_fault_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown fault .kil.: fault: did you mean kill\?"):
        faults.main(["kil"])
