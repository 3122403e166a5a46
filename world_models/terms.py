"""The information terms that an objective consists of.

Each has one call: term(TrainSequence) -> (value in nats per step, metrics).

Shapes: B batch, T time, N = B*T, E embedding, F features, Z stochastic, A action, K signals,
M games, D descriptor.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from foreground.world_models.distributions import (
    SCALAR_HEADS,
    clipped_normal_log_prob,
    normal_log_prob,
    symlog,
)
from foreground.world_models.empowerment import InverseModel, marginal_log_prob, moments
from foreground.world_models.information import BOUNDS, ContrastiveConfig, reconstruction
from foreground.world_models.networks import MLP, Decoder
from foreground.world_models.rssm import RSSM, ObserveOutput


class TrainSequence(NamedTuple):
    """A batch with its embeddings and states: the input of every term."""

    image: Tensor  # uint8 (B, T, H, W, C)
    action: Tensor  # (B, T, A), action[t] led to image[t]
    reward: Tensor  # (B, T), came with image[t]
    is_first: Tensor  # bool (B, T)
    embedding: Tensor  # (B, T, E)
    states: ObserveOutput
    # Other fields of the row of image[t], (B, T, ...): signals, game, is_terminal, condition.
    extra: Mapping[str, Tensor] = MappingProxyType({})
    # float (B, T): 1 where the state has enough history for a loss, else 0. None: every state has.
    known: Tensor | None = None

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of (B, T, ...) over the rows whose state has enough history."""
        if self.known is None:
            return value.mean()
        known = self.known.view(*self.known.shape, *[1] * (value.dim() - 2)).expand_as(value)
        return (known * value).sum() / known.sum().clamp(min=1)


class ContrastiveTerm(nn.Module):
    """I(O; Z) without a decoder, by an estimate of information.py (InfoPower, Sec. 3.1; CPC)."""

    def __init__(self, config: ContrastiveConfig, feature: int, embedding: int, deterministic: int):
        super().__init__()
        self.predicts = config.anchor == "prior"
        self.negatives = config.negatives
        self.bound = BOUNDS[config.estimator](
            deterministic if self.predicts else feature, embedding, config
        )

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        state = sequence.states.state
        source = state.deterministic if self.predicts else state.feature  # (B, T, ...)
        target = sequence.embedding
        if self.negatives == "batch":
            # one block of N pairs
            source = source.flatten(0, 1)
            target = target.flatten(0, 1)
        value, metrics = self.bound(source, target)  # (N,) or (B, T)
        return value.mean(), metrics


class ReconstructionTerm(nn.Module):
    """I(O; Z) by reconstruction (Dreamer)."""

    def __init__(self, decoder: Decoder):
        super().__init__()
        # Not the decoder itself: as a submodule of both, it would be saved twice.
        self.decode = decoder.forward

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        # (B, T)
        value, metrics = reconstruction(self.decode(sequence.states.state.feature), sequence.image)
        return value.mean(), metrics


class PredictabilityTerm(nn.Module):
    """- I(i_t; Z_t | Z_{t-1}, A_{t-1}) >= - KL(posterior || prior): the information bottleneck.

    With the divergence cauchy_schwarz (arXiv 2404.17951) the posterior minimises that in place of
    the KL, in its share of the gradient. The prior learns by the KL in any case: minimised over
    many posteriors, the other divergence gives a prior in proportion to the square root of their
    mean, and rollouts need the mean.
    """

    def __init__(self, config, rssm: RSSM):
        super().__init__()
        self.config = config
        self.kl = rssm.kl
        self.latent = rssm.latent

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        states, config = sequence.states, self.config
        balance, posterior, prior = config.kl_balance, states.posterior, states.prior
        metrics = {}
        if config.divergence == "kl":
            cost, raw = self.kl(posterior, prior, balance, config.free_nats)
        else:
            to_prior, raw = self.kl(posterior.detach(), prior, 1.0, config.free_nats)
            other = getattr(self.latent, config.divergence)(posterior, prior.detach())
            metrics["divergence"] = sequence.mean(other.detach())
            cost = torch.lerp(other.clamp(min=config.free_nats), to_prior, balance)
        metrics["kl"] = sequence.mean(raw)
        with torch.no_grad():
            metrics["prior_entropy"] = self.latent.entropy(prior).mean()
            metrics["posterior_entropy"] = self.latent.entropy(posterior).mean()
        return -sequence.mean(cost), metrics


def von_neumann_entropy(rows: Tensor) -> Tensor:
    """Return - tr(rho ln rho) in nats, rho the covariance of rows (N, Z) over its trace: scalar.

    It is ln of the number of directions that the rows fill evenly, at most ln min(N - 1, Z).
    """
    with torch.autocast(rows.device.type, enabled=False):
        centred = rows.float() - rows.float().mean(0)
        # The eigenvalues of the smaller of both products; the other one has zeros besides.
        tall = centred.shape[0] > centred.shape[1]
        product = centred.T @ centred if tall else centred @ centred.T
        values = torch.linalg.eigvalsh(product / product.trace().clamp(min=1e-12))
        values = values.clamp(min=1e-6)
        return -(values * values.log()).sum()


class VonNeumannTerm(nn.Module):
    """The von Neumann entropy of the latent's covariance: against a collapse onto few directions
    (arXiv 2510.13025).

    Of the expected stochastic state, not of samples, whose noise fills every direction.
    """

    recordable = False  # eigenvalues wait for the host

    def __init__(self, rssm: RSSM):
        super().__init__()
        self.expected = rssm.latent.mean

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        rows = self.expected(sequence.states.posterior).flatten(0, 1)  # (N, Z)
        value = von_neumann_entropy(rows)
        return value, {"directions": value.detach().exp()}


class RewardTerm(nn.Module):
    """I(R; Z) >= E log q(r | z), up to H(R), of the reward or of another scalar of the row.

    pick   TrainSequence -> that scalar, (B, T)
    """

    def __init__(
        self,
        config,
        feature: int,
        pick: Callable[[TrainSequence], Tensor] = lambda sequence: sequence.reward,
    ):
        super().__init__()
        self.pick = pick
        self.head = SCALAR_HEADS[config.reward_head](limit=config.reward_limit)
        # The output weights do not start at zero: no gradient would reach the state at first. Under
        # video that costs hundreds of updates (explained variance of the reward after 250: 0.24
        # against 0.02, encoder and head alone).
        self.network = MLP(feature, config.units, config.layers, self.head.parameter_size)

    def mean(self, feature: Tensor) -> Tensor:
        """Return its expectation in a state: (N, F) -> (N,), per agent step."""
        return self.head.mean(self.network(feature))

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        return self.log_likelihood(sequence, sequence.states.state.feature, self.pick(sequence))

    def log_likelihood(
        self, sequence: TrainSequence, feature: Tensor, true: Tensor, across: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean log-likelihood per step of (B, T, ...), and metrics.

        feature  (B, T, ..., F)
        across   the last axis holds games: the explained share is within each game, not between
                 them
        """
        logits = self.network(feature)
        log_prob = self.head.log_prob(logits, true)
        with torch.no_grad():
            residual = sequence.mean((self.head.mean(logits) - true).square())
            variance = true.flatten(0, -2).var(0).mean() if across else true.var()
        return sequence.mean(log_prob), {"residual": residual, "variance": variance}


class ContinuationTerm(nn.Module):
    """I(C; Z) >= E ln q(c | z), up to H(C): whether the episode continues, c = 0 in terminal states
    (DreamerV3).
    """

    def __init__(self, config, feature: int):
        super().__init__()
        self.network = MLP(feature, config.units, config.layers, 1)

    def mean(self, feature: Tensor) -> Tensor:
        """Return the probability that the episode continues: (..., F) -> (...)."""
        return torch.sigmoid(self._logit(feature))

    def _logit(self, feature: Tensor) -> Tensor:
        return self.network(feature).squeeze(-1).float()

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        logit = self._logit(sequence.states.state.feature)
        true = (~sequence.extra["is_terminal"]).float()
        log_prob = -functional.binary_cross_entropy_with_logits(logit, true, reduction="none")
        with torch.no_grad():
            residual = sequence.mean((torch.sigmoid(logit) - true).square())
            variance = true.var(correction=0)
            explained = torch.where(variance > 0, 1 - residual / variance.clamp(min=1e-6), 0.0)
        return sequence.mean(log_prob), {"explained": explained}


class GameRewardTerm(nn.Module):
    """I(R_m; Z) >= E log q(r_m | z, m): one head for all games, conditioned on their descriptors.

    So it also predicts rewards of other games. Where games share their physics, every step gives
    the rewards of all M games as signals; otherwise only the reward of the game that was played.
    """

    def __init__(self, config, feature: int, games: tuple[tuple[float, ...], ...]):
        super().__init__()
        self.register_buffer("games", torch.tensor(games), persistent=False)  # (M, D)
        self.reward = RewardTerm(config, feature + len(games[0]))

    def mean(self, feature: Tensor, game: Tensor) -> Tensor:
        """Return the expected reward in games: (N, F), (N, D) -> (N,), per agent step."""
        return self.reward.mean(torch.cat([feature, game], -1))

    def log_prob(self, feature: Tensor, game: Tensor, reward: Tensor) -> Tensor:
        """Return ln q of rewards in games: (N, F), (N, D), (N,) -> (N,)."""
        logits = self.reward.network(torch.cat([feature, game], -1))
        return self.reward.head.log_prob(logits, reward)

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        feature = sequence.states.state.feature
        true = sequence.reward
        shared = "signals" in sequence.extra
        if shared:
            game = self.games.expand(*feature.shape[:2], *self.games.shape)  # (B, T, M, D)
            feature = feature.unsqueeze(2).expand(*game.shape[:3], -1)  # (B, T, M, F)
            true = sequence.extra["signals"]  # (B, T, M)
        else:
            game = sequence.extra["game"]  # (B, T, D)
        return self.reward.log_likelihood(
            sequence, torch.cat([feature, game], -1), true, across=shared
        )


class DetectorTerm(nn.Module):
    """I(X; Z) >= E ln q(x given z), up to H(X), of the numbers that the task observes: pixels are
    the prime modality, and the numbers detect what its latent holds (ITHP, arXiv 2404.09403).

    The stochastic state alone predicts them, so that their information comes by way of the image.
    They are of any unit: q is a Gaussian of deviation one of their symlog.
    """

    def __init__(self, config, latent: int, numbers: int):
        super().__init__()
        self.network = MLP(latent, config.units, config.layers, numbers)

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        true = symlog(sequence.extra["proprioception"].float())  # (B, T, P)
        mean = self.network(sequence.states.state.stochastic).float()
        log_prob = normal_log_prob(true, mean, torch.ones_like(mean))  # (B, T)
        with torch.no_grad():
            residual = sequence.mean((mean - true).square())
            variance = true.flatten(0, 1).var(0).mean()
        return sequence.mean(log_prob), {"residual": residual, "variance": variance}


def transitions(sequence: TrainSequence) -> tuple[Tensor, Tensor]:
    """Return the actions (B, T-1, A) and the weight of each in a mean over transitions, (B, T-1).

    Transitions across episode boundaries have weight 0. Selecting the others would make sizes
    depend on the data, which a compiled graph does not allow.
    """
    valid = (~sequence.is_first[:, 1:]).float()
    return sequence.action[:, 1:].float(), valid / valid.sum().clamp(min=1)


class ControlTerm(nn.Module):
    """I(A_{t-1}; E_t | E_{t-1}) >= E log q(a | e, e') + H(A): an inverse model of the embeddings.

    It trains the encoder from the first update on. The inverse model of the latent
    (`EmpowermentTerm`) learns through samples. Where the robot covers a few pixels these are noise,
    and it stays at chance for the whole run: on ball_in_cup-catch behind video after 400 updates.
    With this term it reaches 0.75 nats there.
    """

    def __init__(self, config, action: int):
        super().__init__()
        self.inverse = InverseModel(config.empowerment, config.embedding, action)

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        action, share = transitions(sequence)
        embedding = sequence.embedding
        log_prob = self.inverse.log_prob(embedding[:, :-1], embedding[:, 1:], action)
        return (share * (log_prob - marginal_log_prob(action, share))).sum(), {}


class EmpowermentTerm(nn.Module):
    """I(A_{t-1}; Z_t | Z_{t-1}) >= E log q(a | z, z') + H(A) (InfoPower, Eq. 3)."""

    def __init__(self, config, rssm: RSSM, action: int):
        super().__init__()
        self.inverse = InverseModel(config.empowerment, rssm.latent.size, action)
        self.sample_prior = rssm.latent.sample
        self.trains_representation = config.empowerment.train_representation

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        sampled = sequence.states.state.stochastic
        sampled = sampled if self.trains_representation else sampled.detach()
        previous = sampled[:, :-1]  # (B, T-1, Z)
        following = sampled[:, 1:]  # (B, T-1, Z)
        action, share = transitions(sequence)
        number = (share > 0).sum()
        chance = marginal_log_prob(action, share)
        mean, std = self.inverse(previous, following)
        value = (share * (clipped_normal_log_prob(action, mean, std) - chance)).sum()
        with torch.no_grad():
            imagined = self.sample_prior(sequence.states.prior[:, 1:])
            error = (share * (mean - action).square().mean(-1)).sum()
            variance = moments(action, share)[1].mean() * number / (number - 1).clamp(min=1)
            metrics = {"inverse_error": error / variance.clamp(min=1e-6)}
        # Imagination has prior samples only, so the inverse model is trained on them as well. They
        # are detached: the dynamics must not learn to write the action into them.
        on_prior = (
            share * (self.inverse.log_prob(previous.detach(), imagined, action) - chance)
        ).sum()
        metrics["on_prior"] = on_prior.detach()
        return value + on_prior - on_prior.detach(), metrics
