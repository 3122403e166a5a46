"""The information terms that an objective is made of. One call: term(Rollout) -> (value in nats per step, metrics).

Shapes: B batch, T time, N = B*T, E embedding, F features, Z stochastic, A action, K signals,
M games, D descriptor.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from foreground.world_models.distributions import SCALAR_HEADS, clipped_normal_log_prob
from foreground.world_models.empowerment import InverseModel, marginal_log_prob, moments
from foreground.world_models.information import BOUNDS, ContrastiveConfig, reconstruction
from foreground.world_models.networks import MLP, Decoder
from foreground.world_models.rssm import RSSM, Posterior


class Rollout(NamedTuple):
    """A batch and what the model made of it; what every term reads."""

    image: Tensor  # uint8 (B, T, H, W, C)
    action: Tensor  # (B, T, A), action[t] led to image[t]
    reward: Tensor  # (B, T), came with image[t]
    is_first: Tensor  # bool (B, T)
    embedding: Tensor  # (B, T, E)
    states: Posterior
    told: Mapping[str, Tensor] = MappingProxyType({})  # what else the environment told with image[t], (B, T, ...)
    known: Tensor | None = None  # float (B, T), 1 where the state has enough history to be judged, else 0; none: all

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of (B, T, ...) over the rows whose state has enough history."""
        if self.known is None:
            return value.mean()
        known = self.known.view(*self.known.shape, *[1] * (value.dim() - 2)).expand_as(value)
        return (known * value).sum() / known.sum().clamp(min=1)


class Contrastive(nn.Module):
    """I(O; Z) without a decoder (InfoPower, Sec. 3.1; CPC): one of the estimates of information.py."""

    def __init__(self, config: ContrastiveConfig, feature: int, embedding: int, deterministic: int):
        super().__init__()
        self.predicts, self.negatives = config.anchor == "prior", config.negatives
        self.bound = BOUNDS[config.estimator](deterministic if self.predicts else feature, embedding, config)

    def forward(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        state = rollout.states.state
        source = state.deterministic if self.predicts else state.feature  # (B, T, ...)
        target = rollout.embedding
        if self.negatives == "batch":
            source, target = source.flatten(0, 1), target.flatten(0, 1)  # one block of N pairs
        value, metrics = self.bound(source, target)  # (N,) or (B, T)
        return value.mean(), metrics


class Decoded(nn.Module):
    """I(O; Z) by reconstruction (Dreamer)."""

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.decode = decoder.forward  # not the decoder, which is the world model's: as a part of two, it would be saved twice

    def forward(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        value, metrics = reconstruction(self.decode(rollout.states.state.feature), rollout.image)  # (B, T)
        return value.mean(), metrics


class Predictability(nn.Module):
    """- I(i_t; Z_t | Z_{t-1}, A_{t-1}) >= - KL(posterior || prior): the information bottleneck."""

    def __init__(self, config, rssm: RSSM):
        super().__init__()
        self.config = config
        self.kl, self.entropy = rssm.kl, rssm.latent.entropy

    def forward(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        states = rollout.states
        kl, raw = self.kl(states.posterior, states.prior, self.config.kl_balance, self.config.free_nats)
        with torch.no_grad():
            entropies = {"prior_entropy": self.entropy(states.prior).mean()}
            entropies["posterior_entropy"] = self.entropy(states.posterior).mean()
        return -rollout.mean(kl), {"kl": rollout.mean(raw), **entropies}


class Reward(nn.Module):
    """I(R; Z) >= E log q(r | z), up to H(R); of the reward, or of any other number that came with the image.

    pick   Rollout -> that number, (B, T)
    """

    def __init__(self, config, feature: int, pick: Callable[[Rollout], Tensor] = lambda rollout: rollout.reward):
        super().__init__()
        self.pick = pick
        self.head = SCALAR_HEADS[config.reward_head](limit=config.reward_limit)
        # Not zero at the start: behind zero weights no gradient reaches the state, and under video that costs hundreds
        # of updates (explained variance of the reward after 250: 0.24 against 0.02, encoder and head alone).
        self.network = MLP(feature, config.units, config.layers, self.head.parameter_size)

    def mean(self, feature: Tensor) -> Tensor:
        """Its expectation in a state: (N, F) -> (N,), per agent step."""
        return self.head.mean(self.network(feature))

    def forward(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        return self.judge(rollout, rollout.states.state.feature, self.pick(rollout))

    def judge(self, rollout: Rollout, feature: Tensor, true: Tensor, across: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, T, ..., F), what came (B, T, ...) -> log-likelihood per step, metrics.

        across   the last axis of what came is games: what explains is within each, not that they differ
        """
        logits = self.network(feature)
        log_prob = self.head.log_prob(logits, true)
        with torch.no_grad():
            residual = rollout.mean((self.head.mean(logits) - true).square())
            variance = true.flatten(0, -2).var(0).mean() if across else true.var()
        return rollout.mean(log_prob), {"residual": residual, "variance": variance}


class Continuation(nn.Module):
    """I(C; Z) >= E ln q(c | z), up to H(C): whether the episode goes on behind a state, c = 0 in terminal ones (DreamerV3)."""

    def __init__(self, config, feature: int):
        super().__init__()
        self.network = MLP(feature, config.units, config.layers, 1)

    def mean(self, feature: Tensor) -> Tensor:
        """Return the probability that the episode goes on: (..., F) -> (...)."""
        return torch.sigmoid(self._logit(feature))

    def _logit(self, feature: Tensor) -> Tensor:
        return self.network(feature).squeeze(-1).float()

    def forward(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        logit = self._logit(rollout.states.state.feature)
        true = (~rollout.told["is_terminal"]).float()
        log_prob = -functional.binary_cross_entropy_with_logits(logit, true, reduction="none")
        with torch.no_grad():
            residual, variance = rollout.mean((torch.sigmoid(logit) - true).square()), true.var(correction=0)
            explained = torch.where(variance > 0, 1 - residual / variance.clamp(min=1e-6), 0.0)
        return rollout.mean(log_prob), {"explained": explained}


class GameReward(nn.Module):
    """I(R_m; Z) >= E log q(r_m | z, m): one head for all games, told by what describes them, so that it has a say on others.

    Where games share their physics, every step teaches the rewards of all M, which are then the signals; else its own.
    """

    def __init__(self, config, feature: int, games: tuple[tuple[float, ...], ...]):
        super().__init__()
        self.register_buffer("games", torch.tensor(games), persistent=False)  # (M, D)
        self.reward = Reward(config, feature + len(games[0]))

    def mean(self, feature: Tensor, game: Tensor) -> Tensor:
        """Expected reward in games: (N, F), (N, D) -> (N,), per agent step."""
        return self.reward.mean(torch.cat([feature, game], -1))

    def forward(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        feature, true, shared = rollout.states.state.feature, rollout.reward, "signals" in rollout.told
        if shared:
            game = self.games.expand(*feature.shape[:2], *self.games.shape)  # (B, T, M, D)
            feature = feature.unsqueeze(2).expand(*game.shape[:3], -1)  # (B, T, M, F)
            true = rollout.told["signals"]  # (B, T, M)
        else:
            game = rollout.told["game"]  # (B, T, D)
        return self.reward.judge(rollout, torch.cat([feature, game], -1), true, across=shared)


def moved(rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Return the actions of steps within an episode and the share of each in their mean: (B, T-1, A), (B, T-1).

    Steps that start an episode have no action that led to them. They weigh nothing; picking the others out would
    make sizes depend on the data, which a compiled graph cannot.
    """
    valid = (~rollout.is_first[:, 1:]).float()
    return rollout.action[:, 1:].float(), valid / valid.sum().clamp(min=1)


class Control(nn.Module):
    """I(A_{t-1}; E_t | E_{t-1}) >= E log q(a | e, e') + H(A): what the images show of the action, before any sampling.

    An inverse model of the embeddings shapes the encoder from the first updates on. That of the latent (`Empowerment`)
    learns through samples. Where the robot is a few pixels they are noise, and it stays at chance: on ball_in_cup-catch
    behind video after 400 updates, and for as long as the run goes on. With this term it has 0.75 nats there.
    """

    def __init__(self, config, action: int):
        super().__init__()
        self.inverse = InverseModel(config.empowerment, config.embedding, action)

    def forward(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        action, share = moved(rollout)
        embedding = rollout.embedding
        log_prob = self.inverse.log_prob(embedding[:, :-1], embedding[:, 1:], action)
        return (share * (log_prob - marginal_log_prob(action, share))).sum(), {}


class Empowerment(nn.Module):
    """I(A_{t-1}; Z_t | Z_{t-1}) >= E log q(a | z, z') + H(A) (InfoPower, Eq. 3)."""

    def __init__(self, config, rssm: RSSM, action: int):
        super().__init__()
        self.inverse = InverseModel(config.empowerment, rssm.latent.size, action)
        self.sample_prior, self.trains_representation = rssm.latent.sample, config.empowerment.train_representation

    def forward(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        sampled = rollout.states.state.stochastic
        sampled = sampled if self.trains_representation else sampled.detach()
        previous, following = sampled[:, :-1], sampled[:, 1:]  # (B, T-1, Z)
        action, share = moved(rollout)
        number = (share > 0).sum()
        chance = marginal_log_prob(action, share)
        mean, std = self.inverse(previous, following)
        value = (share * (clipped_normal_log_prob(action, mean, std) - chance)).sum()
        with torch.no_grad():
            imagined = self.sample_prior(rollout.states.prior[:, 1:])
            error = (share * (mean - action).square().mean(-1)).sum()
            variance = moments(action, share)[1].mean() * number / (number - 1).clamp(min=1)
            metrics = {"inverse_error": error / variance.clamp(min=1e-6)}
        # In imagination only prior samples exist, so the inverse model must know them; the dynamics must not learn
        # to write the action into them, hence detached.
        on_prior = (share * (self.inverse.log_prob(previous.detach(), imagined, action) - chance)).sum()
        metrics["on_prior"] = on_prior.detach()
        return value + on_prior - on_prior.detach(), metrics
