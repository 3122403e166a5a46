"""Compare the replay and the returns with those of torchrl on the same numbers."""

import numpy as np
import pytest
import torch

from foreground.agents.returns import lambda_returns
from foreground.training.replay import Replay

pytestmark = pytest.mark.outside
tensordict = pytest.importorskip("tensordict", reason="make outside installs it")
buffers = pytest.importorskip("torchrl.data.replay_buffers", reason="make outside installs it")
functional = pytest.importorskip(
    "torchrl.objectives.value.functional", reason="make outside installs it"
)

STREAMS, CAPACITY, LENGTH, DRAWN = 3, 20, 5, 24_000

LAYOUT = {"image": ((2, 2, 3), np.uint8), "action": ((1,), np.float32), "reward": ((), np.float32)}
LAYOUT |= {name: ((), np.bool_) for name in ("is_first", "is_terminal")}


def rows_of(number: int) -> dict:
    tag = number + 1000.0 * np.arange(STREAMS)
    first = np.full(STREAMS, number % 7 == 0)
    image = np.broadcast_to(
        (tag % 251).astype(np.uint8)[:, None, None, None], (STREAMS, 2, 2, 3)
    ).copy()
    action, reward = (
        np.where(first, 0, tag + 0.5)[:, None].astype(np.float32),
        np.where(first, 0, tag).astype(np.float32),
    )
    terminal = np.full(STREAMS, number % 14 == 13)
    return {
        "image": image,
        "action": action,
        "reward": reward,
        "is_first": first,
        "is_terminal": terminal,
    }


@pytest.mark.parametrize("rows", [12, 33])
def test_sequences_are_those_of_slice_sampler(rows):
    """A stream of ours is a trajectory of theirs: the same sequences, each as often.

    12: not full; 33: gone round.
    """
    ours = Replay(LAYOUT, CAPACITY * STREAMS, num_envs=STREAMS, seed=0)
    history = [rows_of(number) for number in range(rows)]
    for row in history:
        ours.add(row)
    held = history[-CAPACITY:]
    # (N, rows, ...)
    flat = {name: torch.as_tensor(np.stack([row[name] for row in held], 1)) for name in held[0]}
    flat["stream"] = torch.arange(STREAMS)[:, None].expand(-1, len(held))
    flat = tensordict.TensorDict(
        {name: value.flatten(0, 1) for name, value in flat.items()}, [STREAMS * len(held)]
    )
    sampler = buffers.SliceSampler(slice_len=LENGTH, traj_key="stream", cache_values=True)
    theirs = buffers.TensorDictReplayBuffer(
        storage=buffers.LazyTensorStorage(len(flat)), sampler=sampler, batch_size=DRAWN * LENGTH
    )
    theirs.extend(flat)
    torch.manual_seed(0)
    batch, drawn = ours.sample(DRAWN, LENGTH), theirs.sample().reshape(DRAWN, LENGTH)
    counts = [counted(batch), counted(drawn)]
    assert counts[0].keys() == counts[1].keys()
    assert len(counts[0]) == STREAMS * (len(held) - LENGTH + 1)
    pairs = np.array([[count[key] for key in counts[0]] for count in counts], float)
    chi_square = ((pairs[0] - pairs[1]) ** 2 / (pairs[0] + pairs[1])).sum()
    freedom = len(counts[0]) - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def counted(batch) -> dict[bytes, int]:
    """How often each sequence was drawn; a sequence is all of its fields."""
    columns = [
        np.asarray(batch[name].reshape(DRAWN, -1), np.float32) for name in sorted(rows_of(0))
    ]
    found, times = np.unique(np.concatenate(columns, 1), axis=0, return_counts=True)
    return {row.tobytes(): int(count) for row, count in zip(found, times)}


@pytest.mark.parametrize("trace", [0.0, 0.75, 0.95, 1.0])
def test_lambda_returns_are_theirs(trace):
    """(H, N) of ours is (N, H, 1) there; a discount that varies in time ends episodes, too."""
    generator = torch.Generator().manual_seed(0)
    reward, value = (
        torch.randn(15, 40, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    discount = torch.rand(15, 40, generator=generator, dtype=torch.float64)
    reward_there, value_there, gamma = (x.T[..., None] for x in (reward, value, discount))
    never = torch.zeros_like(reward_there, dtype=torch.bool)
    for function in (
        functional.td_lambda_return_estimate,
        functional.vec_td_lambda_return_estimate,
    ):
        there = function(gamma, trace, value_there, reward_there, never, never)
        torch.testing.assert_close(lambda_returns(reward, discount, value, trace), there[..., 0].T)


def test_an_end_is_a_discount_of_zero():
    generator = torch.Generator().manual_seed(1)
    reward, value = torch.randn(2, 12, 30, generator=generator, dtype=torch.float64)
    ended = torch.rand(12, 30, generator=generator) < 0.2
    there = functional.vec_td_lambda_return_estimate(
        0.97, 0.95, value.T[..., None], reward.T[..., None], ended.T[..., None], ended.T[..., None]
    )
    torch.testing.assert_close(lambda_returns(reward, 0.97 * ~ended, value, 0.95), there[..., 0].T)
