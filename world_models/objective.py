"""The rules that weigh the information terms of an objective.

Every term estimates an information in nats per step, to be maximised (terms.py). A rule turns the
values into one loss: `FixedWeights` (Dreamer, C-Dreamer), or a multiplier on the constrained terms
(InfoPower). The multiplier follows a level that C reached early on (`Lagrangian`), or progress on
new episodes (`Progress`). Two others go by the gradients of the terms (gradient_rules.py).
"""

import functools
import math

import torch
from torch import Tensor, nn

from foreground import ranks
from foreground.errors import UserError, nearest
from foreground.option import config_class, option
from foreground.world_models.gradient_rules import ByGradient, game, multiple_gradient

CONSTRAINED = (
    "where --world_model.objective.constraint names terms",
    lambda config: config.constraint,
)
LEVELLED = (
    "where --world_model.objective.constraint names terms and progress is 0",
    lambda config: config.constraint and not config.progress,
)
PILOTED = (
    "where --world_model.objective.constraint names terms, threshold is none and progress 0",
    lambda config: config.constraint and config.threshold is None and not config.progress,
)
WINDOW = 20  # the level of `Progress` is that of so many episodes
STEP = 0.15  # of ln lambda per episode, per deviation of slack
LEAK = 0.02  # share of the way back to lambda_0 per episode


@config_class
class ObjectiveConfig:
    terms: dict[str, float] = option(
        {"contrastive": 1.0, "predictability": 1.0, "reward": 1.0, "empowerment": 1.0},
        "Information terms to maximise, and their weights.",
    )
    constraint: tuple[str, ...] = option(
        ("predictability", "reward", "empowerment"),
        "Terms whose weighted sum C is held above a threshold c0 by one Lagrange "
        "multiplier; none: fixed weights.",
    )
    rule: str = option(
        "auto",
        "How the terms are weighed. auto: by the constraint, or fixed weights without one. pareto: "
        "the encoder follows the multiple-gradient descent direction. game: each term plays for a "
        "block of the embedding.",
        choices=("auto", "pareto", "game"),
    )
    competition: float = option(
        0.0,
        "Weight of the other terms' gradients in a block of the game: -1 greedy, 0 independent, 1 "
        "collaborative.",
        ge=-1.0,
        le=1.0,
        read_if=(
            "where --world_model.objective.rule is game",
            lambda config: config.rule == "game",
        ),
    )
    dual_rate: float = option(
        0.003,
        "Step of the logarithm of the multiplier, per nat of slack.",
        gt=0.0,
        read_if=LEVELLED,
    )
    pilot_updates: int = option(
        300,
        "Updates of the pilot phase, with multiplier 1, or multiplier_min where that is "
        "higher. They determine c0.",
        ge=2,
        le=10_000_000,
        read_if=PILOTED,
    )
    quantile: float = option(
        0.9,
        "c0 is this quantile of the smoothed C over the last half of the pilot phase.",
        ge=0.0,
        le=1.0,
        read_if=PILOTED,
    )
    threshold: float | None = option(
        None,
        "c0 in nats where it is known; none: the quantile of the pilot phase.",
        read_if=LEVELLED,
    )
    progress: float = option(
        0.0,
        "Number of deviations by which C of each new episode, before any update has seen it, must "
        "exceed the level of the last 20 episodes. 0: C of the training batches must stay above "
        "c0 instead.",
        ge=0.0,
        read_if=CONSTRAINED,
    )
    multiplier_min: float = option(
        1.0,
        "Smallest multiplier. Below 1 the contrastive term dominates and encodes distractors.",
        gt=0.0,
        read_if=CONSTRAINED,
    )
    multiplier_max: float = option(100.0, "Largest multiplier.", gt=0.0, read_if=CONSTRAINED)
    smoothing: float = option(
        0.98,
        "Decay of the moving average of C that the dual step sees.",
        ge=0.0,
        lt=1.0,
        read_if=LEVELLED,
    )

    def __post_init__(self):
        if self.multiplier_min > self.multiplier_max:
            what = (
                f"multiplier_min {self.multiplier_min} is above multiplier_max "
                f"{self.multiplier_max}"
            )
            raise UserError(
                what,
                "world_model.objective.multiplier_min",
                f"choose {self.multiplier_max} or less, or raise multiplier_max",
            )
        if self.rule != "auto" and self.constraint:
            raise UserError(
                f"the rule {self.rule} has no constraint",
                "world_model.objective.rule",
                "choose auto, or --world_model.objective.constraint ''",
            )


def constraint_of(config: ObjectiveConfig, values: dict[str, Tensor]) -> Tensor:
    """Return C in nats, the weighted sum of the constrained terms: scalar."""
    return sum(config.terms[name] * values[name] for name in config.constraint)


def weighed(
    config: ObjectiveConfig, values: dict[str, Tensor], multiplier: Tensor
) -> tuple[Tensor, Tensor]:
    """Return -(objective + lambda C) / (1 + lambda) and C.

    The divisor makes the size of the gradient, and so the learning rate, independent of lambda.
    """
    objective = sum(w * values[k] for k, w in config.terms.items() if k not in config.constraint)
    constraint = constraint_of(config, values)
    return -(objective + multiplier * constraint) / (1 + multiplier), constraint


class FixedWeights(nn.Module):
    """loss = - sum_k w_k I_k."""

    validates = False

    def __init__(self, config: ObjectiveConfig):
        super().__init__()
        self.weights = config.terms

    def forward(
        self, values: dict[str, Tensor], shared: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Values (scalars, nats) -> (loss, metrics). The embedding `shared` is not read."""
        return -sum(self.weights[name] * value for name, value in values.items()), {}

    def dual_step(self, values: dict[str, Tensor]) -> None:
        """Do nothing: fixed weights have nothing to adapt."""


class Lagrangian(nn.Module):
    """max sum_objective I_k subject to C = sum_constraint w_k I_k >= c0 (InfoPower, Eq. 4,
    Algorithm 1).

    The loss is that of `weighed`. The dual step changes log lambda by a smoothed C, within
    [multiplier_min, multiplier_max]; lambda grows while the constraint is violated. c0 is given, or
    is a quantile of the smoothed C over the second half of a pilot phase. In that phase lambda is
    1, or the bound nearest to 1.
    """

    validates = False

    def __init__(self, config: ObjectiveConfig):
        super().__init__()
        self.config = config
        self.pilot_updates = config.pilot_updates if config.threshold is None else 0
        start = math.log(min(max(1.0, config.multiplier_min), config.multiplier_max))
        self.register_buffer("log_multiplier", torch.full((), start))
        self.register_buffer("threshold", torch.tensor(float(config.threshold or 0.0)))
        self.register_buffer("smoothed", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.register_buffer("pilot", torch.zeros(config.pilot_updates))

    def forward(
        self, values: dict[str, Tensor], shared: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Values (scalars, nats) -> (loss, metrics). The embedding `shared` is not read."""
        multiplier = self.log_multiplier.exp()
        loss, constraint = weighed(self.config, values, multiplier)
        metrics = {
            "multiplier": multiplier,
            "constraint": constraint,
            "threshold": self.threshold.clone(),
        }
        return loss, {**metrics, "slack": constraint - self.threshold}

    @torch.no_grad()
    def dual_step(self, values: dict[str, Tensor]) -> None:
        """Record C in the pilot phase; after it log lambda <- log lambda - rate (C - c0).

        Call it after the step of the networks.
        """
        config = self.config
        constraint = constraint_of(config, values).float()
        done = int(self.updates)
        decay = min(config.smoothing, done / (done + 1))  # unbiased from the first update
        self.smoothed.lerp_(constraint, 1 - decay)
        self.updates += 1
        if done < self.pilot_updates:
            self.pilot[done] = self.smoothed
            if done == self.pilot_updates - 1:
                self.threshold.copy_(
                    self.pilot[self.pilot_updates // 2 :].quantile(config.quantile)
                )
            return
        # One step counts at most 10 nats of slack: an outlier must not move lambda to its other
        # bound.
        slack = (self.smoothed - self.threshold).clamp(-10, 10)
        self.log_multiplier.sub_(config.dual_rate * slack)
        self.log_multiplier.clamp_(math.log(config.multiplier_min), math.log(config.multiplier_max))


class Progress(nn.Module):
    """max sum_objective I_k subject to progress of C on episodes that no update has seen.

    C on replayed batches rises for as long as the model memorises them, so that a level reached
    once is never lost again, and a multiplier that waits for its loss rests at its minimum. C of a
    new episode falls where the policy meets new states or a new clip. lambda rises while new
    episodes show no progress, and falls while they show more than is asked:

        m, s = median and deviation (1.48 MAD) of C over the last 20 episodes
        b <- max(m, b - s / 20)                    a level once held leaks slowly
        ln lambda <- ln lambda - 0.15 clip((C - b) / s - progress, -2, 2)
                               - 0.02 (ln lambda - ln lambda_0)

    All is in deviations of C, so that no constant depends on the task. lambda_0 is the geometric
    mean of multiplier_min and multiplier_max, and draws ln lambda back. With C at its ceiling
    lambda rests at lambda_0 exp(0.15 progress / 0.02) and not at its maximum.
    """

    validates = True

    def __init__(self, config: ObjectiveConfig):
        super().__init__()
        self.config = config
        self.start = 0.5 * (math.log(config.multiplier_min) + math.log(config.multiplier_max))
        self.register_buffer("log_multiplier", torch.tensor(self.start))
        self.register_buffer("past", torch.zeros(WINDOW))  # C of the last episodes
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("episodes", torch.zeros((), dtype=torch.long))

    def forward(
        self, values: dict[str, Tensor], shared: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Values (scalars, nats) -> (loss, metrics). The embedding `shared` is not read."""
        multiplier = self.log_multiplier.exp()
        loss, constraint = weighed(self.config, values, multiplier)
        return loss, {"multiplier": multiplier, "constraint": constraint}

    def dual_step(self, values: dict[str, Tensor]) -> None:
        """Leave lambda as it is: replayed batches hold no information on new episodes."""

    @torch.no_grad()
    def validate(self, values: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Adapt lambda to the terms of a finished episode that no update has seen.

        With several ranks it is adapted to the episode of each, in turn.

        values   None: another rank has an episode, and this one has not

        Returns metrics, of the last episode.
        """
        none = self.past.new_full((), math.nan)
        new = none if values is None else constraint_of(self.config, values).float()
        is_there = torch.tensor(float(values is not None), device=new.device)
        metrics: dict[str, Tensor] = {}
        for there, each in ranks.gathered(torch.stack([is_there, new])):
            if there:
                metrics = self._adapt(each)
        return metrics

    def _adapt(self, new: Tensor) -> dict[str, Tensor]:
        """Adapt lambda to C of a new episode; return metrics."""
        config = self.config
        metrics = {"new_constraint": new}
        if self.episodes >= WINDOW:
            middle = self.past.median()
            spread = (1.4826 * (self.past - middle).abs().median()).clamp(min=1e-2)
            leaked = self.level - spread / WINDOW if self.episodes > WINDOW else middle
            self.level.copy_(torch.maximum(middle, leaked))
            slack = ((new - self.level) / spread - config.progress).clamp(-2, 2)
            self.log_multiplier.sub_(STEP * slack + LEAK * (self.log_multiplier - self.start))
            self.log_multiplier.clamp_(
                math.log(config.multiplier_min), math.log(config.multiplier_max)
            )
            metrics |= {"level": self.level.clone(), "slack": slack}
        self.past[self.episodes % WINDOW] = new
        self.episodes += 1
        return metrics


def make_rule(config: ObjectiveConfig) -> nn.Module:
    """Return the rule of a config.

    Raises: UserError when the constraint names a term that is not in the table.
    """
    for name in config.constraint:
        if name not in config.terms:
            where = "world_model.objective.constraint"
            raise UserError(
                f"the constraint names {name!r}, which is not in the table",
                where,
                nearest(name, config.terms),
            )
    if config.rule == "pareto":
        return ByGradient(config.terms, multiple_gradient)
    if config.rule == "game":
        # Every player learns the task, as every encoder of MCR learns the label.
        common = tuple(k for k, name in enumerate(config.terms) if name == "reward")
        play = functools.partial(game, competition=config.competition, common=common)
        return ByGradient(config.terms, play)
    if not config.constraint:
        return FixedWeights(config)
    return Progress(config) if config.progress else Lagrangian(config)
