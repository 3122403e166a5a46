"""The world model: encoder, recurrent state-space model, information terms and the rule that weighs
them.

Shapes: B batch, T time, N any leading axes, A action, E embedding, F features.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from foreground.errors import UserError, nearest
from foreground.option import Rule, config_class, option
from foreground.world_models import terms
from foreground.world_models.distributions import symlog
from foreground.world_models.empowerment import EmpowermentConfig
from foreground.world_models.information import ContrastiveConfig
from foreground.world_models.networks import MLP, Decoder, Encoder, float_to_image, image_to_float
from foreground.world_models.objective import ObjectiveConfig, make_rule
from foreground.world_models.rssm import RSSM, ObserveOutput, RSSMConfig, State
from foreground.world_models.salient import SalientTerm


def _with(*terms: str) -> Rule:
    """Return the rule of options that only these information terms read."""
    words = " or ".join(terms)
    return (
        f"with the information term {words}",
        lambda config: set(terms) & set(config.objective.terms),
    )


DRAWING = (
    "without the information term reconstruction",
    lambda config: "reconstruction" not in config.objective.terms,
)
HEADS = ("reward", "games", "use", "safety", "continuation", "detector")


@config_class
class WorldModelConfig:
    depth: int = option(
        16,
        "Channels of the encoder's and decoder's convolutions are multiples of this.",
        ge=1,
        le=4096,
    )
    stem: int = option(4, "Stride of the encoder's first convolution.", choices=(2, 4))
    frame_stack: int = option(
        2,
        "Images that the encoder sees at once: 2 show velocity, 1 is the current image alone.",
        choices=(1, 2),
    )
    embedding: int = option(256, "Size E of the image embedding.", ge=8, le=65536)
    units: int = option(256, "Units of each head.", ge=8, le=65536, read_if=_with(*HEADS))
    layers: int = option(1, "Layers of each head.", ge=1, le=100, read_if=_with(*HEADS))
    reward_head: str = option(
        "two_hot",
        "Distribution of the reward.",
        choices=("two_hot", "unit_normal"),
        read_if=_with(*HEADS),
    )
    reward_limit: float = option(
        3.0,
        "Largest symlog of a reward that a two-hot head can represent: 3 is a reward of 19.",
        gt=0.0,
        le=20.0,
        read_if=_with(*HEADS),
    )
    context: int = option(
        0,
        "Number of rows at the start of a training sequence whose states lack history. They are "
        "context only: no loss of the heads or of predictability, and no start of imagination. "
        "Rows after a reset have their whole history.",
        ge=0,
        le=10_000,
    )
    divergence: str = option(
        "kl",
        "Divergence from the prior that the posterior minimises. The prior always learns by the "
        "KL.",
        choices=("kl", "cauchy_schwarz"),
        read_if=_with("predictability"),
    )
    free_nats: float = option(
        1.0,
        "Divergences are not minimised below this.",
        ge=0.0,
        read_if=_with("predictability"),
    )
    kl_balance: float = option(
        0.9,
        "Share of predictability's gradient that goes to the prior.",
        ge=0.0,
        le=1.0,
        read_if=_with("predictability"),
    )
    random_shift: int = option(
        0, "Largest random shift of the images in pixels, one shift per sequence.", ge=0, le=64
    )
    decoder_frames: int = option(
        16,
        "Images per update that train the decoder for videos.",
        ge=0,
        le=100_000,
        read_if=DRAWING,
    )
    proprioception: str = option(
        "input",
        "What the observed numbers are: an input beside the image, or a detector, which the latent "
        "of the image alone must predict (term detector).",
        choices=("input", "detector"),
    )
    rssm: RSSMConfig = option(RSSMConfig, "Recurrent state-space model")
    contrastive: ContrastiveConfig = option(
        ContrastiveConfig, "Contrastive term", read_if=_with("contrastive")
    )
    empowerment: EmpowermentConfig = option(
        EmpowermentConfig, "Inverse model", read_if=_with("empowerment", "control")
    )
    objective: ObjectiveConfig = option(ObjectiveConfig, "Objective")


class Spaces(NamedTuple):
    """Sizes found at run time."""

    image_size: int  # side in pixels
    action: int  # A
    condition: int = 0  # C
    signals: tuple[str, ...] = ()  # names of the K signals
    games: tuple[tuple[float, ...], ...] = ()  # descriptor of each training game, (M, D)
    proprioception: int = 0  # P, numbers that are observed beside the image


class ModelLoss(NamedTuple):
    """The result of `WorldModel.loss`."""

    # Scalars: "world_model" and, where it is trained by itself, "pictures".
    losses: dict[str, Tensor]
    states: ObserveOutput
    values: dict[str, Tensor]  # of the terms, in nats per step
    metrics: dict[str, Tensor]


def _column(index: int) -> Callable[[terms.TrainSequence], Tensor]:
    """Return a function that selects one signal of a batch."""
    return lambda sequence: sequence.extra["signals"][..., index]


def random_shift(image: Tensor, pixels: int) -> Tensor:
    """Return images, uint8 (B, T, H, W, C), shifted by up to `pixels` with repeated edges (DrQ).

    There is one shift per sequence, so that motion is unchanged.
    """
    batch, _, height, width, _ = image.shape
    offset = torch.randint(-pixels, pixels + 1, (2, batch, 1), device=image.device)
    rows = (torch.arange(height, device=image.device) + offset[0]).clamp(0, height - 1)  # (B, H)
    columns = (torch.arange(width, device=image.device) + offset[1]).clamp(0, width - 1)  # (B, W)
    index = torch.arange(batch, device=image.device)[:, None, None]
    # (B, H, W, T, C)
    shifted = image.transpose(1, 2).transpose(2, 3)[index, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2, 4).contiguous()


def known_rows(is_first: Tensor, context: int) -> Tensor:
    """Return which rows have states with enough history: bool (B, T) -> bool (B, T).

    These are rows whose episode began in the sequence, and rows after the first `context` ones. Of
    a sequence of at most `context` rows it is the last row only.
    """
    begun = is_first.long().cummax(1).values.bool()
    late = torch.arange(is_first.shape[1], device=is_first.device) >= min(
        context, is_first.shape[1] - 1
    )
    return begun | late


class WorldModel(nn.Module):
    """Encoder, RSSM, decoder, information terms and their rule.

    `loss` is that of a batch. `filter` takes in one observation, `imagine` takes a step without.
    `reward` and `decode` read states.
    """

    def __init__(self, config: WorldModelConfig, spaces: Spaces):
        super().__init__()
        self.config = config
        self.encoder = Encoder(
            spaces.image_size, config.depth, config.embedding, config.stem, config.frame_stack
        )
        # P, numbers that the latent reads: none where they are its detector.
        self.numbers = spaces.proprioception if config.proprioception == "input" else 0
        # Added to the embedding of the image: its size, and all that reads it, stay as they are.
        self.proprioception = (
            MLP(self.numbers, config.units, 1, config.embedding) if self.numbers else None
        )
        self.rssm = RSSM(config.rssm, config.embedding, spaces.action)
        self.decoder = Decoder(self.rssm.feature_size, spaces.image_size, config.depth)
        self.terms = nn.ModuleDict(
            {name: self._make_term(name, spaces) for name in config.objective.terms}
        )
        self.rule = make_rule(config.objective)
        self.reconstructs = "reconstruction" in self.terms
        self.rewarded = "reward" in self.terms  # else the model knows nothing of the task

    def _make_term(self, name: str, spaces: Spaces) -> nn.Module:
        config, rssm = self.config, self.rssm
        makers = {
            "contrastive": lambda: terms.ContrastiveTerm(
                config.contrastive, rssm.feature_size, config.embedding, config.rssm.deterministic
            ),
            "reconstruction": lambda: terms.ReconstructionTerm(self.decoder),
            "predictability": lambda: terms.PredictabilityTerm(config, rssm),
            "salient": lambda: SalientTerm(config, self.encoder, spaces.image_size),
            "von_neumann": lambda: terms.VonNeumannTerm(rssm),
            "reward": lambda: terms.RewardTerm(config, rssm.feature_size),
            "empowerment": lambda: terms.EmpowermentTerm(config, rssm, spaces.action),
            "continuation": lambda: terms.ContinuationTerm(config, rssm.feature_size),
            "control": lambda: terms.ControlTerm(config, spaces.action),
        }
        if spaces.proprioception:
            makers["detector"] = lambda: terms.DetectorTerm(
                config, rssm.latent.size, spaces.proprioception
            )
        if spaces.games:
            makers["games"] = lambda: terms.GameRewardTerm(config, rssm.feature_size, spaces.games)
        for column, signal in enumerate(spaces.signals):  # use, safety: a head for each
            makers[signal] = functools.partial(
                terms.RewardTerm, config, rssm.feature_size, _column(column)
            )
        if name not in makers:
            raise UserError(
                f"unknown information term {name!r}",
                "world_model.objective.terms",
                nearest(name, makers),
            )
        return makers[name]()

    def loss(self, batch: dict[str, Tensor]) -> ModelLoss:
        """Return losses, states, values of the terms and metrics of a batch (B, T, ...)."""
        image = (
            random_shift(batch["image"], self.config.random_shift)
            if self.config.random_shift
            else batch["image"]
        )
        embedding, states = self.observe(batch | {"image": image})
        names = "image", "action", "reward", "is_first"
        seen = image, *(batch[name] for name in names[1:])
        extra = {name: value for name, value in batch.items() if name not in names}
        known = (
            known_rows(batch["is_first"], self.config.context).float()
            if self.config.context
            else None
        )
        sequence = terms.TrainSequence(*seen, embedding, states, extra, known)
        values: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            values[name], extra = term(sequence)
            metrics |= {f"{name}/{key}": value for key, value in extra.items()}
        loss, extra = self.rule(values, embedding)
        losses = {"world_model": loss}
        metrics |= {f"objective/{key}": value for key, value in (values | extra).items()}
        if not self.reconstructs and self.config.decoder_frames:
            losses["pictures"] = self.decoder_loss(states.state, image)
            metrics["pictures/error"] = losses["pictures"]
        return ModelLoss(losses, states, values, metrics)

    def decoder_loss(self, state: State, image: Tensor) -> Tensor:
        """Return the mean squared error of the decoder on a few detached states, in opponent
        colours.

        No gradient leaves the decoder. In RGB the brightness of the clip makes up nearly all of the
        error, and the robot is decoded late or never.
        """
        feature = state.detach().feature.flatten(0, 1)
        image = image.flatten(0, 1)
        index = torch.randint(len(feature), (self.config.decoder_frames,), device=feature.device)
        target = image_to_float(image[index]).permute(0, 2, 3, 1)
        error = self.decoder(feature[index]).float() - target
        return (error @ self.encoder.first.colours.T).square().mean()

    def dual_step(self, values: dict[str, Tensor]) -> None:
        """Adapt the multiplier. Call it after the step of the networks."""
        self.rule.dual_step(values)

    @torch.no_grad()
    def validate(self, episode: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Evaluate an episode (1, T, ...) that no update has seen, for the rule; return metrics.

        None: another rank has one, and this one has not.
        """
        metrics = self.rule.validate(self.loss(episode).values if episode else None)
        return {f"objective/{key}": value for key, value in metrics.items()}

    def initial(self, batch: int, device: torch.device | str = "cpu") -> State:
        return self.rssm.initial(batch, device)

    def no_proprioception(self, number: int, device: torch.device | str) -> Tensor | None:
        """Return the numbers (N, P) before the first observation; None where none are observed."""
        return torch.zeros(number, self.numbers, device=device) if self.numbers else None

    def _joined(self, embedding: Tensor, proprioception: Tensor | None) -> Tensor:
        """Return the embeddings (..., E) of images with the observed numbers (..., P) in them.

        The numbers are of any unit: they enter by their symlog.
        """
        if self.proprioception is None:
            return embedding
        return embedding + self.proprioception(symlog(proprioception))

    def observe(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ObserveOutput]:
        """Filter a batch (B, T, ...): return embeddings (B, T, E) and states.

        It reads `image`, `action`, `is_first` and, where it is observed, `proprioception`.
        """
        is_first = batch["is_first"]
        embedding = self.encoder(batch["image"], is_first)
        embedding = self._joined(embedding, batch.get("proprioception"))
        return embedding, self.rssm.observe(embedding, batch["action"], is_first)

    def filter(
        self,
        state: State,
        before: Tensor,
        image: Tensor,
        action: Tensor,
        is_first: Tensor,
        sample: bool = True,
        proprioception: Tensor | None = None,
    ) -> State:
        """Take in one observation: the previous image and this one (N, H, W, C), action (N, A) that
        led here, numbers (N, P).
        """
        seen = image.unsqueeze(1)  # (N, 1, H, W, C)
        first = is_first.unsqueeze(1)  # (N, 1)
        if self.config.frame_stack == 2:
            seen = torch.stack([before, image], 1)
            first = first.expand(-1, 2)
        embedding = self._joined(self.encoder(seen, first)[:, -1], proprioception)
        return self.rssm.filter(state, embedding, action, is_first, sample)

    def imagine(self, state: State, action: Tensor) -> State:
        """Take one step without an image."""
        return self.rssm.imagine(state, action)

    def reward(self, feature: Tensor, name: str = "reward") -> Tensor:
        """Return the expected reward, or signal of that name, per agent step: (N, F) -> (N,)."""
        return self.terms[name].mean(feature)

    @property
    def continuation(self) -> Callable[[Tensor], Tensor] | None:
        """The learned probability that the episode continues after a state, (..., F) -> (...), if
        any.
        """
        return self.terms["continuation"].mean if "continuation" in self.terms else None

    @torch.no_grad()
    def decode(self, feature: Tensor) -> Tensor:
        """Return decoded images: (N, F) -> uint8 (N, H, W, C)."""
        return float_to_image(self.decoder(feature))
