"""Test the forms of discovery on transitions with a known answer."""

import math

import pytest
import torch

from foreground.agents.discovery import KINDS, DiscoveryConfig, make_discovery
from foreground.agents.skills import SkillConfig, Skills

ONE_HOT = SkillConfig(size=5, kind="one_hot", duration=4)


def walk(number=512, steps=2.0, seed=0):
    """Return transitions in a plane along the skill; the last two features are noise.

    Returns previous (N, 4), following (N, 4) and skill (N, 2).
    """
    generator = torch.Generator().manual_seed(seed)
    skill = torch.nn.functional.normalize(torch.randn(number, 2, generator=generator), dim=-1)
    previous = torch.randn(number, 4, generator=generator)
    move = torch.cat([steps * skill, torch.zeros(number, 2)], -1)
    return previous, previous + move, skill


@pytest.mark.parametrize("form", KINDS)
def test_every_form_learns_where_the_skill_goes(form):
    torch.manual_seed(0)
    config = DiscoveryConfig(form, units=32, layers=1)
    discovery = make_discovery(config, 4, Skills(SkillConfig(size=2)))
    adam = torch.optim.Adam(discovery.parameters(), 3e-3)
    for step in range(300):
        previous, following, skill = walk(seed=step)
        if form == "classifier":
            previous, following = (
                torch.zeros_like(previous),
                following - previous,
            )  # it looks at places, not at moves
        loss, metrics = discovery.loss(previous, following, skill)
        adam.zero_grad()
        loss.backward()
        adam.step()
    right = discovery.reward(previous, following, skill).mean()
    wrong = discovery.reward(previous, following, -skill).mean()
    assert right > 0.3
    assert right > wrong + 0.6
    if form == "wasserstein":
        assert (
            0.2 < float(metrics["length"].detach()) < 1.1
        )  # the budget is used, and kept by nearly every pair
    if form == "lipschitz":
        length = (discovery.map(following) - discovery.map(previous)).norm(dim=-1)
        assert (
            length <= 2.0 * 1.05
        ).all()  # no longer than the move in the latent, up to the norms' estimate


def test_the_dual_variable_rises_while_steps_are_too_long_and_falls_while_they_are_short():
    discovery = make_discovery(
        DiscoveryConfig("wasserstein", units=32, layers=1), 4, Skills(SkillConfig(size=2))
    )
    start = float(discovery.log_multiplier)
    previous, following, skill = walk()
    short = previous + 1e-4 * (following - previous)
    for _ in range(5):
        discovery.loss(previous, short, skill)
    assert float(discovery.log_multiplier) == pytest.approx(start - 0.05, abs=1e-3)
    with torch.no_grad():
        discovery.map[-1].weight.mul_(100)
    for _ in range(5):
        discovery.loss(previous, following, skill)
    assert float(discovery.log_multiplier) == pytest.approx(start, abs=1e-3)


def test_a_classifier_says_how_many_nats_a_skill_is_known_by():
    classifier = make_discovery(
        DiscoveryConfig("classifier", units=32, layers=1), 4, Skills(ONE_HOT)
    )
    skill = Skills(ONE_HOT).discrete()
    ratio = classifier.prior.log_ratio(torch.zeros(5, 5), skill)
    assert torch.allclose(ratio, torch.zeros(5), atol=1e-6)  # nothing is known
    ratio = classifier.prior.log_ratio(100 * skill, skill)
    assert torch.allclose(
        ratio, torch.full((5,), math.log(5)), atol=1e-4
    )  # all is known: ln of their number
    direction = torch.randn(7, 5)
    known = torch.stack(
        [classifier.prior.log_ratio(direction, skill[k].expand(7, 5)) for k in range(5)]
    )
    assert torch.allclose((known.exp() / 5).sum(0), torch.ones(7), atol=1e-5)  # q is a distribution


@pytest.mark.parametrize("size", [2, 4])
def test_on_the_sphere_no_direction_tells_more_than_the_skills_it_is_held_against(size):
    """The bound holds in four dimensions.

    With samples of the prior alone as negatives the ratio has no bound: 19 nats of 4.9.
    """
    prior = make_discovery(DiscoveryConfig("classifier"), 4, Skills(SkillConfig(size=size))).prior
    skill = torch.nn.functional.normalize(torch.randn(4000, size), dim=-1)
    cap = math.log(len(prior.skills) + 1)
    told = [
        float(prior.log_ratio(length * skill, skill).mean()) for length in (0.0, 1.0, 10.0, 1000.0)
    ]
    assert told[0] == pytest.approx(0, abs=1e-5)
    assert told == sorted(told)
    assert 0.9 * cap < float(prior.log_ratio(1e5 * skill, skill).mean()) <= cap + 1e-5
    assert float(prior.log_ratio(300 * skill, skill).max()) <= cap + 1e-5
    assert float(prior.log_ratio(10 * skill, skill.flip(0)).mean()) < 0
