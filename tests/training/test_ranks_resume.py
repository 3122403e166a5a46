"""Test which step several ranks of one run resume, and what they refuse to save."""

import torch

from foreground import ranks
from foreground.errors import UserError
from foreground.training import checkpoint, common
from tests.support.together import Raised, together


def find_in(table: dict[int, list[int]], broken: int, folder) -> tuple:
    """The newest step in common of a table of steps by rank; the broken rank can read none."""

    def find(most):
        here = [step for step in table[ranks.rank()] if most is None or step <= most]
        if ranks.rank() == broken:
            raise UserError("no checkpoint can be read", "here", "restore one")
        return (folder / f"step-{here[-1]:012d}" if here else None), []

    path, said = ranks.agreed(lambda: common.newest(find))
    return path and checkpoint.step_of(path), said


def test_the_newest_step_in_common_is_resumed(tmp_path):
    instead = "step-000000000300 is not there on every rank; step-000000000200 is used instead"
    zero, one = together(find_in, {0: [100, 200], 1: [200, 300]}, None, tmp_path)
    assert (zero, one) == ((200, []), (200, [instead]))
    zero, one = together(find_in, {0: [100, 200], 1: [150]}, None, tmp_path)
    assert (zero, one[0]) == ((None, [common.NONE_IN_COMMON]), None)
    assert together(find_in, {0: [], 1: [100]}, None, tmp_path) == [
        (None, []),
        (None, [common.NONE_IN_COMMON]),
    ]
    zero, one = together(find_in, {0: [100], 1: [100]}, 1, tmp_path)
    assert zero == Raised("SystemExit", "2", 2)
    assert "no checkpoint can be read" in one.text


def other_weights() -> None:
    weights = {"layer": torch.ones(3) * (1 + ranks.rank() * 1e-7)}
    common.check_weights({"layer": torch.ones(3)}, 10)
    common.check_weights(weights, 20)


def test_ranks_with_other_weights_are_not_saved():
    for error in together(other_weights):
        assert "no longer the same: frame 20" in error.text
