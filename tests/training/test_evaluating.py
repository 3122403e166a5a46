"""Evaluations during training change no state, keep the best checkpoint, and may fail."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from foreground import saved
from foreground.agents.average import WeightAverage
from foreground.configs import run as runs
from foreground.evaluation import probes, skill_report
from foreground.evaluation.report import Evaluator
from foreground.training import checkpoint
from tests.faults import checkpoint_ablation
from tests.support.programs import SMALL, metrics, run, written

FEW = [
    "--evaluation.episodes",
    "2",
    "--evaluation.num_skills",
    "4",
    "--skill.duration",
    "5",
    "--environment.time_limit",
    "60",
]
WORDS = ["--task", "reacher-easy", "--agent", "slim", *checkpoint_ablation.WORDS, *FEW]


def trained(folder: Path, words: list[str], evaluate=None) -> dict[str, str]:
    """Everything at the end of a small run in this process."""
    torch.set_num_threads(1)
    trainer = checkpoint_ablation.make(folder, words)
    if evaluate is None:
        config = runs.read([*checkpoint_ablation.SMALL, *words], cuda=False)
        evaluate = Evaluator(config, trainer.agent, folder).during_training
    trainer.evaluations.evaluate = evaluate
    return checkpoint_ablation.run_to(trainer, checkpoint_ablation.END)


def test_an_evaluation_leaves_no_trace_in_the_run(tmp_path):
    seen = trained(tmp_path / "seen", [*WORDS, "--training.evaluate_every", "70"])
    unseen = trained(tmp_path / "unseen", [*WORDS, "--training.evaluate_every", "0"])
    assert seen.pop("/clocks/evaluated") == "210"
    unseen.pop("/clocks/evaluated", None)
    assert seen == unseen
    assert (tmp_path / "seen" / "latent-heldout.mp4").exists()
    best = json.loads((tmp_path / "seen" / "best.json").read_text())
    assert best["env_frame"] in (70, 140, 210)
    assert (
        checkpoint.peek(tmp_path / "seen" / best["checkpoint"], "clocks", "agent_step") * 2
        == best["env_frame"]
    )
    assert not (tmp_path / "unseen" / "best").exists()


def test_the_best_evaluation_is_kept_while_older_checkpoints_go(tmp_path):
    returns = {40: 1.0, 80: 9.0, 120: 3.0, 160: 4.0, 200: 5.0}
    words = [*WORDS, "--training.evaluate_every", "40", "--training.checkpoint_every", "1000"]
    trained(tmp_path, words, lambda frame: {"return_heldout": returns[frame]})
    assert json.loads((tmp_path / "best.json").read_text())["env_frame"] == 80
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["step-000000000080"]
    assert [int(path.name[5:]) for path in checkpoint.steps(tmp_path / "checkpoints")] == [200, 230]


def test_a_run_shorter_than_the_default_period_is_evaluated_at_its_end_only():
    config = runs.read(["--total_frames", "20000"], cuda=False)
    assert config.training.evaluate_every == 25_000
    for agent in ("slim", "metra", "diayn", "slim_sum"):  # there an evaluation measures skills, too
        assert runs.read(["--agent", agent], cuda=False).training.evaluate_every == 100_000


def test_what_the_latent_holds_is_read_when_asked_for(tmp_path):
    folder, asked = (
        tmp_path / "run",
        ("--evaluation.latent", "true", "--evaluation.latent_episodes", 4),
    )
    result = run(
        "train.py",
        *SMALL,
        "--total_frames",
        600,
        "--folder",
        folder,
        "--training.evaluate_every",
        300,
        *asked,
    )
    assert result.returncode == 0, result.stderr
    kept = json.loads((folder / "best.json").read_text())
    assert kept["env_frame"] in (300, 600)
    best = folder / kept["checkpoint"]
    assert f"best checkpoint: frame {kept['env_frame']}, return " in result.stdout
    keys = (
        "state/linear/mean",
        "background/network/pixels",
        "state/nats/knn",
        "background/nats/diffusion",
        "similarity",
    )
    rows = {row["step"]: row for row in metrics(folder) if "evaluation/latent/similarity" in row}
    assert list(rows) == [300, 600]
    for key in keys:
        assert all(np.isfinite(row[f"evaluation/latent/{key}"]) for row in rows.values()), key
    assert cv2.imread(str(folder / "information_plane.png")).std() > 5
    assert b"latent/information_plane" in b"".join(
        path.read_bytes() for path in folder.glob("events.*")
    )
    assert "position[0]" in json.dumps(
        json.loads((folder / "latent.json").read_text())["readings"]["heldout"]
    )
    assert saved.find_run(folder / "best") == saved.find_run(best) == (folder, best)
    result = run(
        "eval.py",
        folder / "best",
        "--episodes",
        1,
        "--latent",
        "true",
        "--latent_episodes",
        4,
        "--background",
        "clean",
    )
    place = written(result)
    assert place == folder / "evaluation" / f"{best.name}-clean-latent-episodes=1-latent_episodes=4"
    few = (
        "clean task:\n"
        "  too few to tell: 4 episodes; a verdict needs 32 or more (--latent_episodes)\n"
        "  the latent"
    )
    assert few in result.stdout
    assert "R2 (network probe)" in result.stdout
    assert cv2.imread(str(place / "latent.png")).std() > 5
    other = tmp_path / "other"  # the same run, but for what its camera sees
    shutil.copytree(folder, other)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("  action_repeat: ", "  action_repeat: 1"))
    for actor, what in (
        (other, "environment.action_repeat is 1"),
        (tmp_path / "nowhere", "not a run folder"),
    ):
        result = run("eval.py", folder, "--latent", "--latent_actors", f"{folder},{actor}")
        assert result.returncode == 2
        assert what in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "name", "method"), [(probes, "inspect", "read"), (skill_report, "show", "skills")]
)
def test_latents_and_skills_are_measured_with_the_averaged_weights(
    tmp_path, monkeypatch, module, name, method
):
    layer = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(layer, 0.9)
    for value in (1.0, 3.0):
        torch.nn.init.constant_(layer.weight, value)
        average.update()
    mean = float(average.values["weight"])
    assert 1 < mean < 3

    def measure(*_, **__):
        raise StopIteration(layer.weight.item())

    monkeypatch.setattr(module, name, measure)
    words = ("--agent", "slim", "--background.source", "none", "--evaluation.latent", "true")
    config = runs.read([*words, "--size", "cpu"], cuda=False)
    evaluator = Evaluator(config, SimpleNamespace(average=average, spec=None), tmp_path)
    with pytest.raises(StopIteration) as seen:
        getattr(evaluator, method)(100, "clean")
    assert seen.value.value == mean
    assert layer.weight.item() == 3
