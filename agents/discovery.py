"""Discovery: a reward for going where the skill says, and the map that says where that is.

Each form is a module with three verbs: `direction(previous, following)`, `reward(previous, following, skill)`, the part of it
that goes where the skill says, and `loss` of the same. All maximise a bound on, or a distance of, the information between
skills and states; they read the world model's latent, detached, and never shape it.
Shapes: N any leading axes, F features, C skill, M draws of the prior.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from foreground.agents.skills import Skills
from foreground.errors import UserError, nearest
from foreground.option import option
from foreground.world_models.networks import MLP

PRIOR_DRAWS = 128  # M, what log-ratios of skills on the sphere are held against


WASSERSTEIN = "where --discovery.kind is wasserstein", lambda config: config.kind == "wasserstein"
SCORED = (
    "where --discovery.kind is classifier or contrastive",
    lambda config: config.kind in ("classifier", "contrastive"),
)


@dataclass(frozen=True)
class DiscoveryConfig:
    kind: str = option(
        "wasserstein",
        "How states are told apart: wasserstein (METRA), lipschitz (LSD), contrastive (CSF) or classifier (DIAYN).",
        choices=("wasserstein", "lipschitz", "contrastive", "classifier"),
    )
    units: int = option(256, "Units of the map.", ge=8, le=65536)
    layers: int = option(2, "Layers of the map.", ge=1, le=100)
    lr: float = option(1e-3, "Learning rate of the map.", gt=0.0)
    slack: float = option(
        1e-3,
        "wasserstein: how much shorter than 1 a step may be before its constraint has no pull.",
        gt=0.0,
        read_if=WASSERSTEIN,
    )
    multiplier_init: float = option(
        1.0,
        "wasserstein: what the constraint's multiplier starts with; METRA's 30 costs few-update runs the map.",
        gt=0.0,
        read_if=WASSERSTEIN,
    )
    dual_rate: float = option(
        0.01, "wasserstein: step of the logarithm of the multiplier, per unit of slack.", gt=0.0, read_if=WASSERSTEIN
    )
    temperature: float = option(1.0, "classifier, contrastive: by which scores are divided.", gt=0.0, read_if=SCORED)


def along(direction: Tensor, skill: Tensor) -> Tensor:
    """(N, C), (N, C) -> (N,)."""
    return (direction * skill).sum(-1)


class Wasserstein(nn.Module):
    """E[(phi(s') - phi(s))^T c] subject to |phi(s') - phi(s)|^2 <= 1 between neighbours (METRA, arXiv 2310.08887).

    The square is summed over dimensions. The multiplier takes its own steps in the logarithm, as that of the world model.
    """

    def __init__(self, config: DiscoveryConfig, feature: int, skills: Skills):
        super().__init__()
        self.config = config
        self.map = MLP(feature, config.units, config.layers, skills.size)
        self.register_buffer("log_multiplier", torch.tensor(math.log(config.multiplier_init)))

    def direction(self, previous: Tensor, following: Tensor) -> Tensor:
        """phi(s') - phi(s): (N, F), (N, F) -> (N, C)."""
        return self.map(following) - self.map(previous)

    def reward(self, previous: Tensor, following: Tensor, skill: Tensor) -> Tensor:
        """(N, F), (N, F), (N, C) -> (N,)."""
        return along(self.direction(previous, following), skill)

    def loss(self, previous: Tensor, following: Tensor, skill: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The same -> scalar to be minimised, metrics; the multiplier takes its step."""
        step = self.direction(previous, following)  # (N, C)
        forward, length = along(step, skill), step.square().sum(-1)
        slack = (1 - length).clamp(max=self.config.slack).mean()
        multiplier = self.log_multiplier.exp()
        loss = -(forward.mean() + multiplier * slack) / (1 + multiplier)
        with torch.no_grad():
            self.log_multiplier.sub_(self.config.dual_rate * slack.clamp(-1, 1) / self._unit(slack))
            self.log_multiplier.clamp_(math.log(1e-2), math.log(1e4))
        return loss, {"along": forward.mean(), "length": length.mean(), "multiplier": multiplier}

    def _unit(self, slack: Tensor) -> Tensor:
        """Slack above zero is at most `slack` by its clamp, below it can be large: so both sides count alike."""
        return torch.where(slack > 0, self.config.slack, 1.0)


class Lipschitz(nn.Module):
    """E[(phi(s') - phi(s))^T c] with a map of slope at most 1 in the latent, by spectral norms (LSD, arXiv 2202.00914)."""

    def __init__(self, config: DiscoveryConfig, feature: int, skills: Skills):
        super().__init__()
        sizes = [feature, *[config.units] * config.layers, skills.size]
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            parts += [spectral_norm(nn.Linear(inputs, outputs)), nn.ReLU()]
        self.map = nn.Sequential(*parts[:-1])

    def direction(self, previous: Tensor, following: Tensor) -> Tensor:
        """phi(s') - phi(s): (N, F), (N, F) -> (N, C)."""
        return self.map(following) - self.map(previous)

    def reward(self, previous: Tensor, following: Tensor, skill: Tensor) -> Tensor:
        """(N, F), (N, F), (N, C) -> (N,)."""
        return along(self.direction(previous, following), skill)

    def loss(self, previous: Tensor, following: Tensor, skill: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The same -> scalar to be minimised, metrics."""
        step = self.direction(previous, following)
        forward = along(step, skill)
        return -forward.mean(), {"along": forward.mean(), "length": step.square().sum(-1).mean()}


class Contrastive(nn.Module):
    """I(S, S'; C) >= E log softmax of (phi(s') - phi(s))^T c among skills of the prior (CSF, arXiv 2412.08021).

    The reward is (phi(s') - phi(s))^T c, as there: the log-ratio without its denominator.
    """

    def __init__(self, config: DiscoveryConfig, feature: int, skills: Skills):
        super().__init__()
        self.map = MLP(feature, config.units, config.layers, skills.size)
        self.temperature = config.temperature
        self.prior = Prior(skills)

    def direction(self, previous: Tensor, following: Tensor) -> Tensor:
        """phi(s') - phi(s): (N, F), (N, F) -> (N, C)."""
        return self.map(following) - self.map(previous)

    def reward(self, previous: Tensor, following: Tensor, skill: Tensor) -> Tensor:
        """(N, F), (N, F), (N, C) -> (N,)."""
        return along(self.direction(previous, following), skill)

    def loss(self, previous: Tensor, following: Tensor, skill: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The same -> scalar to be minimised, metrics; `nats` is the bound."""
        step = self.direction(previous, following)
        nats = self.prior.log_ratio(step / self.temperature, skill).mean()
        return -nats, {"nats": nats, "length": step.square().sum(-1).mean()}


class Classifier(nn.Module):
    """I(S'; C) >= E[log q(c | s') - log p(c)], which is also the reward (DIAYN, arXiv 1802.06070).

    q is proportional to p(c) exp(g(s')^T c): a softmax over one-hots, von Mises-Fisher on the sphere.
    """

    def __init__(self, config: DiscoveryConfig, feature: int, skills: Skills):
        super().__init__()
        self.map = MLP(feature, config.units, config.layers, skills.size)
        self.temperature = config.temperature
        self.prior = Prior(skills)

    def direction(self, previous: Tensor, following: Tensor) -> Tensor:
        """g(s'), the natural parameter of q: (N, F), (N, F) -> (N, C); what came before is not looked at."""
        return self.map(following) / self.temperature

    def reward(self, previous: Tensor, following: Tensor, skill: Tensor) -> Tensor:
        """(N, F), (N, F), (N, C) -> (N,), nats."""
        return self.prior.log_ratio(self.direction(previous, following), skill)

    def loss(self, previous: Tensor, following: Tensor, skill: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The same -> scalar to be minimised, metrics; `nats` is the bound."""
        nats = self.reward(previous, following, skill).mean()
        return -nats, {"nats": nats}


class Prior(nn.Module):
    """Holds a score against what it would be for other skills: all of them where they are few, else M fixed draws and its own.

    Its own is always among them, so that the ratio is at most the logarithm of their number; against draws alone a long
    direction, which nearly no draw meets, would seem to tell more than there is.
    """

    def __init__(self, skills: Skills):
        super().__init__()
        few = self.few = skills.config.kind == "one_hot"
        generator = torch.Generator().manual_seed(0)
        draws = F.normalize(torch.randn(PRIOR_DRAWS, skills.size, generator=generator, device="cpu"), dim=-1)
        self.register_buffer("skills", skills.discrete() if few else draws)  # (M, C)

    def log_ratio(self, direction: Tensor, skill: Tensor) -> Tensor:
        """log of exp(u^T c) / E_p exp(u^T c'), u (N, C), c (N, C) -> (N,), nats."""
        own, scores = along(direction, skill), direction @ self.skills.T  # (N,), (N, M)
        if not self.few:
            scores = torch.cat([scores, own.unsqueeze(-1)], -1)  # (N, M + 1)
        return own - torch.logsumexp(scores, -1) + math.log(scores.shape[-1])


FORMS = {"wasserstein": Wasserstein, "lipschitz": Lipschitz, "contrastive": Contrastive, "classifier": Classifier}


def make_discovery(config: DiscoveryConfig, feature: int, skills: Skills) -> nn.Module:
    """The form that is asked for. Errors: UserError where there are no skills."""
    if not skills.size:
        raise UserError("the reward 'discovery' needs skills, and their size is 0", "skill.size", "choose 2 or more")
    if config.kind not in FORMS:
        raise UserError(f"unknown form {config.kind!r}", "discovery.kind", nearest(config.kind, FORMS))
    return FORMS[config.kind](config, feature, skills)
