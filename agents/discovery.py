"""Skill discovery: a reward for moving in the direction of the skill in a learned map of states.

Each kind is a module with three methods: `direction(previous, following)`; `reward(previous,
following, skill)`, its component along the skill; and `loss` of the same arguments. All maximise a
bound on the information between skills and states, or a distance. They read the latent of the world
model detached and do not train it.
Shapes: N any leading axes, F features, C skill, M draws of the prior.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from foreground import ranks
from foreground.agents.skills import Skills
from foreground.errors import UserError
from foreground.option import config_class, option
from foreground.world_models.networks import MLP

PRIOR_DRAWS = 128  # M, samples of the prior in log-ratios of skills on the sphere
TEMPORAL = "temporal"  # the kind of the map of agents/goal.py, which is no map of skills


WASSERSTEIN = "where --discovery.kind is wasserstein", lambda config: config.kind == "wasserstein"
SCORED = (
    "where --discovery.kind is classifier, contrastive or temporal",
    lambda config: config.kind in ("classifier", "contrastive", TEMPORAL),
)
LAGGED = "where --discovery.kind is temporal", lambda config: config.kind == TEMPORAL


@config_class
class DiscoveryConfig:
    kind: str = option(
        "wasserstein",
        "Objective of the map: wasserstein (METRA), lipschitz (LSD), contrastive (CSF), "
        "classifier (DIAYN), or temporal (goals).",
        choices=lambda: (*KINDS, TEMPORAL),
    )
    units: int = option(256, "Units of the map.", ge=8, le=65536)
    layers: int = option(2, "Layers of the map.", ge=1, le=100)
    lr: float = option(1e-3, "Learning rate of the map.", gt=0.0)
    slack: float = option(
        1e-3,
        "wasserstein: slack of the constraint that a step has at most length 1.",
        gt=0.0,
        read_if=WASSERSTEIN,
    )
    multiplier_init: float = option(
        1.0,
        "wasserstein: initial multiplier of the constraint. METRA's 30 is too large for "
        "runs of few updates.",
        gt=0.0,
        read_if=WASSERSTEIN,
    )
    dual_rate: float = option(
        0.01,
        "wasserstein: step of the logarithm of the multiplier, per unit of slack.",
        gt=0.0,
        read_if=WASSERSTEIN,
    )
    temperature: float = option(
        1.0,
        "classifier, contrastive, temporal: temperature of the scores.",
        gt=0.0,
        read_if=SCORED,
    )
    lag: float = option(
        4.0,
        "temporal: mean number of steps between two states that the map brings together.",
        gt=1.0,
        read_if=LAGGED,
    )


def along(direction: Tensor, skill: Tensor) -> Tensor:
    """Return the component of a direction along the skill: (N, C), (N, C) -> (N,)."""
    return (direction * skill).sum(-1)


class WassersteinDiscovery(nn.Module):
    """E[(phi(s') - phi(s))^T c] subject to |phi(s') - phi(s)|^2 <= 1 between neighbours (METRA,
    arXiv 2310.08887).

    The square is summed over dimensions. The dual step changes the logarithm of the multiplier, as
    in the world model.
    """

    def __init__(self, config: DiscoveryConfig, feature: int, skills: Skills):
        super().__init__()
        self.config = config
        self.map = MLP(feature, config.units, config.layers, skills.size)
        self.register_buffer("log_multiplier", torch.tensor(math.log(config.multiplier_init)))

    def direction(self, previous: Tensor, following: Tensor) -> Tensor:
        """Return phi(s') - phi(s): (N, F), (N, F) -> (N, C)."""
        return self.map(following) - self.map(previous)

    def reward(self, previous: Tensor, following: Tensor, skill: Tensor) -> Tensor:
        """Return the reward: (N, F), (N, F), (N, C) -> (N,)."""
        return along(self.direction(previous, following), skill)

    def loss(
        self, previous: Tensor, following: Tensor, skill: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, and metrics; take the dual step."""
        step = self.direction(previous, following)  # (N, C)
        forward = along(step, skill)
        length = step.square().sum(-1)
        slack = (1 - length).clamp(max=self.config.slack).mean()
        multiplier = self.log_multiplier.exp()
        loss = -(forward.mean() + multiplier * slack) / (1 + multiplier)
        with torch.no_grad():
            (slack,) = ranks.mean([slack])
            self.log_multiplier.sub_(self.config.dual_rate * slack.clamp(-1, 1) / self._unit(slack))
            self.log_multiplier.clamp_(math.log(1e-2), math.log(1e4))
        return loss, {"along": forward.mean(), "length": length.mean(), "multiplier": multiplier}

    def _unit(self, slack: Tensor) -> Tensor:
        """Return the unit of slack: positive slack is clamped to `slack`, negative slack can be
        large.
        """
        return torch.where(slack > 0, self.config.slack, 1.0)


class LipschitzDiscovery(nn.Module):
    """E[(phi(s') - phi(s))^T c], phi 1-Lipschitz by spectral norms (LSD, arXiv 2202.00914)."""

    def __init__(self, config: DiscoveryConfig, feature: int, skills: Skills):
        super().__init__()
        sizes = [feature, *[config.units] * config.layers, skills.size]
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            parts += [spectral_norm(nn.Linear(inputs, outputs)), nn.ReLU()]
        self.map = nn.Sequential(*parts[:-1])

    def direction(self, previous: Tensor, following: Tensor) -> Tensor:
        """Return phi(s') - phi(s): (N, F), (N, F) -> (N, C)."""
        return self.map(following) - self.map(previous)

    def reward(self, previous: Tensor, following: Tensor, skill: Tensor) -> Tensor:
        """Return the reward: (N, F), (N, F), (N, C) -> (N,)."""
        return along(self.direction(previous, following), skill)

    def loss(
        self, previous: Tensor, following: Tensor, skill: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, and metrics."""
        step = self.direction(previous, following)
        forward = along(step, skill)
        return -forward.mean(), {"along": forward.mean(), "length": step.square().sum(-1).mean()}


class ContrastiveDiscovery(nn.Module):
    """I(S, S'; C) >= E log softmax of (phi(s') - phi(s))^T c among skills of the prior (CSF, arXiv
    2412.08021).

    The reward is (phi(s') - phi(s))^T c, as in CSF: the log-ratio without its denominator.
    """

    def __init__(self, config: DiscoveryConfig, feature: int, skills: Skills):
        super().__init__()
        self.map = MLP(feature, config.units, config.layers, skills.size)
        self.temperature = config.temperature
        self.prior = LogRatio(skills)

    def direction(self, previous: Tensor, following: Tensor) -> Tensor:
        """Return phi(s') - phi(s): (N, F), (N, F) -> (N, C)."""
        return self.map(following) - self.map(previous)

    def reward(self, previous: Tensor, following: Tensor, skill: Tensor) -> Tensor:
        """Return the reward: (N, F), (N, F), (N, C) -> (N,)."""
        return along(self.direction(previous, following), skill)

    def loss(
        self, previous: Tensor, following: Tensor, skill: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, and metrics; `nats` is the bound."""
        step = self.direction(previous, following)
        nats = self.prior.log_ratio(step / self.temperature, skill).mean()
        return -nats, {"nats": nats, "length": step.square().sum(-1).mean()}


class ClassifierDiscovery(nn.Module):
    """I(S'; C) >= E[log q(c | s') - log p(c)], which is also the reward (DIAYN, arXiv 1802.06070).

    q is proportional to p(c) exp(g(s')^T c): a softmax over one-hots, von Mises-Fisher on the
    sphere.
    """

    def __init__(self, config: DiscoveryConfig, feature: int, skills: Skills):
        super().__init__()
        self.map = MLP(feature, config.units, config.layers, skills.size)
        self.temperature = config.temperature
        self.prior = LogRatio(skills)

    def direction(self, previous: Tensor, following: Tensor) -> Tensor:
        """Return g(s'), the natural parameter of q: (N, F), (N, F) -> (N, C).

        It ignores the previous state.
        """
        return self.map(following) / self.temperature

    def reward(self, previous: Tensor, following: Tensor, skill: Tensor) -> Tensor:
        """Return the reward: (N, F), (N, F), (N, C) -> (N,), in nats."""
        return self.prior.log_ratio(self.direction(previous, following), skill)

    def loss(
        self, previous: Tensor, following: Tensor, skill: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, and metrics; `nats` is the bound."""
        nats = self.reward(previous, following, skill).mean()
        return -nats, {"nats": nats}


class LogRatio(nn.Module):
    """Compares the score of a skill with those of other skills: all one-hots, or M fixed samples
    and itself.

    The skill itself is always among them, so that the ratio is at most the logarithm of their
    number. With samples alone the information of a long direction, which almost no sample meets,
    would be overestimated.
    """

    def __init__(self, skills: Skills):
        super().__init__()
        few = self.few = skills.config.kind == "one_hot"
        generator = torch.Generator().manual_seed(0)
        draws = F.normalize(
            torch.randn(PRIOR_DRAWS, skills.size, generator=generator, device="cpu"), dim=-1
        )
        self.register_buffer("skills", skills.discrete() if few else draws)  # (M, C)

    def log_ratio(self, direction: Tensor, skill: Tensor) -> Tensor:
        """Return ln exp(u^T c) / E_p exp(u^T c'), u (N, C), c (N, C) -> (N,), in nats."""
        own = along(direction, skill)  # (N,)
        scores = direction @ self.skills.T  # (N, M)
        if not self.few:
            scores = torch.cat([scores, own.unsqueeze(-1)], -1)  # (N, M + 1)
        return own - torch.logsumexp(scores, -1) + math.log(scores.shape[-1])


KINDS = {
    "wasserstein": WassersteinDiscovery,
    "lipschitz": LipschitzDiscovery,
    "contrastive": ContrastiveDiscovery,
    "classifier": ClassifierDiscovery,
}


def make_discovery(config: DiscoveryConfig, feature: int, skills: Skills) -> nn.Module:
    """Return the map of a config.

    Raises: UserError where there are no skills, or for a map of goals.
    """
    if config.kind == TEMPORAL:
        what = "the map 'temporal' is of goals, not of skills"
        raise UserError(what, "discovery.kind", "choose another kind, or --agent goal")
    if not skills.size:
        raise UserError(
            "the reward 'discovery' needs skills, and their size is 0",
            "skill.size",
            "choose 2 or more",
        )
    return KINDS[config.kind](config, feature, skills)
