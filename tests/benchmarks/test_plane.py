"""Test the information plane: points from metrics.jsonl, and their plot."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import plane as program
from foreground.errors import UserError
from foreground.evaluation import plane


def test_points_are_the_evaluations_that_have_both(tmp_path):
    path = tmp_path / "metrics.jsonl"
    background, state = (f"{plane.PREFIX}/{key}" for key in plane.keys("knn"))
    others = {f"{plane.PREFIX}/{key}": 0.7 for key in plane.keys("compressed")}
    rows = [
        {"step": 10, state: 0.1, background: 0.5},
        {"step": 15, "episode/return": 3.0},
        {"step": 20, state: 0.2, background: None},
        {"step": 30, state: 0.3, background: 0.4, **others},
        {"step": 30, state: 0.4, background: 0.3},
    ]
    odd = ["[" * 100_000, "x", "[]", '{"step": "x"}']
    path.write_text("".join(f"{line}\n" for line in [*odd, *map(json.dumps, rows)]) + '{"st')
    found = plane.paths(path, (40, {"state/nats/knn": 0.6, "background/nats/knn": 0.2}))
    assert found["knn"] == [(10, 0.5, 0.1), (30, 0.3, 0.4), (40, 0.2, 0.6)]
    assert found["compressed"] == [(30, 0.7, 0.7)]
    assert "diffusion" not in found
    # A clean run has no background to read.
    assert plane.point(5, {"state/nats/knn": 1.0}) == {}


def test_the_picture_shows_the_run():
    path = [(10, 0.5, 0.1), (30, 0.3, 0.4)]
    narrow = plane.picture({"knn": path}, "infopower")
    image = plane.picture({"knn": path, "compressed": path}, "infopower")
    assert image.shape[1] > 1.9 * narrow.shape[1]
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    green = (image[..., 1].astype(int) - image[..., 0] > 60).sum()
    assert green > 100


def test_planes_of_a_suite(tmp_path, capsys):
    row = {
        "task": "walker-walk",
        "background": "PATH/clips",
        "seed": 0,
        "env_frame": 30,
        "xs": [1],
        "ys": [1],
        "scores": {},
    }
    (tmp_path / "a.json").write_text(
        json.dumps(row | {"method": "repo", "plane": [[10, 0.5, 0.1], [30, 0.2, 0.3]]})
    )
    (tmp_path / "b.json").write_text(json.dumps(row | {"method": "dreamer"}))
    program.main([str(tmp_path), str(tmp_path / "plane.png")])
    older = {"walker-walk, repo, seed 0": [30, 0.2, 0.3]}
    assert json.loads(capsys.readouterr().out) == {"knn": older}
    assert (tmp_path / "plane.png").stat().st_size > 5000
    low = Image.open(tmp_path / "plane.png").height
    curve = {"xs": [10, 20], "ys": [0.5, 0.75]}
    keys = [key for name in ("knn", "compressed") for key in plane.keys(name)]
    read = {f"latent/{key}": curve for key in keys}
    (tmp_path / "b.json").write_text(
        json.dumps(row | {"method": "dreamer", "seed": 1, "evaluations": read})
    )
    program.main([str(tmp_path), str(tmp_path / "plane.png")])
    new = {"walker-walk, dreamer, seed 1": [20, 0.75, 0.75]}
    assert json.loads(capsys.readouterr().out) == {"knn": older | new, "compressed": new}
    assert Image.open(tmp_path / "plane.png").height == 2 * low
    (tmp_path / "b.json").write_text(json.dumps(row | {"method": "dreamer"}))
    (tmp_path / "a.json").unlink()
    with pytest.raises(UserError, match="no run has read its latent"):
        program.main([str(tmp_path), str(tmp_path / "plane.png")])
