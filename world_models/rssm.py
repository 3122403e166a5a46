"""The recurrent state-space model (PlaNet, arXiv 1811.04551; DreamerV3, arXiv 2301.04104).

Shapes: B batch, T time, N any leading axis, A action, E embedding, D deterministic, Z stochastic
(S*K or Gaussian size), P distribution parameters, F = D + Z features.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foreground.errors import UserError
from foreground.option import Rule, config_class, option
from foreground.world_models.distributions import Categorical, Gaussian
from foreground.world_models.networks import MLP, BlockLinear, linear
from foreground.world_models.unrolled import Unrolled


def _of(latent: str) -> Rule:
    """Return the rule of an option that only one kind of latent reads."""
    return f"where --world_model.rssm.latent is {latent}", lambda config: config.latent == latent


@config_class
class RSSMConfig:
    deterministic: int = option(256, "Size D of the recurrent state.", ge=8, le=65536)
    hidden: int = option(256, "Units of the layers inside the recurrent model.", ge=8, le=65536)
    blocks: int = option(
        1,
        "Number of independent blocks of the recurrent weights; 1 is a dense layer.",
        ge=1,
        le=4096,
    )
    latent: str = option(
        "categorical", "Distribution of the stochastic state.", choices=("categorical", "gaussian")
    )
    groups: int = option(
        16,
        "Categorical latent: number S of one-hot variables.",
        ge=1,
        le=4096,
        read_if=_of("categorical"),
    )
    classes: int = option(
        16,
        "Categorical latent: number K of classes of each.",
        ge=2,
        le=4096,
        read_if=_of("categorical"),
    )
    gaussian_size: int = option(
        30, "Gaussian latent: number of coordinates.", ge=1, le=65536, read_if=_of("gaussian")
    )
    unimix: float = option(
        0.01,
        "Categorical latent: share of a uniform distribution mixed in.",
        ge=0.0,
        le=0.5,
        read_if=_of("categorical"),
    )
    posterior_scale: float = option(
        16.0,
        "Variance of the posterior's initial parameters; a larger one makes it more certain "
        "at "
        "the start.",
        gt=0.0,
    )
    dynamics: str = option(
        "gated",
        "Recurrence and prior: a gated cell and a network, or linear modes and a linear map of "
        "them (Koopman).",
        choices=("gated", "linear"),
    )
    posterior: str = option(
        "image",
        "What the posterior reads: the image alone (then no action can leak into the "
        "stochastic state), or the image "
        "and the recurrent state (the filtering posterior of PlaNet and of InfoPower's paper).",
        choices=("image", "filtering"),
    )

    def __post_init__(self):
        if self.deterministic % self.blocks:
            what = f"deterministic {self.deterministic} is not a multiple of blocks {self.blocks}"
            raise UserError(
                what, "world_model.rssm.blocks", f"choose a divisor of {self.deterministic}"
            )
        if self.dynamics == "linear" and self.deterministic % 2:
            what = f"linear modes are pairs of numbers, and deterministic is {self.deterministic}"
            raise UserError(what, "world_model.rssm.deterministic", "choose an even number")


class State(NamedTuple):
    """A state of the model: the deterministic part (N, D) and a sample of the stochastic part (N,
    Z).
    """

    deterministic: Tensor
    stochastic: Tensor

    @property
    def feature(self) -> Tensor:
        """Both parts, (N, F): the input of heads, actor and critics."""
        return torch.cat([self.deterministic, self.stochastic], -1)

    def map(self, function) -> "State":
        """Return the state with `function` applied to both parts."""
        return State(function(self.deterministic), function(self.stochastic))

    def detach(self) -> "State":
        return self.map(torch.detach)


class ObserveOutput(NamedTuple):
    """The filtered states (B, T, ...) of a batch, and the parameters (B, T, P) of posterior and
    prior.
    """

    state: State
    posterior: Tensor
    prior: Tensor


class Recurrence(nn.Module):
    """h' = GRU(h, [z, a]): weights on h are block-diagonal, those on the shared input dense.

    It is DreamerV3's cell with one change: stochastic state and action enter by one dense layer,
    not two. The action is scaled to the energy of the stochastic state; otherwise a single motor
    would have a sixteenth of that of 16 one-hot variables.
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

    def input_projection(self, stochastic: Tensor, action: Tensor) -> Tensor:
        """Return the part of the input that does not depend on h: (N, Z), (N, A) -> (N, D)."""
        x = F.silu(self.input_norm(self.input(torch.cat([stochastic, action * self.gain], -1))))
        return self.shared(x)

    def forward(self, deterministic: Tensor, drive: Tensor) -> Tensor:
        """Take one step: (N, D), (N, D) -> (N, D)."""
        x = F.silu(self.recurrent_norm(self.recurrent(deterministic) + drive))
        gates = self.gates(x).unflatten(-1, (self.blocks, 3, -1))  # (N, G, 3, D/G)
        reset, candidate, update = (gate.flatten(1) for gate in gates.unbind(-2))
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        # With the bias of -1 the cell almost keeps its state at first (DreamerV2).
        kind = deterministic.dtype  # float32 under mixed precision as well
        return torch.lerp(deterministic, candidate.to(kind), torch.sigmoid(update.to(kind) - 1))

    def unroll(self, drive: Tensor, keep: Tensor) -> Tensor:
        """Take T steps from zeros: inputs (T, N, D) -> states (T, N, D).

        keep   (T, N, 1), the factor of the state before each step: 0 resets it
        """
        deterministic = torch.zeros_like(drive[0])
        if self.blocks == 1 and drive.device.type == "cpu" and not torch.compiler.is_compiling():
            weights = (
                self.recurrent.weight.squeeze(0),
                self.recurrent.bias,
                self.gates.weight.squeeze(0),
                self.gates.bias,
            )
            norm = self.recurrent_norm.weight, self.recurrent_norm.bias
            return Unrolled.apply(deterministic, drive, keep, *weights, *norm)
        states = []
        # unbind, not drive[t]: the gradient of every select would be a full-size tensor of zeros.
        for now, keep_now in zip(drive.unbind(), keep.unbind()):
            deterministic = self(deterministic * keep_now, now)
            states.append(deterministic)
        return torch.stack(states)


class LinearRecurrence(nn.Module):
    """h' = K h + G B [z, a], K the modes of a linear operator: Koopman dynamics with control.

    K is block-diagonal. Mode j is a pair of numbers that is turned by an angle and scaled by a
    decay r_j < 1 in each step, the eigenvalues r e^{+-i angle}. Every real matrix with distinct
    eigenvalues has this form in coordinates that B and the prior are free to choose. G = sqrt(1 -
    r^2) keeps the variance of h at that of its input (LRU, arXiv 2303.06349).
    """

    def __init__(self, config: RSSMConfig, stochastic: int, energy: float, action: int):
        super().__init__()
        modes = config.deterministic // 2
        self.gain = math.sqrt(3 * energy / action)  # as in `Recurrence`
        self.input = linear(stochastic + action, config.deterministic, bias=False)
        decay = torch.empty(modes).uniform_(0.5, 0.99)
        self.raw_decay = nn.Parameter(torch.log(-torch.log(decay)))
        self.angle = nn.Parameter(torch.empty(modes).uniform_(0, math.pi / 4))

    def decay(self) -> Tensor:
        """Return the absolute values of the eigenvalues, one a mode, within (0, 1)."""
        return torch.exp(-torch.exp(self.raw_decay.float()))

    def input_projection(self, stochastic: Tensor, action: Tensor) -> Tensor:
        """Return the part of the input that does not depend on h: (N, Z), (N, A) -> (N, D)."""
        drive = self.input(torch.cat([stochastic, action * self.gain], -1)).float()
        return drive * torch.sqrt(1 - self.decay().square()).repeat(2)

    def forward(self, deterministic: Tensor, drive: Tensor) -> Tensor:
        """Take one step: (N, D), (N, D) -> (N, D)."""
        decay = self.decay()
        along, across = decay * torch.cos(self.angle), decay * torch.sin(self.angle)
        real, imaginary = deterministic.float().chunk(2, -1)
        turned = along * real - across * imaginary, across * real + along * imaginary
        return torch.cat(turned, -1) + drive

    def unroll(self, drive: Tensor, keep: Tensor) -> Tensor:
        """Take T steps from zeros, as `Recurrence.unroll`."""
        deterministic, states = torch.zeros_like(drive[0]), []
        for now, keep_now in zip(drive.unbind(), keep.unbind()):
            deterministic = self(deterministic * keep_now, now)
            states.append(deterministic)
        return torch.stack(states)


RECURRENCES = {"gated": Recurrence, "linear": LinearRecurrence}


class RSSM(nn.Module):
    """The model: `observe` filters a batch, `filter` takes one step, `imagine` one step without an
    image.
    """

    def __init__(self, config: RSSMConfig, embedding: int, action: int):
        super().__init__()
        self.config = config
        if config.latent == "categorical":
            self.latent: nn.Module = Categorical(config.groups, config.classes, config.unimix)
        else:
            self.latent = Gaussian(config.gaussian_size)
        self.feature_size = config.deterministic + self.latent.size
        self.reads_deterministic = config.posterior == "filtering"
        # Mean squared length of a sample.
        energy = config.groups if config.latent == "categorical" else config.gaussian_size
        self.recurrence = RECURRENCES[config.dynamics](config, self.latent.size, energy, action)
        posterior_inputs = embedding + (config.deterministic if self.reads_deterministic else 0)
        # An almost uniform posterior gives noise at first, and no useful gradient passes through it
        # for a long time.
        self.posterior = MLP(
            posterior_inputs, config.hidden, 1, self.latent.parameter_size, config.posterior_scale
        )
        parameters = self.latent.parameter_size
        self.prior: nn.Module = (
            MLP(config.deterministic, config.hidden, 1, parameters)
            if config.dynamics == "gated"
            else linear(config.deterministic, parameters)
        )

    def initial(self, batch: int, device: torch.device | str = "cpu") -> State:
        """Return the state before the first observation: zeros."""
        return State(
            torch.zeros(batch, self.config.deterministic, device=device),
            torch.zeros(batch, self.latent.size, device=device),
        )

    def observe(self, embedding: Tensor, action: Tensor, is_first: Tensor) -> ObserveOutput:
        """Filter a batch: embedding (B, T, E), action (B, T, A) that led to it, is_first (B, T).

        The state is reset where is_first is true and at the start of every sequence.
        """
        keep = 1.0 - is_first.float()
        keep = torch.cat([torch.zeros_like(keep[:, :1]), keep[:, 1:]], 1).unsqueeze(-1)  # (B, T, 1)
        roll = self._observe_filtering if self.reads_deterministic else self._observe_image
        deterministic, stochastic, posterior = roll(embedding, action * keep, keep)
        return ObserveOutput(State(deterministic, stochastic), posterior, self.prior(deterministic))

    def _observe_image(
        self, embedding: Tensor, action: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        # This posterior does not depend on the recurrence: all but the cell runs once over B*T.
        posterior = self.posterior(embedding)
        stochastic = self.latent.sample(posterior)
        previous = torch.cat([torch.zeros_like(stochastic[:, :1]), stochastic[:, :-1]], 1) * keep
        drive = self.recurrence.input_projection(previous, action).transpose(0, 1)  # (T, B, D)
        deterministic = self.recurrence.unroll(drive, keep.transpose(0, 1))
        return deterministic.transpose(0, 1).contiguous(), stochastic, posterior

    def _observe_filtering(
        self, embedding: Tensor, action: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        state = self.initial(len(embedding), embedding.device)
        rows = []
        for embedded, act, keep_now in zip(embedding.unbind(1), action.unbind(1), keep.unbind(1)):
            state = state.map(lambda x, k=keep_now: x * k)
            deterministic = self.recurrence(
                state.deterministic, self.recurrence.input_projection(state.stochastic, act)
            )
            parameters = self.posterior(torch.cat([embedded, deterministic], -1))
            state = State(deterministic, self.latent.sample(parameters))
            rows.append((deterministic, state.stochastic, parameters))
        return tuple(torch.stack(column, 1) for column in zip(*rows))

    def filter(
        self, state: State, embedding: Tensor, action: Tensor, is_first: Tensor, sample: bool = True
    ) -> State:
        """Take in one observation: state (N, ...), embedding (N, E), action (N, A) that led to it,
        is_first (N,).
        """
        keep = 1.0 - is_first.float().unsqueeze(-1)
        state = state.map(lambda x: x * keep)
        drive = self.recurrence.input_projection(state.stochastic, action * keep)
        deterministic = self.recurrence(state.deterministic, drive)
        inputs = (
            torch.cat([embedding, deterministic], -1) if self.reads_deterministic else embedding
        )
        parameters = self.posterior(inputs)
        return State(
            deterministic,
            self.latent.sample(parameters) if sample else self.latent.mode(parameters),
        )

    def imagine(self, state: State, action: Tensor) -> State:
        """Take one step of the prior: state (N, ...), action (N, A) -> state (N, ...)."""
        drive = self.recurrence.input_projection(state.stochastic, action)
        deterministic = self.recurrence(state.deterministic, drive)
        return State(deterministic, self.latent.sample(self.prior(deterministic)))

    def kl(
        self, posterior: Tensor, prior: Tensor, balance: float, free_nats: float
    ) -> tuple[Tensor, Tensor]:
        """Return KL(posterior || prior) (B, T) in nats, at least `free_nats` (DreamerV3, Eq. 5),
        and unclipped.

        The share `balance` of its gradient goes to the prior, the rest to the posterior.
        """
        # Interpolating between a tensor and itself leaves the value and scales the gradient by the
        # weight.
        kl = self.latent.kl(
            torch.lerp(posterior.detach(), posterior, 1 - balance),
            torch.lerp(prior.detach(), prior, balance),
        )
        return kl.clamp(min=free_nats), kl.detach()
