"""Test benchmarks/bounds.py: its distributions, their known information, its last line."""

import json
import math

import numpy as np
import pytest
import torch

from benchmarks import bounds
from foreground.errors import UserError


def test_the_exported_tasks_are_there_and_hold_what_they_say():
    tasks = {task.name: task for task in bounds.exported()}
    assert set(tasks) == {"uniform", "wiggly", "swiss_roll", "half_cube", "spiral", "student"}
    # Uniform noise of half-width e on a uniform X of width 1, e < 1/2: I = e - ln(2 e), Czyz et al.
    # 2023.
    assert tasks["uniform"].nats == pytest.approx(0.1 - math.log(0.2), abs=1e-6)
    assert tasks["wiggly"].nats == pytest.approx(-0.5 * math.log(1 - 0.75**2), abs=1e-6)
    left, right = tasks["spiral"].train(8000)
    assert left.shape == right.shape == (8000, 5)
    assert torch.allclose(left.mean(0), torch.zeros(5), atol=0.05)
    assert float(abs(np.corrcoef(left[:, 0], right[:, 0])[0, 1])) < 0.95


def test_samples_to_score_are_not_those_to_train():
    task = bounds.exported()[0]
    seen = {tuple(row) for row in torch.cat(task.train(8000), 1).tolist()}
    fresh = {tuple(row) for row in torch.cat(task.test(2000), 1).tolist()}
    assert len(seen & fresh) < 0.2 * len(fresh)  # half precision makes some pairs equal


@pytest.mark.parametrize(("nats", "expected"), [(2.0, 1.95), (6.0, 4.95)])
def test_the_perfect_critic(nats, expected):
    torch.manual_seed(0)
    assert bounds.exact_nce(bounds.gaussian(20, nats)) == pytest.approx(expected, abs=0.08)


def test_the_limit_of_wasserstein_is_the_closed_form():
    rho = 0.8
    task = bounds.gaussian(3, -1.5 * math.log(1 - rho**2))
    assert task.correlation == pytest.approx(rho)
    joint, product = np.array([[1, rho], [rho, 1]]), np.eye(2)
    values, vectors = np.linalg.eigh(joint)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    slow = np.trace(joint + product - 2 * root)  # Bures
    assert bounds.limit(task, 3) == pytest.approx(math.sqrt(3 * slow))


@pytest.mark.slow
def test_the_program_ends_with_one_json_line(tmp_path, monkeypatch, capsys):
    first = bounds.exported()[:1]
    monkeypatch.setattr(bounds, "exported", lambda: first)
    bounds.main(
        ["--steps", "40", "--nats", "1", "--dimensions", "2", "--plot", str(tmp_path / "plot.png")]
    )
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    row = last["rows"][0]
    assert row["task"] == "gaussian, d=2"
    assert last["cap"] == pytest.approx(math.log(512), abs=1e-3)
    assert [row["task"] for row in last["rows"]] == ["gaussian, d=2", first[0].name]
    for name in ("nce", "nwj", "mi_alpha", "redundancy_reduction", "reconstruction"):
        assert 0.3 < row[name] < 1.1, name
    assert row["wasserstein"] <= row["w2"] + 0.02
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_new_estimates_stand_beside_those_of_a_result_file(tmp_path, monkeypatch, capsys):
    """Of fixed values: what is measured anew replaces its namesake, the rest stays."""
    path = tmp_path / "bounds.json"
    row = {"task": "gaussian, d=2", "nats": 1.0}
    kept = [row | {"exact_nce": 0.9, "nce": 0.8, "cmim": 0.1}]
    result = {"block": 512, "cap": 6.2, "steps": 800, "rows": kept}
    path.write_text(json.dumps(result))
    monkeypatch.setattr(bounds, "exported", list)
    monkeypatch.setattr(bounds, "measure", lambda task, names, steps: row | {"cmim": 0.6})
    words = ["--nats", "1", "--dimensions", "2", "--bounds", "cmim", "--into", str(path)]
    bounds.main(words)
    out = capsys.readouterr().out.splitlines()
    assert json.loads(path.read_text()) == json.loads(out[-1])
    last = json.loads(out[-1])
    assert last["rows"] == [kept[0] | {"cmim": 0.6}]
    assert list(last["origin"]) == ["cmim"]
    assert out[2] == "| gaussian, d=2 | 1.00 | 0.90 | 0.80 | 0.60 |  |"
    with pytest.raises(UserError, match="its tasks or steps are others"):
        bounds.main([*words, "--steps", "40"])
