"""A high-level policy over the frozen skills of another run: its actions are skills.

World model and skill policy are those of the skill run and remain frozen, so that the skills keep
their meaning. A reward head of the task is learned on the latent, and the high-level actor-critic
in imagination. One high-level step is `hierarchy.duration` imagined steps of the skill policy.
Source: SLIM, arXiv 2402.00823.

Shapes: B batch, T time, N environments or starts, A action, C skill, F features, H high-level
steps, K steps for each.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from foreground.agents import registry
from foreground.agents.actor_critic import Actor, ActorCritic, Imagined
from foreground.agents.actor_critic_config import ActorCriticConfig
from foreground.agents.base import Batch, Held, Metrics, Starts, Step
from foreground.agents.commanders import due, resampled
from foreground.agents.config import AgentConfig
from foreground.agents.learners import Part, named
from foreground.agents.memory import Memory, some_of
from foreground.agents.optimiser import descend
from foreground.agents.skills import Skills
from foreground.errors import UserError
from foreground.world_models.distributions import clipped_normal_log_prob
from foreground.world_models.rssm import State
from foreground.world_models.terms import TrainSequence
from foreground.world_models.world_model import Spaces, WorldModel


@registry.commander("high_level_policy")
class HighLevelPolicy:
    """Chooses a skill by a policy on the state. Only that choice explores."""

    explores = False
    recordable = False

    @staticmethod
    def size(config: AgentConfig) -> int:
        """Return C."""
        return config.skill.size

    @staticmethod
    def check(config: AgentConfig, spaces: Spaces) -> None:
        """Raise UserError for options that do not fit a high-level policy."""
        if config.actor_critic.actor_grad != "reinforce":
            what = "a high-level policy has no path through the skills that it chooses"
            raise UserError(what, "actor_critic.actor_grad", "choose reinforce")
        if set(config.actor_critic.rewards) != {"task"} or config.actor_critic.reward_scales:
            what = "a high-level policy learns from the task alone"
            raise UserError(what, "actor_critic.rewards", "choose task=1, without reward_scales")
        if set(config.world_model.objective.terms) - {"continuation"} != {"reward"}:
            what = "its world model is frozen except the reward head"
            raise UserError(what, "world_model.objective.terms", "choose reward=1")

    def __init__(self, config: AgentConfig, spaces: Spaces, model: WorldModel):
        feature = model.rssm.feature_size
        hierarchy = config.hierarchy
        self.config = config
        self.skills = Skills(config.skill)
        self.duration = hierarchy.duration
        own = ActorCriticConfig(units=hierarchy.units, layers=hierarchy.layers)
        self.actor = Actor(own, feature + spaces.condition, spaces.action)
        self.policy = ActorCritic(config.actor_critic, feature, spaces.condition)
        self.modules = {"skill_policy": self.actor, "actor_critic": self.policy}
        self.learned = list(self.policy.actor.parameters())

    def initial(self, number: int, device: torch.device) -> dict[str, Tensor]:
        """Return skills that are replaced at the first reset."""
        return {"condition": self.skills.draw(number, device)}

    def __call__(
        self, memory: Memory, see: Callable[[], State], is_first: Tensor, explore: bool
    ) -> Held:
        policy = self.policy.actor(see().feature)
        chosen = self.skills.nearest((policy.sample() if explore else policy.mean).clamp(-1, 1))
        return resampled(memory, due(memory, is_first, self.duration), chosen)

    def starts(self, state: State, batch: Batch) -> Starts:
        """Return a random subset of the batch's states."""
        return Starts(some_of(state, self.config.actor_critic.imag_starts), None)


@registry.learner("frozen_model")
class FrozenModel(Part):
    """Trains the reward head of the task on a frozen world model."""

    def __init__(self, agent):
        super().__init__(agent)
        self.model = agent.world_model

    @property
    def renders(self) -> bool:
        return self.config.world_model.decoder_frames > 0  # with the decoder of the other run

    def begin(self, records: bool) -> None:
        config = self.config.optimiser
        self.optimise(
            "reward",
            list(self.model.terms["reward"].parameters()),
            config.model_lr,
            config.model_clip,
        )

    def __call__(self, update: Step) -> Metrics:
        batch = update.batch
        with torch.no_grad():
            embedding, states = self.model.observe(batch)
        sequence = TrainSequence(
            batch["image"], batch["action"], batch["reward"], batch["is_first"], embedding, states
        )
        value, found = self.model.terms["reward"](sequence)
        norms = descend(self.optimisers, {"reward": -value})
        update.state = states.state
        return (
            {"model/objective/reward": value}
            | named("model/reward", found)
            | named("gradient", norms)
        )


@registry.learner("decisions")
class Decisions(Part):
    """Trains the high-level actor and its critic in imagination."""

    def begin(self, records: bool) -> None:
        critics = list(self.agent.actor_critic.critics.parameters())
        self.optimise_policy(self.agent.commander.learned, critics)

    def __call__(self, update: Step) -> Metrics:
        update.starts = self.agent.commander.starts(update.state, update.batch)
        imagined, reward = self.imagine(update.starts.state)
        losses, metrics = self.agent.actor_critic.improve(imagined, {"task": lambda _: reward})
        norms = descend(self.optimisers, losses)
        self.agent.actor_critic.update_target()
        return named("policy", metrics | losses) | named("gradient", norms)

    @torch.no_grad()
    def imagine(self, start: State) -> tuple[Imagined, Tensor]:
        """Return H high-level steps from start (N, ...), and the reward (H, N) of each.

        Within a high-level step rewards are discounted by the K-th root of its discount. Where
        episodes may terminate, they are weighted with the probability that the episode continues.
        """
        agent = self.agent
        config = self.config.actor_critic
        duration = self.config.hierarchy.duration
        actor = agent.actor_critic.actor
        going = agent.world_model.continuation or (lambda feature: torch.ones_like(feature[..., 0]))
        states = [start]
        alive = [going(start.feature)]
        actions: list[Tensor] = []
        log_probs: list[Tensor] = []
        rewards: list[Tensor] = []
        for _ in range(config.horizon):
            policy = actor(states[-1].feature)
            action = policy.sample()
            state = states[-1]
            total: Tensor | float = 0.0
            now = torch.ones_like(alive[0])
            skill = agent.skills.nearest(action.clamp(-1, 1))
            for step in range(duration):
                state = agent.world_model.imagine(state, agent.select_action(state, skill))
                reward = now * agent.world_model.reward(state.feature)
                total = total + config.discount ** (step / duration) * reward
                now = now * going(state.feature)
            states.append(state)
            actions.append(action)
            log_probs.append(clipped_normal_log_prob(action.clamp(-1, 1), *policy))
            rewards.append(total)
            alive.append(now)
        state = State(*(torch.stack(column) for column in zip(*states)))
        imagined = Imagined(state, state.feature, torch.stack(actions), torch.stack(log_probs))
        if agent.world_model.continuation is not None:
            imagined = imagined._replace(continuation=torch.stack(alive))
        return imagined, torch.stack(rewards)
