"""Curves and table of a suite: any agent, any number of seeds."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmarks import plot
from configs import run as runs


def write(folder, agent: str, seed: int, level: float, frames: int = 4000) -> None:
    xs = list(range(500 + 10 * seed, frames, 500))
    scores = {"heldout": level, "clean": level + 1, "random policy, heldout": 5.0}
    rows = {side: {"mean": mean, "interval": [mean - 2, mean + 2]} for side, mean in scores.items()}
    result = {"task": "walker-walk", "background": "PATH/clips", "agent": agent, "seed": seed, "env_frame": frames}
    result |= {"xs": xs, "ys": [level] * len(xs), "scores": rows}
    (folder / f"{agent}-{seed}.json").write_text(json.dumps(result))


def test_seeds_are_one_line_in_a_band_and_one_row(tmp_path):
    for seed, level in enumerate((10.0, 20.0, 60.0)):
        write(tmp_path, "infopower", seed, level)
    write(tmp_path, "repo", 0, 40.0)
    panels = plot.read(tmp_path)
    [(name, panel)] = panels.items()
    _, axes = plt.subplots()
    plot.draw(axes, name, panel, plot.colours(panels))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["infopower", "repo"]
    assert np.allclose(axes.lines[0].get_ydata(), 30.0)
    [band] = axes.collections  # none for a single seed
    assert band.get_datalim(axes.transData).intervaly == pytest.approx((10.0, 60.0))
    plt.close()
    _, _, one, two = plot.table(panels).splitlines()
    assert one == "| walker-walk | video | infopower | 3 | 4000 | 30 [10, 60] | - | 31 | 5 |"
    assert two == "| walker-walk | video | repo | 1 | 4000 | 40 [38, 42] | - | 41 | 5 |"


def test_every_agent_has_a_colour_of_its_own(tmp_path):
    for agent in (*runs.AGENTS, "of_another_house"):
        write(tmp_path, agent, 0, 10.0)
    chosen = plot.colours(plot.read(tmp_path))
    assert len({chosen[agent] for agent in (*runs.AGENTS, "of_another_house")}) == len(runs.AGENTS) + 1


def test_the_program_writes_picture_and_table(tmp_path, capsys):
    write(tmp_path, "repo", 0, 10.0)
    plot.main([str(tmp_path), str(tmp_path / "out.png")])
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert "| repo | 1 | 4000 |" in capsys.readouterr().out
