"""Test which rewards are rare, and how often sequences with one are drawn."""

import numpy as np
import pytest
import torch

from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.training.rare import MOST, QUIET
from foreground.training.replay import Replay
from tests.support.small import row_layout

LAYOUT = row_layout((2, 2, 3), 1, condition=1)  # the condition is the number of the row
EPISODE = 50


def rows_of(number: int, streams: int, paid: float, seed: int = 0) -> list[dict]:
    """Rows with a reward in a share of them, the same for every call."""
    generator = np.random.default_rng(seed)
    found = []
    for row in range(number):
        first = np.full(streams, row % EPISODE == 0)
        reward = (generator.random(streams) < paid) & ~first
        found.append(
            {
                "image": np.zeros((streams, 2, 2, 3), np.uint8),
                "action": np.zeros((streams, 1), np.float32),
                "condition": np.full((streams, 1), row, np.float32),
                "reward": reward.astype(np.float32),
                "is_first": first,
                "is_terminal": np.zeros(streams, bool),
            }
        )
    return found


def filled(rows: list[dict], capacity: int, share: float = 0.4, recent: int = 0) -> Replay:
    streams = len(rows[0]["reward"])
    replay = Replay(LAYOUT, capacity * streams, streams, seed=1, rare=share, recent_steps=recent)
    for row in rows:
        replay.add(row)
    return replay


def is_rare(rows: list[dict], stream: int, row: int) -> bool:
    """The slow reference: by looking back."""
    since = row % EPISODE
    before = [rows[row - back]["reward"][stream] for back in range(1, min(since, QUIET) + 1)]
    return bool(rows[row]["reward"][stream]) and since > QUIET and not any(before)


def holds_one(batch: dict[str, torch.Tensor], rows: list[dict]) -> torch.Tensor:
    """Whether a rare reward is behind the first row of each sequence, for one stream: (B,)."""
    rare = torch.tensor([is_rare(rows, 0, row) for row in range(len(rows))])
    return rare[batch["condition"][:, 1:, 0].long()].any(1)


@pytest.mark.parametrize(("number", "capacity"), [(180, 400), (400, 170)])
def test_the_rows_are_those_that_looking_back_finds(number, capacity):
    rows = rows_of(number, 3, paid=0.06)
    replay = filled(rows, capacity)
    for stream, found in enumerate(replay._rare.rows):
        wanted = [row for row in range(number) if is_rare(rows, stream, row)]
        assert 1 < len(wanted) == len(found)
        assert found == wanted


def test_a_share_of_the_sequences_holds_one():
    rows = rows_of(2001, 1, paid=0.006, seed=3)
    replay = filled(rows, 2001)
    events = len(replay._rare.rows[0])
    assert 10 < events < 20
    rare, uniform = (
        float(holds_one(each.sample(4000, 9), rows).float().mean())
        for each in (replay, filled(rows, 2001, share=0.0))
    )
    assert uniform == pytest.approx(8 * events / 1993, abs=0.01)
    assert rare == pytest.approx(0.4 + 0.6 * uniform, abs=0.03)


def test_where_most_rows_have_a_reward_few_sequences_are_drawn_for_one():
    """Of each episode rows 20 and 32 to 49 have a reward: 19 of 50, and two are rare."""
    rows = rows_of(1500, 1, paid=0.0)
    for row in rows:
        number = int(row["condition"][0, 0]) % EPISODE
        row["reward"][:] = number == 20 or number >= 32
    replay = filled(rows, 1000)
    uniform = float(holds_one(filled(rows, 1000, share=0.0).sample(8000, 4), rows).float().mean())
    assert uniform == pytest.approx(2 * 3 / 50, abs=0.02)
    rare = float(holds_one(replay.sample(8000, 4), rows).float().mean())
    share = 0.4 * (1 - 19 / 50)
    assert rare == pytest.approx(share + (1 - share) * uniform, abs=0.02)


def test_one_event_among_many_rows_is_drawn_no_more_than_so_many_times_as_often():
    rows = rows_of(5001, 1, paid=0.0)
    rows[120]["reward"][:] = 1
    batch = filled(rows, 5001).sample(20_000, 9)
    share = float(batch["reward"][:, 1:].any(1).float().mean())
    assert share == pytest.approx(MOST * 9 / 4993, abs=0.01)
    assert share < 0.2


@pytest.mark.parametrize("stop", [None, 160])
def test_sequences_stay_within_the_rows_that_are_there(stop):
    rows = rows_of(300, 2, paid=0.05)
    replay = filled(rows, 170, share=0.5)
    assert replay.first_row == 130
    numbers = replay.sample(3000, 12, stop)["condition"][..., 0]
    assert numbers.min() >= 130
    assert numbers.max() == (stop or 300) - 1
    assert (numbers.diff(dim=1) == 1).all()


def test_without_such_rewards_or_without_a_share_the_sample_is_uniform():
    dense = rows_of(300, 2, paid=1.0)
    plain, asked = filled(dense, 300, share=0.0), filled(dense, 300)
    assert asked._rare.rows == [[], []]
    torch.testing.assert_close(plain.sample(8, 12), asked.sample(8, 12))
    starts = asked.sample(20_000, 12)["condition"][:, 0, 0]
    assert len(starts.unique()) == 289  # every one


def test_a_loaded_replay_draws_the_same_sequences(tmp_path):
    for capacity in (400, 170):
        rows = rows_of(300, 2, paid=0.05)
        replay = filled(rows, capacity, recent=60)
        folder = tmp_path / str(capacity)
        loaded = Replay(LAYOUT, capacity * 2, 2, seed=9, rare=0.4, recent_steps=60)
        loaded.load(folder, *replay.save(folder))
        for more in rows_of(120, 2, paid=0.05, seed=5):
            torch.testing.assert_close(replay.sample(16, 12), loaded.sample(16, 12))
            replay.add(more)
            loaded.add(more)


def test_a_run_that_no_reward_of_the_task_pays_draws_uniformly():
    words = ["--training.rare_rewards", "0.2", "--size", "cpu", "--agent"]
    with pytest.raises(UserError, match=r"rare_rewards is not read.*task or game is among"):
        runs.read([*words, "metra"], cuda=False)
    assert runs.read([*words, "dreamer"], cuda=False).training.rare_rewards == 0.2
