"""A high-level policy over the frozen skills of another run: its action is a skill, held for many steps.

World model and skill policy are those of the skill run and stay as they are, so that the skills keep their meaning; what is
learned is the reward of the task, read from the latent, and the high-level actor-critic, in imagination: one of its steps is
`hold` imagined steps of the skill policy. The same contract as agent.py. Source: SLIM, arXiv 2402.00823.

Shapes: B batch, T time, N environments or starts, A action, C skill, F features, H high-level steps, K steps for each.
"""

import torch
from torch import Tensor, nn

from foreground.agents.actor_critic import Actor, ActorCritic, ActorCriticConfig, Imagined
from foreground.agents.config import AgentConfig
from foreground.agents.memory import Memory, initial_memory, some_of
from foreground.agents.optimiser import Optimiser, descend, load_training_state, training_state
from foreground.agents.skills import Skills
from foreground.errors import UserError
from foreground.world_models.distributions import clipped_normal_log_prob
from foreground.world_models.rssm import State
from foreground.world_models.terms import Rollout
from foreground.world_models.world_model import Spaces, WorldModel


def check(config: AgentConfig) -> None:
    """Errors: UserError for options that a high-level policy has nothing to do with."""
    if config.actor_critic.gradient != "score":
        what = "a high-level policy has no path through the skills that it chooses"
        raise UserError(what, "actor_critic.gradient", "choose score")
    if set(config.actor_critic.rewards) != {"task"} or config.actor_critic.factors:
        raise UserError(
            "a high-level policy learns from the task alone", "actor_critic.rewards", "choose task=1, without factors"
        )
    if set(config.world_model.objective.terms) != {"reward"}:
        raise UserError("its world model is frozen but for the reward", "world_model.objective.terms", "choose reward=1")


class Hierarchical(nn.Module):
    """Learns from batches of the replay (`update`) and acts on images (`act`), as Agent does."""

    def __init__(self, config: AgentConfig, spaces: Spaces, device: torch.device | str = "cpu"):
        super().__init__()
        check(config)
        self.config, self.spaces, self.device = config, spaces, torch.device(device)
        self.skills, self.discovery = Skills(config.skill), None
        self.world_model = WorldModel(config.world_model, spaces)
        feature, hierarchy = self.world_model.rssm.feature_size, config.hierarchy
        own = ActorCriticConfig(units=hierarchy.units, layers=hierarchy.layers)
        self.skill_policy = Actor(own, feature + spaces.condition, spaces.action)
        self.actor_critic = ActorCritic(config.actor_critic, feature, spaces.condition)
        self.to(self.device)
        rows = {
            "reward": (self.world_model.terms["reward"], config.optimiser.model_rate, config.optimiser.model_clip),
            "actor": (self.actor_critic.actor, config.optimiser.actor_rate, config.optimiser.policy_clip),
            "critic": (self.actor_critic.critics, config.optimiser.critic_rate, config.optimiser.policy_clip),
        }
        self.optimisers = {
            name: Optimiser(name, list(part.parameters()), rate, clip, config.optimiser.epsilon, config.optimiser.warmup)
            for name, (part, rate, clip) in rows.items()
        }

    @property
    def draws(self) -> bool:
        """Whether there is a trained decoder to draw pictures with: that of the skill run."""
        return self.config.world_model.picture_frames > 0

    def initial_state(self, number: int) -> Memory:
        """The memory of `number` environments before their first image."""
        return initial_memory(self.world_model, self.skills, self.spaces, number, self.device)

    @torch.no_grad()
    def act(
        self, memory: Memory, image: Tensor, is_first: Tensor, condition: Tensor | None = None, explore: bool = True
    ) -> tuple[Tensor, Memory]:
        """As Agent.act; the skill is chosen at resets and when it was held long enough. Only that choice explores."""
        image, is_first = image.to(self.device), is_first.to(self.device)
        state = self.perceive(memory, image, is_first, explore)
        due = is_first | (memory.age >= self.config.hierarchy.hold)
        policy = self.actor_critic.actor(state.feature)
        chosen = self.skills.nearest((policy.sample() if explore else policy.mean).clamp(-1, 1))
        skill = torch.where(due.unsqueeze(-1), chosen, memory.condition) if condition is None else condition.to(self.device)
        action = self.choose(state, skill)
        return action, Memory(state, action, image, skill, torch.where(due, 0, memory.age) + 1)

    def perceive(self, memory: Memory, image: Tensor, is_first: Tensor, sample: bool) -> State:
        """The state after an image; its mode where nothing is sampled."""
        seen = image.to(self.device), memory.action, is_first.to(self.device)
        return self.world_model.filter(memory.state, memory.image, *seen, sample=sample)

    def choose(self, state: State, skill: Tensor) -> Tensor:
        """What the skill policy does, without noise: (N, ...), (N, C) -> (N, A)."""
        return self.skill_policy(ActorCritic.inputs(state, skill)).mean.clamp(-1, 1)

    def update(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of the reward's head and of the high-level actor-critic on a batch (B, T, ...); metrics.

        Errors: Divergence when a loss or a gradient is not finite; the weights of that module are then untouched.
        """
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        seen = batch["image"], batch["action"], batch["is_first"]
        with torch.no_grad():
            embedding, states = self.world_model.observe(*seen)
        rollout = Rollout(*seen[:2], batch["reward"], batch["is_first"], embedding, states, None)
        value, found = self.world_model.terms["reward"](rollout)
        norms = descend(self.optimisers, {"reward": -value})
        imagined, reward = self.imagine(some_of(states.state, self.config.actor_critic.starts))
        losses, metrics = self.actor_critic.improve(imagined, {"task": lambda _: reward})
        norms |= descend(self.optimisers, losses)
        self.actor_critic.follow()
        row = {"model/objective/reward": value} | {f"model/reward/{key}": number for key, number in found.items()}
        row |= {f"policy/{key}": number for key, number in (metrics | losses).items()}
        row |= {f"gradient/{key}": number for key, number in norms.items()}
        return {key: number.detach() for key, number in row.items()}

    @torch.no_grad()
    def imagine(self, start: State) -> tuple[Imagined, Tensor]:
        """H high-level steps from start (N, ...), and the reward that came with each, (H, N).

        Within a step rewards are discounted by the K-th root of the discount of a step.
        """
        hold, discount = self.config.hierarchy.hold, self.config.actor_critic.discount
        states, actions, log_probs, rewards = [start], [], [], []
        for _ in range(self.config.actor_critic.horizon):
            policy = self.actor_critic.actor(states[-1].feature)
            action = policy.sample()
            state, total = states[-1], 0.0
            skill = self.skills.nearest(action.clamp(-1, 1))
            for step in range(hold):
                state = self.world_model.imagine(state, self.choose(state, skill))
                total = total + discount ** (step / hold) * self.world_model.reward(state.feature)
            states.append(state)
            actions.append(action)
            log_probs.append(clipped_normal_log_prob(action.clamp(-1, 1), *policy))
            rewards.append(total)
        state = State(*(torch.stack(column) for column in zip(*states)))
        imagined = Imagined(state, state.feature, torch.stack(actions), torch.stack(log_probs))
        return imagined, torch.stack(rewards)

    @torch.no_grad()
    def pictures(self, batch: dict[str, Tensor]) -> Tensor:
        """What the latent keeps of each image: batch (B, T, ...) -> uint8 (B, T, H, W, C)."""
        seen = (batch[name].to(self.device) for name in ("image", "action", "is_first"))
        return self.world_model.picture(self.world_model.observe(*seen)[1].state.feature)

    def parameters_by_module(self) -> dict[str, int]:
        """Number of parameters of each part, the frozen ones included."""
        parts = {"world model (frozen)": self.world_model.rssm, "skill policy (frozen)": self.skill_policy}
        parts |= {"encoder (frozen)": self.world_model.encoder, "reward": self.world_model.terms["reward"]}
        parts |= {"actor": self.actor_critic.actor, "critic": self.actor_critic.critics}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}

    def training_state(self) -> dict:
        """Everything that learning changes, as plain types and tensors."""
        return training_state(self, self.optimisers)

    def load_training_state(self, state: dict, optimisers: bool = True) -> None:
        """Take over what `training_state` gave; without optimisers for evaluation."""
        load_training_state(self, self.optimisers if optimisers else {}, state)
