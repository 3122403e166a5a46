"""Test the curves and the table of a suite, for any agent and number of seeds."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmarks import plot, plot_tables
from foreground.configs import run as runs
from foreground.errors import UserError
from tests.benchmarks.test_suites import write_run


def write(
    folder,
    agent: str,
    seed: int,
    level: float,
    frames: int = 4000,
    task: str = "walker-walk",
    **more,
) -> None:
    xs = list(range(500 + 10 * seed, frames, 500))
    scores = {"heldout": level, "clean": level + 1, "random policy, heldout": 5.0}
    rows = {side: {"mean": mean, "interval": [mean - 2, mean + 2]} for side, mean in scores.items()}
    result = more | {
        "task": task,
        "background": "PATH/clips",
        "method": agent,
        "seed": seed,
        "env_frame": frames,
    }
    result |= {"xs": xs, "ys": [level] * len(xs), "scores": rows}
    (folder / f"{task}-{agent}-{seed}.json").write_text(json.dumps(result))


def test_seeds_are_one_line_in_a_band_and_one_row(tmp_path):
    for seed, level in enumerate((10.0, 20.0, 60.0)):
        write(tmp_path, "infopower", seed, level)
    write(tmp_path, "repo", 0, 40.0)
    panels = plot_tables.read(tmp_path)
    [(name, panel)] = panels.items()
    _, axes = plt.subplots()
    plot.draw(axes, name, panel, plot.colours(panels))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["infopower", "repo"]
    assert np.allclose(axes.lines[0].get_ydata(), 30.0)
    [band] = axes.collections  # none for a single seed
    assert band.get_datalim(axes.transData).intervaly == pytest.approx((10.0, 60.0))
    plt.close()
    _, _, one, two = plot_tables.table(panels).splitlines()
    assert (
        one == "| walker-walk | video | infopower | 3 | 4000 | 30 [10, 60] | - | 31 [11, 61] | 5 |"
    )
    assert two == "| walker-walk | video | repo | 1 | 4000 | 40 [38, 42] | - | 41 [39, 43] | 5 |"


def test_every_agent_has_a_colour_of_its_own(tmp_path):
    for agent in (*runs.AGENTS, "of_another_house"):
        write(tmp_path, agent, 0, 10.0)
    chosen = plot.colours(plot_tables.read(tmp_path))
    assert (
        len({chosen[agent] for agent in (*runs.AGENTS, "of_another_house")}) == len(runs.AGENTS) + 1
    )


def test_evaluations_during_training_are_drawn_and_the_legend_says_what_is_what(tmp_path):
    for seed, level in enumerate((10.0, 20.0)):
        # Each seed has a frame that no other has.
        curve = {"xs": [1000, 2000 + seed, 3000], "ys": [level, 99.0, 2 * level]}
        write(tmp_path, "repo", seed, level, evaluations={"return_heldout": curve})
    [(name, panel)] = plot_tables.read(tmp_path).items()
    figure, axes = plt.subplots(layout="constrained")
    drawn = plot.draw(axes, name, panel, {"repo": "#123456"})
    assert drawn == {"line", "band", "evaluation", "end", "random"}
    dots = axes.lines[1]
    assert dots.get_xydata().tolist() == [[1000, 15.0], [3000, 30.0]]
    assert dots.get_color() == "#123456"
    plot.explain(figure, drawn)
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        words for words, _ in plot.STYLES.values()
    ]
    plt.close()


def test_the_legend_is_of_what_is_there(tmp_path):
    write(tmp_path, "repo", 0, 10.0)  # one seed, as results were before evaluations came with them
    [(name, panel)] = plot_tables.read(tmp_path).items()
    _, axes = plt.subplots()
    assert plot.draw(axes, name, panel, {"repo": "C0"}) == {"line", "end", "random"}
    plt.close()


def test_the_program_writes_picture_and_table(tmp_path, capsys):
    write(tmp_path, "repo", 0, 10.0)
    plot.main([str(tmp_path), str(tmp_path / "out.png")])
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert "| repo | 1 | 4000 |" in capsys.readouterr().out


@pytest.mark.slow
def test_tasks_are_aggregated_and_latents_told(tmp_path, capsys):
    for task, level in (("walker-walk", 100.0), ("cheetah-run", 300.0)):
        for seed in range(2):
            write(tmp_path, "repo", seed, level, frames=1500, task=task)
            write(
                tmp_path,
                "infopower",
                seed,
                level + 100,
                frames=1500,
                task=task,
                latent={"state/network/mean": 0.5 + seed},
            )
    write(tmp_path, "dreamer", 0, 900.0)  # on one task only: not in the aggregate
    plot.main([str(tmp_path), str(tmp_path / "out.png")])
    out = capsys.readouterr().out
    # 200, 200, 400, 400: the middle half.
    assert "| infopower | 2 | 4 | 0.300 [0.300, 0.300] |  |" in out
    assert "| repo | 2 | 4 | 0.200 [0.200, 0.200] | 1.00 |" in out
    assert "| dreamer | 1 | 1 |" not in out
    assert "| cheetah-run | video | infopower | 2 | 1.00 | nan |" in out
    assert plot_tables.estimate([np.array([1.0, 1.0]), np.array([3.0, 3.0])]) == pytest.approx(
        (2.0, 2.0, 2.0)
    )


def test_latents_are_paired_over_tasks_and_seeds(tmp_path):
    held = {"infopower": (0.5, 0.1), "c_dreamer": (0.4, 0.2)}
    for agent, (state, background) in held.items():
        for task in ("walker-walk", "cheetah-run"):
            for seed in range(2):
                more = 0.2 if (agent, task, seed) == ("c_dreamer", "cheetah-run", 1) else 0.0
                latent = {
                    "state/nats/knn": state + more,
                    "background/nats/knn": background,
                    "background/nats/compressed": 0.3,
                    "state/linear/mean": state,
                }
                write(tmp_path, agent, seed, 10.0, task=task, latent=latent)
    # No pair: it counts not.
    write(tmp_path, "infopower", 2, 10.0, task="walker-walk", latent={"state/nats/knn": 9.0})
    [chosen] = plot_tables.by_background(plot_tables.read(tmp_path)).values()
    one, two = plot_tables.latent_pairs(chosen).splitlines()[2:]
    assert one == "| infopower | 4 | 0.50 | nan | 0.50 | nan | nan | 0.10 | nan | 0.30 | - | - |"
    more = "| c_dreamer | 4 | 0.40 | nan | 0.45 | nan | nan | 0.20 | nan | 0.30 |"
    assert two == f"{more} 3 of 4 | 4 of 4 |"


def test_the_aggregate_curve_is_the_interquartile_mean_over_tasks(tmp_path):
    for task, level in (
        ("walker-walk", 100.0),
        ("cheetah-run", 300.0),
        ("finger-spin", 500.0),
        ("reacher-easy", 900.0),
    ):
        write(tmp_path, "infopower", 0, level, task=task)
    _, axes = plt.subplots()
    panels = plot_tables.read(tmp_path)
    plot.draw_all(axes, panels, plot.colours(panels))
    assert np.allclose(axes.lines[0].get_ydata(), 0.4)  # of 100, 300, 500, 900 the middle two
    plt.close()


def test_runs_are_drawn_beside_results_and_one_that_is_not_finished_has_no_score(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    write(tmp_path / "results", "repo", 0, 10.0)
    scores = {
        side: {"mean": 40.0, "interval": [38, 42], "returns": [40.0]}
        for side in ("heldout", "random policy, heldout")
    }
    done, going = write_run(tmp_path / "done", scores=scores), write_run(tmp_path / "going")
    places = [str(place) for place in (tmp_path / "results", done, going, tmp_path / "out.png")]
    plot.main(places)
    said = capsys.readouterr().out
    assert "| walker-walk | video | repo | 1 | 4000 | 10 [8, 12] |" in said
    assert "| walker-walk | video | dreamer | 2 | 1000 | 40 [38, 42] |" in said
    assert '"runs": 3' in said
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    plot.main([str(going), str(tmp_path / "alone.png")])
    assert "| dreamer | 1 | 1000 | - |" in capsys.readouterr().out


@pytest.mark.slow
def test_runs_without_a_curve_are_told_and_their_scores_are_drawn(tmp_path, capsys):
    """They are shorter than an episode of training; the warnings are one for each run."""
    for task in ("walker-walk", "cheetah-run"):
        write(tmp_path, "repo", 0, 10.0, task=task, frames=100)  # no episode
        write(tmp_path, "dreamer", 0, 10.0, task=task)
    write(tmp_path, "dreamer", 1, 30.0, frames=100)
    plot.main([str(tmp_path), str(tmp_path / "out.png")])
    printed = capsys.readouterr()
    assert sorted(printed.err.splitlines()) == [
        f"warning: {run}, seed {seed}: no curve, since no training episode has ended"
        for run, seed in (
            ("cheetah-run, video, repo", 0),
            ("walker-walk, video, dreamer", 1),
            ("walker-walk, video, repo", 0),
        )
    ]
    assert "| walker-walk | video | repo | 1 | 100 | 10 [8, 12] |" in printed.out
    panel = plot_tables.read(tmp_path)["walker-walk", "video"]
    _, axes = plt.subplots()
    plot.draw(axes, ("walker-walk", "video"), panel, {"repo": "C0", "dreamer": "C1"})
    assert axes.lines[0].get_ydata().tolist() == [10.0] * 7  # the seed that has a curve
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"repo", "dreamer"}
    plt.close()


def test_seeds_without_a_common_frame_are_told(tmp_path):
    write(tmp_path, "repo", 0, 10.0, frames=600)  # an episode at 500
    write(tmp_path, "repo", 1, 10.0, frames=600)  # and one at 510
    panels = plot_tables.read(tmp_path)
    assert plot_tables.without_curve(panels) == [
        "walker-walk, video, repo: no curve, since its seeds have no frame in common"
    ]
    _, axes = plt.subplots()
    assert plot.draw(axes, *next(iter(panels.items())), {"repo": "C0"}) == {"end", "random"}
    plt.close()


def test_tasks_without_a_common_agent_have_no_aggregate(tmp_path):
    write(tmp_path, "repo", 0, 10.0)
    write(tmp_path, "dreamer", 0, 10.0, task="cheetah-run")
    assert plot_tables.by_background(plot_tables.read(tmp_path)) == {}


@pytest.mark.parametrize("argv", [[], ["results/video"], ["a", "b"]])
def test_a_plot_without_a_picture_is_one_line(argv):
    with pytest.raises(UserError, match=r"OUTPUT\.png|add --places"):
        plot.main(argv)


def test_a_place_without_results_is_named(tmp_path):
    with pytest.raises(UserError, match="no result files and no run"):
        plot.main([str(tmp_path), str(tmp_path / "out.png")])
