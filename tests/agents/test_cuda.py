"""Compare a GPU with the CPU; skipped where there is no GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foreground.agents.agent import WorldModelAgent
from foreground.agents.cuda_graphs import PLAIN
from foreground.training.replay import Replay
from foreground.world_models.world_model import Spaces
from tests.faults import runs
from tests.support.small import (
    DREAMER,
    INFOPOWER,
    assert_nan_is_stopped,
    make_agent,
    make_batch,
    row_layout,
)

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def on_cuda(cpu: WorldModelAgent, **changes) -> WorldModelAgent:
    """The same agent there, with the same weights."""
    config = cpu.config.__class__(**(vars(cpu.config) | {"compile": "false"} | changes))
    agent = WorldModelAgent(config, Spaces(32, 2), "cuda")
    agent.load_training_state(cpu.training_state())
    return agent


def without_chance(agent: WorldModelAgent) -> None:
    """Modes in place of samples, on any device the same."""
    latent = agent.world_model.rssm.latent
    latent.sample = latent.mode
    if "empowerment" in agent.world_model.terms:
        agent.world_model.terms["empowerment"].sample_prior = latent.mode


@pytest.mark.parametrize("terms", [INFOPOWER, DREAMER], ids=["infopower", "dreamer"])
def test_loss_and_gradient_are_those_of_the_cpu(terms):
    constraint = ("predictability", "reward", "empowerment") if terms is INFOPOWER else ()
    cpu = make_agent(terms, constraint)
    there = on_cuda(cpu)
    batch = make_batch()
    losses, norms = {}, {}
    for name, agent, mixed in (
        ("cpu", cpu, False),
        ("float32", there, False),
        ("bfloat16", there, True),
    ):
        without_chance(agent)
        model = agent.world_model
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
            loss = model.loss({key: value.to(agent.device) for key, value in batch.items()})[0][
                "world_model"
            ]
        found = torch.autograd.grad(
            loss,
            list(model.rssm.parameters()) + list(model.encoder.parameters()),
            allow_unused=True,
        )
        losses[name], norms[name] = (
            loss.item(),
            torch.nn.utils.get_total_norm([x for x in found if x is not None]).item(),
        )
    print(losses, norms)
    assert losses["float32"] == pytest.approx(losses["cpu"], rel=1e-3)
    assert norms["float32"] == pytest.approx(norms["cpu"], rel=1e-2)
    assert losses["bfloat16"] == pytest.approx(losses["cpu"], rel=0.05)
    assert norms["bfloat16"] == pytest.approx(norms["cpu"], rel=0.2)


def learned(agent: WorldModelAgent, updates: int) -> list[dict[str, torch.Tensor]]:
    """Return the metrics of each update, each on its own batch, read after the last one."""
    torch.manual_seed(1)
    return [agent.update(make_batch(seed=seed)) for seed in range(updates)]


def test_recorded_updates_are_the_plain_ones():
    """The same numbers are drawn, the same weights come out, and metrics that were kept are not
    written over.
    """
    cpu, updates = make_agent(), PLAIN + 7
    plain, recorded = on_cuda(cpu, cuda_graphs="false"), on_cuda(cpu)
    rows = [learned(agent, updates) for agent in (plain, recorded)]
    assert recorded.learners["model"].gradients.recordings
    assert recorded.learners["imagination"].gradients.recordings
    for ours, theirs in zip(*rows):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert float(theirs[name]) == pytest.approx(float(ours[name]), rel=0.05, abs=0.02), name
    for (name, one), two in zip(plain.named_parameters(), recorded.parameters()):
        assert (one - two).norm().item() <= 0.02 * one.norm().item() + 1e-3, name
    states = zip(plain.state_dict().items(), recorded.state_dict().values())
    assert not [
        name
        for (name, one), two in states
        if name.endswith("updates") and not torch.equal(one, two)
    ]


def test_recorded_actions_are_the_plain_ones():
    """The same numbers are drawn, and steps that were kept are not written over."""
    cpu = make_agent()
    rows = []
    for graphs in ("auto", "act"):
        agent = on_cuda(cpu, cuda_graphs=graphs)
        torch.manual_seed(1)
        memory, steps = agent.initial_state(3), []
        for step in range(PLAIN + 5):
            image = make_batch(3, 1, seed=step)["image"][:, 0]
            action, memory = agent.act(memory, image, torch.tensor([step == 0, step == 5, False]))
            steps.append(torch.cat([action, memory.state.feature, memory.noise], -1))
        rows.append(torch.stack(steps))
    assert agent.explore.recordings
    torch.testing.assert_close(*rows, rtol=1e-3, atol=1e-3)


def test_other_sizes_are_recorded_on_their_own():
    agent = on_cuda(make_agent())
    for batch in (4, 4, 4, 4, 2, 4, 2, 2, 2, 4):
        metrics = agent.update(make_batch(batch))
        assert all(torch.isfinite(value) for value in metrics.values())
    assert len(agent.learners["model"].gradients.recordings) == 2


def test_a_recorded_update_stops_before_the_weights():
    agent = on_cuda(make_agent())
    learned(agent, PLAIN + 2)
    assert_nan_is_stopped(agent)


def test_the_replay_there_gives_what_the_one_here_gives():
    replays = [
        Replay(row_layout((8, 8, 3), 2), 64, 2, seed=3, device=device) for device in ("cpu", "cuda")
    ]
    for step in range(50):
        rows = make_batch(2, 1, 8, seed=step)
        row = {name: value[:, 0].numpy() for name, value in rows.items()}
        row["is_first"][:], row["is_first"][0] = False, step % 9 == 0
        row["action"][row["is_first"]], row["reward"][row["is_first"]] = 0, 0
        for replay in replays:
            replay.add(row)
    for _ in range(3):
        here, there = (replay.sample(4, 6) for replay in replays)
        assert there["image"].device.type == "cuda"
        assert all(torch.equal(here[name], there[name].cpu()) for name in here)


def train(*words) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "train.py",
        *runs.PLAIN,
        "--device",
        "cuda",
        "--training.train_ratio",
        "8",
        *map(str, words),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [
        "infopower",
        "infopower, compiled",
        "c_dreamer",
        "dreamer",
        "slim",
        "metra",
        "diayn",
        "mra",
        "repo",
        "infopower_paper",
        "infopower_wasserstein",
    ],
)
def test_a_run_there_goes_on_and_is_evaluated_here(tmp_path, agent):
    agent, _, compiled = agent.partition(", ")
    few = ["--evaluation.num_skills", 4] if agent in ("slim", "metra", "diayn") else []
    words = ["--agent", agent, "--folder", tmp_path / "run", *few]
    words += ["--compile", "auto" if compiled else "false"]
    words += ["--task", "walker-walk", "--family.kind", "speed"] if agent == "mra" else []
    for frames in (300, 500):
        done = train(*words, "--total_frames", frames)
        assert done.returncode == 0, done.stderr
    assert "on cuda" in done.stdout
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert max(row["clock/update"] for row in rows if "clock/update" in row) > PLAIN + 50
    command = [
        sys.executable,
        "eval.py",
        str(tmp_path / "run"),
        "--episodes",
        "1",
        "--background",
        "clean",
        "--device",
        "cpu",
    ]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert seen.returncode == 0, seen.stderr
