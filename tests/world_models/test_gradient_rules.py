"""Rules by the gradients of the terms: the shortest vector of a hull, and the game for blocks."""

import functools

import numpy as np
import pytest
import torch

from foreground.configs import run as runs
from foreground.errors import UserError
from foreground.world_models.gradient_rules import (
    ByGradient,
    game,
    multiple_gradient,
    nearest_to_zero,
)
from foreground.world_models.objective import ObjectiveConfig, make_rule
from tests.support.small import INFOPOWER, make_agent, make_batch


def rows(*vectors: list[float]) -> torch.Tensor:
    """Gradients (K, 1, 1, E)."""
    return torch.tensor(vectors)[:, None, None, :]


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([[1.0, 0.0], [0.0, 2.0]], [0.8, 0.2]),  # orthogonal: by the inverse squares
        ([[1.0, 0.0], [-1.0, 0.0]], [0.5, 0.5]),  # opposite: zero lies between
        ([[1.0, 0.0], [2.0, 0.0]], [1.0, 0.0]),  # the shorter one
        ([[1.0, 0.0], [2.0, 0.5], [3.0, -1.0]], [1.0, 0.0, 0.0]),
        ([[1.0, 1.0], [1.0, -1.0], [5.0, 0.0]], [0.5, 0.5, 0.0]),
    ],
)
def test_the_shortest_point_of_a_hull(vectors, expected):
    matrix = np.array(vectors)
    assert nearest_to_zero(matrix @ matrix.T) == pytest.approx(expected, abs=1e-6)


def test_no_term_falls_along_the_direction_and_a_finer_search_finds_none_shorter():
    torch.manual_seed(0)
    for _ in range(20):
        found = torch.randn(4, 1, 1, 6)
        direction, metrics = multiple_gradient(found)
        units = found.flatten(1) / found.flatten(1).norm(dim=1, keepdim=True)
        along = units @ direction.flatten()
        assert float(along.min()) > -1e-4
        assert float(metrics["share"].sum()) == pytest.approx(1.0, abs=1e-5)
        weights = torch.distributions.Dirichlet(torch.ones(4)).sample((2000,))
        assert float((weights @ units).norm(dim=1).min()) >= float(metrics["descent"]) - 1e-5


def test_terms_that_agree_have_the_gradient_of_fixed_weights():
    found = rows([1.0, 2.0], [3.0, 6.0], [0.0, 0.0])  # the third has none: it takes no part
    direction, metrics = multiple_gradient(found)
    assert torch.allclose(direction, found.sum(0), atol=1e-5)
    assert float(metrics["descent"]) == pytest.approx(1.0, abs=1e-5)
    assert float(metrics["share"][2]) == 0.0


def test_terms_that_are_opposed_leave_the_encoder_where_it_is():
    direction, metrics = multiple_gradient(rows([1.0, 0.0], [-5.0, 0.0]))
    assert float(direction.norm()) == pytest.approx(0.0, abs=1e-5)
    assert float(metrics["descent"]) == pytest.approx(0.0, abs=1e-6)


def test_a_block_of_the_game_ascends_its_own_term_plus_a_share_of_the_others():
    found = rows([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0])
    for competition, expected in (
        (0.0, [1.0, 2.0, 30.0, 40.0]),
        (-1.0, [-9.0, -18.0, 27.0, 36.0]),
        (1.0, [11.0, 22.0, 33.0, 44.0]),
    ):
        assert game(found, competition)[0].flatten().tolist() == pytest.approx(expected)
    share = game(found, 0.0)[1]["share"]
    assert float(share[0] ** 2) == pytest.approx(5 / 30)


def test_every_block_of_the_game_ascends_the_terms_that_do_not_play():
    found = rows([1.0, 2.0, 3.0, 4.0], [100.0, 100.0, 100.0, 200.0], [10.0, 20.0, 30.0, 40.0])
    direction, metrics = game(found, -1.0, common=(1,))
    assert direction.flatten().tolist() == pytest.approx([91.0, 82.0, 127.0, 236.0])
    assert float(metrics["share"][1]) == 1.0
    assert float(metrics["share"][2] ** 2) == pytest.approx(25 / 30)


def test_the_reward_does_not_play():
    terms = {"contrastive": 1.0, "reward": 1.0, "control": 1.0}
    rule = make_rule(ObjectiveConfig(terms, (), rule="game"))
    x = torch.zeros(1, 1, 2, requires_grad=True)
    slopes = {"control": [1.0, 2.0], "reward": [10.0, 20.0], "contrastive": [100.0, 200.0]}
    values = {name: (x * torch.tensor(slope)).sum() for name, slope in slopes.items()}
    (found,) = torch.autograd.grad(rule(values, x)[0], x)
    assert (-found).flatten().tolist() == pytest.approx([110.0, 22.0])


def gradients(rule: str, **options) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """Gradients of an encoder's and of a head's weight under a rule, and the metrics."""
    objective = ObjectiveConfig(INFOPOWER, (), rule=rule, **options)
    model = make_agent(objective=objective).world_model
    torch.manual_seed(1)
    losses, _, values, metrics = model.loss(make_batch())
    plain = -sum(value.detach() for value in values.values())
    assert float(losses["world_model"].detach()) == pytest.approx(float(plain), rel=1e-5)
    weights = model.encoder.first.weight, next(model.terms["reward"].parameters())
    return *torch.autograd.grad(losses["world_model"], weights), metrics


def test_only_the_encoder_has_another_gradient_and_the_collaborative_game_has_none():
    encoder, head, _ = gradients("auto")
    same, head_of_game, _ = gradients("game", competition=1.0)
    assert float((encoder - same).norm()) < 1e-4 * float(encoder.norm())
    for name, options in (("pareto", {}), ("game", {})):
        other, head_of_other, metrics = gradients(name, **options)
        assert torch.equal(head, head_of_other)
        assert torch.equal(head, head_of_game)
        assert float((encoder - other).norm()) > 0.1 * float(encoder.norm())
        assert {f"objective/share_{term}" for term in INFOPOWER} <= set(metrics)


def test_the_direction_raises_every_term_of_a_toy():
    """Two terms of one vector, of scales 1 and 100: both rise under the rule, and one falls under
    fixed weights.
    """
    targets = torch.tensor([[1.0, 0.5]]), torch.tensor([[-0.8, 1.0]])

    def values(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"small": (x * targets[0]).sum(), "large": 100 * (x * targets[1]).sum()}

    ends = {}
    for name, direct in (
        ("rule", multiple_gradient),
        ("fixed", functools.partial(game, competition=1.0)),
    ):
        x = torch.zeros(1, 1, 2, requires_grad=True)
        loss, _ = ByGradient({"small": 1.0, "large": 1.0}, direct)(values(x), x)
        (slope,) = torch.autograd.grad(loss, x)
        ends[name] = values(-1e-3 * slope)
    assert all(float(value) > 0 for value in ends["rule"].values())
    assert float(ends["fixed"]["small"]) < 0


def test_without_gradients_it_is_the_sum():
    rule = ByGradient({"a": 2.0}, multiple_gradient)
    loss, metrics = rule({"a": torch.tensor(3.0)}, torch.zeros(1, 1, 2))
    assert (float(loss), metrics) == (-6.0, {})


def test_compiled_terms_are_refused():
    words = ["--agent", "infopower_pareto", "--compile"]
    with pytest.raises(UserError, match="compiled terms go once"):
        runs.read([*words, "true"], cuda=False)
    assert runs.read([*words, "false"], cuda=False).compile == "false"


def test_a_constraint_is_refused():
    with pytest.raises(UserError, match="has no constraint"):
        ObjectiveConfig(INFOPOWER, ("reward",), rule="game")
