"""The recurrent state-space model (PlaNet, arXiv 1811.04551; DreamerV3, arXiv 2301.04104).

Shapes: B batch, T time, N any leading axis, A action, E embedding, D deterministic, Z stochastic (S*K or Gaussian
size), P distribution parameters, F = D + Z features.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foreground.errors import UserError
from foreground.option import Rule, option
from foreground.world_models.distributions import Categorical, Gaussian
from foreground.world_models.networks import MLP, BlockLinear, linear
from foreground.world_models.unrolled import Unrolled


def _of(latent: str) -> Rule:
    """The rule of an option that one kind of latent reads."""
    return f"where --world_model.rssm.latent is {latent}", lambda config: config.latent == latent


@dataclass(frozen=True)
class RSSMConfig:
    deterministic: int = option(256, "Size D of the recurrent state.", ge=8, le=65536)
    hidden: int = option(256, "Units of the layers inside the recurrent model.", ge=8, le=65536)
    blocks: int = option(1, "Number of independent blocks of the recurrent weights; 1 is a dense layer.", ge=1, le=4096)
    latent: str = option("categorical", "Distribution of the stochastic state.", choices=("categorical", "gaussian"))
    groups: int = option(16, "Categorical latent: number S of one-hot variables.", ge=1, le=4096, read_if=_of("categorical"))
    classes: int = option(16, "Categorical latent: number K of classes of each.", ge=2, le=4096, read_if=_of("categorical"))
    gaussian_size: int = option(30, "Gaussian latent: number of coordinates.", ge=1, le=65536, read_if=_of("gaussian"))
    unimix: float = option(
        0.01, "Categorical latent: share of a uniform distribution mixed in.", ge=0.0, le=0.5, read_if=_of("categorical")
    )
    posterior_scale: float = option(16.0, "Variance of the posterior's first parameters; larger starts surer.", gt=0.0)
    posterior: str = option(
        "image",
        "What the posterior reads: the image alone (then no action can leak into the stochastic state), or the image "
        "and the recurrent state (the filtering posterior of PlaNet and of InfoPower's paper).",
        choices=("image", "filtering"),
    )

    def __post_init__(self):
        if self.deterministic % self.blocks:
            what = f"deterministic {self.deterministic} is not a multiple of blocks {self.blocks}"
            raise UserError(what, "world_model.rssm.blocks", f"choose a divisor of {self.deterministic}")


class State(NamedTuple):
    """What the model knows at a time: deterministic (N, D) and a sample of the stochastic part (N, Z)."""

    deterministic: Tensor
    stochastic: Tensor

    @property
    def feature(self) -> Tensor:
        """(N, F): what heads, actor and critics read."""
        return torch.cat([self.deterministic, self.stochastic], -1)

    def map(self, function) -> "State":
        """The state with `function` applied to both parts."""
        return State(function(self.deterministic), function(self.stochastic))

    def detach(self) -> "State":
        return self.map(torch.detach)


class Posterior(NamedTuple):
    """A posterior roll-out over a batch: states (B, T, ...), parameters of posterior and prior (B, T, P)."""

    state: State
    posterior: Tensor
    prior: Tensor


class Recurrence(nn.Module):
    """h' = GRU(h, [z, a]): block-diagonal where it touches h, dense where all blocks share the input.

    DreamerV3's cell with one change: stochastic state and action enter by one dense layer, not two. The action is
    scaled so that both have the same say: beside 16 one-hot variables a single motor would have a sixteenth of it.
    """

    def __init__(self, config: RSSMConfig, stochastic: int, energy: float, action: int):
        super().__init__()
        size = config.deterministic
        # A uniform action within [-1, 1] has a mean squared length of action / 3.
        self.gain = math.sqrt(3 * energy / action)
        self.input = linear(stochastic + action, config.hidden, bias=False)
        self.input_norm = nn.LayerNorm(config.hidden)
        self.shared = linear(config.hidden, size, bias=False)
        self.recurrent = BlockLinear(size, size, config.blocks)
        self.recurrent_norm = nn.LayerNorm(size)
        self.gates = BlockLinear(size, 3 * size, config.blocks)
        self.blocks = config.blocks

    def drive(self, stochastic: Tensor, action: Tensor) -> Tensor:
        """The part of the input that does not depend on h: (N, Z), (N, A) -> (N, D)."""
        x = F.silu(self.input_norm(self.input(torch.cat([stochastic, action * self.gain], -1))))
        return self.shared(x)

    def forward(self, deterministic: Tensor, drive: Tensor) -> Tensor:
        """One step: (N, D), (N, D) -> (N, D)."""
        x = F.silu(self.recurrent_norm(self.recurrent(deterministic) + drive))
        gates = self.gates(x).unflatten(-1, (self.blocks, 3, -1))  # (N, G, 3, D/G)
        reset, candidate, update = (gate.flatten(1) for gate in gates.unbind(-2))
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        # The bias of -1 starts the cell close to keeping its state (DreamerV2).
        kind = deterministic.dtype  # not that of mixed precision
        return torch.lerp(deterministic, candidate.to(kind), torch.sigmoid(update.to(kind) - 1))

    def unroll(self, drive: Tensor, keep: Tensor) -> Tensor:
        """T steps from zeros: (T, N, D), (T, N, 1) by which the state before each is multiplied -> (T, N, D)."""
        deterministic = torch.zeros_like(drive[0])
        if self.blocks == 1 and drive.device.type == "cpu" and not torch.compiler.is_compiling():
            weights = self.recurrent.weight.squeeze(0), self.recurrent.bias, self.gates.weight.squeeze(0), self.gates.bias
            norm = self.recurrent_norm.weight, self.recurrent_norm.bias
            return Unrolled.apply(deterministic, drive, keep, *weights, *norm)
        states = []
        # unbind, never drive[t]: every select would make a full-size zero gradient.
        for now, keep_now in zip(drive.unbind(), keep.unbind()):
            deterministic = self(deterministic * keep_now, now)
            states.append(deterministic)
        return torch.stack(states)


class RSSM(nn.Module):
    """Verbs: `initial`, `observe` a batch with its images, `filter` one step, `imagine` one step without an image."""

    def __init__(self, config: RSSMConfig, embedding: int, action: int):
        super().__init__()
        self.config = config
        if config.latent == "categorical":
            self.latent: nn.Module = Categorical(config.groups, config.classes, config.unimix)
        else:
            self.latent = Gaussian(config.gaussian_size)
        self.feature_size = config.deterministic + self.latent.size
        self.reads_deterministic = config.posterior == "filtering"
        energy = config.groups if config.latent == "categorical" else config.gaussian_size  # mean squared length of a sample
        self.recurrence = Recurrence(config, self.latent.size, energy, action)
        posterior_inputs = embedding + (config.deterministic if self.reads_deterministic else 0)
        # A posterior that starts close to uniform starts as noise, through which no gradient finds its way for long.
        self.posterior = MLP(posterior_inputs, config.hidden, 1, self.latent.parameter_size, config.posterior_scale)
        self.prior = MLP(config.deterministic, config.hidden, 1, self.latent.parameter_size)

    def initial(self, batch: int, device: torch.device | str = "cpu") -> State:
        """The state before anything was seen: zeros."""
        return State(
            torch.zeros(batch, self.config.deterministic, device=device),
            torch.zeros(batch, self.latent.size, device=device),
        )

    def observe(self, embedding: Tensor, action: Tensor, is_first: Tensor) -> Posterior:
        """Filter a batch: embedding (B, T, E), action (B, T, A) that led to it, is_first (B, T).

        The state is reset where is_first is true and at the start of every sequence.
        """
        keep = 1.0 - is_first.float()
        keep = torch.cat([torch.zeros_like(keep[:, :1]), keep[:, 1:]], 1).unsqueeze(-1)  # (B, T, 1)
        roll = self._observe_filtering if self.reads_deterministic else self._observe_image
        deterministic, stochastic, posterior = roll(embedding, action * keep, keep)
        return Posterior(State(deterministic, stochastic), posterior, self.prior(deterministic))

    def _observe_image(self, embedding: Tensor, action: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # The posterior needs no recurrence, so everything but the cell itself runs once over B*T.
        posterior = self.posterior(embedding)
        stochastic = self.latent.sample(posterior)
        previous = torch.cat([torch.zeros_like(stochastic[:, :1]), stochastic[:, :-1]], 1) * keep
        drive = self.recurrence.drive(previous, action).transpose(0, 1)  # (T, B, D)
        deterministic = self.recurrence.unroll(drive, keep.transpose(0, 1))
        return deterministic.transpose(0, 1).contiguous(), stochastic, posterior

    def _observe_filtering(self, embedding: Tensor, action: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = self.initial(len(embedding), embedding.device)
        rows = []
        for embedded, act, keep_now in zip(embedding.unbind(1), action.unbind(1), keep.unbind(1)):
            state = state.map(lambda x, k=keep_now: x * k)
            deterministic = self.recurrence(state.deterministic, self.recurrence.drive(state.stochastic, act))
            parameters = self.posterior(torch.cat([embedded, deterministic], -1))
            state = State(deterministic, self.latent.sample(parameters))
            rows.append((deterministic, state.stochastic, parameters))
        return tuple(torch.stack(column, 1) for column in zip(*rows))

    def filter(self, state: State, embedding: Tensor, action: Tensor, is_first: Tensor, sample: bool = True) -> State:
        """One step of acting: state (N, ...), embedding (N, E), action (N, A) that led here, is_first (N,)."""
        keep = 1.0 - is_first.float().unsqueeze(-1)
        state = state.map(lambda x: x * keep)
        drive = self.recurrence.drive(state.stochastic, action * keep)
        deterministic = self.recurrence(state.deterministic, drive)
        inputs = torch.cat([embedding, deterministic], -1) if self.reads_deterministic else embedding
        parameters = self.posterior(inputs)
        return State(deterministic, self.latent.sample(parameters) if sample else self.latent.mode(parameters))

    def imagine(self, state: State, action: Tensor) -> State:
        """One step of the prior: state (N, ...), action (N, A) -> state (N, ...)."""
        drive = self.recurrence.drive(state.stochastic, action)
        deterministic = self.recurrence(state.deterministic, drive)
        return State(deterministic, self.latent.sample(self.prior(deterministic)))

    def kl(self, posterior: Tensor, prior: Tensor, balance: float, free_nats: float) -> tuple[Tensor, Tensor]:
        """KL(posterior || prior) (B, T) in nats, clipped below at `free_nats` (DreamerV3, Eq. 5); the same unclipped.

        Its gradient is split: `balance` goes to the prior, the rest to the posterior.
        """
        # An interpolation between a number and itself is that number; its gradient is the weight's share.
        kl = self.latent.kl(torch.lerp(posterior.detach(), posterior, 1 - balance), torch.lerp(prior.detach(), prior, balance))
        return kl.clamp(min=free_nats), kl.detach()
