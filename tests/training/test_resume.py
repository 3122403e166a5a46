"""Test exact resume: each item of a checkpoint is needed, and all together suffice."""

import copy

import pytest
import torch

from tests.faults import checkpoint_ablation
from tests.faults.resume import options_of
from tests.faults.states import text_of

WORDS = [
    "--task",
    "reacher-easy",
    "--agent",
    "slim",
    "--skill.duration",
    "7",
    "--background.redraw_every",
    "9",
    *checkpoint_ablation.WORDS,
]


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[dict, dict, dict[str, str]]:
    torch.set_num_threads(1)
    return checkpoint_ablation.stretch(tmp_path_factory.mktemp("straight"), WORDS)


def test_it_goes_on_to_the_bit(straight, tmp_path):
    state, _, end = straight
    assert checkpoint_ablation.resumed(tmp_path, WORDS, copy.deepcopy(state)) == end
    assert any(place.startswith("/agent/optimisers/discovery") for place in end)


ITEMS = [
    "agent/weights",
    "agent/optimisers/world_model",
    "agent/optimisers/actor",
    "agent/optimisers/critic",
    "agent/optimisers/discovery",
    "agent/optimisers/pictures",
    "replay/tail",
    "replay/manifest/generator",
    "clocks/agent_step",
    "clocks/owed",
    "clocks/update",
    "clocks/evaluated",
    "episodes/count",
    "episodes/diverged",
    "episodes/score",
    "random/torch",
    "rollout/envs",
    "rollout/memory",
    "rollout/row",
    "rollout/episodes/score",
    "rollout/episodes/length",
    "rollout",
]


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_is_needed(straight, tmp_path, item):
    """With what another run has in its place, or with nothing, the end is another."""
    state, other, end = straight
    state = copy.deepcopy(state)
    *path, last = item.split("/")
    node, from_other = state, other
    for name in path:
        node, from_other = node[name], from_other[name]
    if item == "rollout":  # then new episodes begin, and that is said
        node[last] = {}
        with pytest.raises(RuntimeError, match="no episode under way"):
            checkpoint_ablation.resumed(tmp_path, WORDS, state)
        return
    if text_of(from_other[last]) == text_of(node[last]):
        node[last] = node[last] + 1  # a number that is the same there
    else:
        node[last] = from_other[last]
    assert checkpoint_ablation.resumed(tmp_path, WORDS, state) != end


@pytest.mark.parametrize("agent", ["infopower", "slim", "mra"])
def test_every_weight_and_statistic_is_in_the_checkpoint(tmp_path, agent):
    """Buffers, too: multipliers, scales, moving means.

    What is left out is as it was before the first update.
    """
    torch.set_num_threads(1)
    # A constraint whose multiplier moves.
    broken = ["--world_model.objective.threshold", "1e6"] if agent == "infopower" else []
    trainer = checkpoint_ablation.make(
        tmp_path, options_of(agent, tmp_path, *checkpoint_ablation.WORDS, *broken)
    )
    before = {name: value.clone() for name, value in trainer.agent.named_buffers()}
    checkpoint_ablation.run_to(trainer, checkpoint_ablation.CUT)
    kept = set(checkpoint_ablation.state_of(tmp_path)["agent"]["weights"])
    assert {name for name, _ in trainer.agent.named_parameters()} <= kept
    moved = {
        name
        for name, value in trainer.agent.named_buffers()
        if not torch.equal(value, before[name])
    }
    assert moved <= kept
    assert agent == "mra" or any(name.endswith("log_multiplier") for name in moved)
