"""The parts of an update, by their names in a preset: world model, skill discovery, imagination.

Shapes: B batch, T time, N starts, C condition, M games, F features.
"""

import torch
from torch import Tensor, nn

from foreground import ranks
from foreground.agents import registry
from foreground.agents.base import Metrics, Starts, Step
from foreground.agents.cuda_graphs import Recorded
from foreground.agents.discovery import make_discovery
from foreground.agents.estimators import BY_OUTPUTS
from foreground.agents.optimiser import Optimiser, descend, gradients, step
from foreground.agents.rewards import make_rewards
from foreground.agents.skills import Skills
from foreground.world_models.rssm import State
from foreground.world_models.world_model import known_rows


def detached(table: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the metrics without gradients."""
    return {name: value.detach() for name, value in table.items()}


def named(prefix: str, table: Metrics) -> Metrics:
    """Return the metrics under a prefix."""
    return {f"{prefix}/{key}": value for key, value in table.items()}


class Part:
    """Base of the learners: the agent, and optimisers with the configured schedule."""

    renders = False

    def __init__(self, agent):
        self.agent, self.config, self.device = agent, agent.config, agent.device
        self.modules: dict[str, nn.Module] = {}
        self.optimisers: dict[str, Optimiser] = {}

    def begin(self, records: bool) -> None:
        """Create no further modules."""

    def compile_parts(self, **options) -> None:
        """Compile the parts that are worth it; `options` go to torch.compile."""

    def optimise(self, name: str, parameters: list[nn.Parameter], rate: float, clip: float) -> None:
        """Add an optimiser with the schedule of the config."""
        config = self.config.optimiser
        schedule = config.epsilon, config.warmup, config.lr_decay_after
        self.optimisers[name] = Optimiser(name, parameters, rate, clip, *schedule)

    def optimise_policy(self, actor: list[nn.Parameter], critics: list[nn.Parameter]) -> None:
        """Add the optimisers of actor and critics."""
        config = self.config.optimiser
        self.optimise("actor", actor, config.actor_lr, config.policy_clip)
        self.optimise("critic", critics, config.critic_lr, config.policy_clip)

    def autocast(self) -> torch.autocast:
        """Return the context in which networks run: bfloat16 on CUDA."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")


@registry.learner("model")
class ModelLearner(Part):
    """Learns the world model, and the separate decoder for images."""

    def __init__(self, agent):
        super().__init__(agent)
        self.model = agent.world_model

    def begin(self, records: bool) -> None:
        # The decoder for images has its own optimiser, so that clipping its gradient does not
        # affect the model.
        pictures = [] if self.model.reconstructs else list(self.model.decoder.parameters())
        held, config = {id(parameter) for parameter in pictures}, self.config.optimiser
        own = [parameter for parameter in self.model.parameters() if id(parameter) not in held]
        self.optimise("world_model", own, config.model_lr, config.model_clip)
        if pictures and self.config.world_model.decoder_frames:
            self.optimise("pictures", pictures, config.model_lr, config.model_clip)
        self.gradients = Recorded(self._gradients) if records else self._gradients

    @property
    def renders(self) -> bool:
        return self.model.reconstructs or "pictures" in self.optimisers

    def compile_parts(self, **options) -> None:
        for part in (self.model.encoder, self.model.rssm.recurrence, *self.model.terms.values()):
            part.compile(**options)
        self.model.imagine = torch.compile(self.model.imagine, **options)

    def __call__(self, update: Step) -> Metrics:
        """Take one step of the world model. On CUDA the next call may overwrite the states."""
        losses, found, update.state, values, metrics = self.gradients(update.batch)
        norms = step(self.optimisers, losses, found)
        self.model.dual_step(ranks.mean_of(values))
        return named("model", metrics) | named("gradient", norms)

    def _gradients(self, batch: dict[str, Tensor]) -> tuple[dict, dict, State, dict, dict]:
        """Return losses of the world model, their gradients, states, values of the terms and
        metrics.
        """
        with self.autocast():
            losses, states, values, metrics = self.model.loss(batch)
        found = gradients(self.optimisers, losses)
        return detached(losses), found, states.state.detach(), detached(values), detached(metrics)


@registry.learner("discovery")
class DiscoveryLearner(Part):
    """Learns the map of the reward `discovery`.

    Raises: UserError for an agent without skills.
    """

    def __init__(self, agent):
        super().__init__(agent)
        self.map = make_discovery(
            self.config.discovery, agent.world_model.rssm.feature_size, Skills(self.config.skill)
        )
        self.modules = {"discovery": self.map}

    def begin(self, records: bool) -> None:
        parameters = list(self.map.parameters())
        self.optimise(
            "discovery", parameters, self.config.discovery.lr, self.config.optimiser.policy_clip
        )

    def __call__(self, update: Step) -> Metrics:
        """Take one step of the map.

        Steps into a new episode are left out, since no skill led there. So are steps from rows
        without history: there the latent moves six times as far (squared), and would dominate the
        constraint on the length of a step.
        """
        feature = update.state.detach().feature.float()  # (B, T, F)
        skill = update.batch["condition"][:, 1:]  # (B, T-1, C)
        first = update.batch["is_first"]
        known = known_rows(first[:, :-1], max(self.config.world_model.context, 1))
        moved = ~first[:, 1:] & known
        loss, metrics = self.map.loss(feature[:, :-1][moved], feature[:, 1:][moved], skill[moved])
        norm = descend(self.optimisers, {"discovery": loss})["discovery"]
        return named("discovery", metrics | {"gradient": norm})


@registry.learner("imagination")
class Imagination(Part):
    """Learns actor and critics in imagination, from the starts and conditions of the commander."""

    def __init__(self, agent):
        super().__init__(agent)
        self.model, self.actor_critic = agent.world_model, agent.actor_critic
        config = self.config.actor_critic
        self.rewards = make_rewards(
            list(config.rewards), self.model, agent.discovery, config.reward_scales
        )

    def begin(self, records: bool) -> None:
        self.optimise_policy(
            self.agent.commander.learned, list(self.actor_critic.critics.parameters())
        )
        self.gradients = Recorded(self._gradients) if records else self._gradients

    def compile_parts(self, **options) -> None:
        self.actor_critic.actor.compile(**options)
        # Within a compiled graph torch.autograd.grad cannot be called.
        if self.config.actor_critic.actor_grad not in BY_OUTPUTS:
            self.actor_critic.improve = torch.compile(self.actor_critic.improve, **options)

    def __call__(self, update: Step) -> Metrics:
        update.starts = self.agent.commander.starts(update.state, update.batch)
        rows = (update.batch[name] for name in ("reward", "is_first", "is_terminal"))
        seen = (update.state, *rows) if self.config.actor_critic.replay_value_coef else None
        return self.learn(update.starts, seen)

    def learn(
        self, starts: Starts, replayed: tuple[State, Tensor, Tensor, Tensor] | None = None
    ) -> Metrics:
        """Take one step of actor and critics.

        replayed   states (B, T, ...), rewards, is_first and is_terminal (B, T), from which the
                   task's critic learns as well
        """
        losses, found, metrics = self.gradients(
            starts.state, starts.condition, starts.member, replayed
        )
        norms = step(self.optimisers, losses, found)
        self.actor_critic.update_target()
        return named("policy", metrics | losses) | named("gradient", norms)

    def behaviour_losses(
        self,
        start: State,
        condition: Tensor | None,
        weight: Tensor | None = None,
        member: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return losses of actor and critics on rollouts from start (N, ...), and metrics.

        See `ActorCritic.loss`.
        """
        with self.autocast():
            return self.actor_critic.loss(
                self.model, start, self.rewards, condition, weight, member
            )

    def _gradients(
        self,
        start: State,
        condition: Tensor | None,
        member: Tensor | None,
        replayed: tuple[State, Tensor, Tensor, Tensor] | None,
    ) -> tuple[dict, dict, dict]:
        """Return losses of actor and critics, their gradients and metrics."""
        losses, metrics = self.behaviour_losses(start, condition, member=member)
        if replayed is not None:
            state, reward, is_first, terminal = replayed
            known = known_rows(is_first, self.config.world_model.context)
            loss, metrics["task/over_replay"] = self.actor_critic.replayed(
                state, reward, is_first, known, terminal
            )
            losses["critic"] = losses["critic"] + self.config.actor_critic.replay_value_coef * loss
        return detached(losses), gradients(self.optimisers, losses), detached(metrics)
