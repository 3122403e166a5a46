"""The agent: a world model and an actor-critic, put together. Methods differ in their configuration only.

Contract with training and evaluation: `initial_state`, `act`, `update`, `pictures`, `state_dict`,
`load_state_dict`.
Shapes: B batch, T time, N environments or starts, A action, C condition, F features.
"""

import shutil
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from foreground.agents.actor_critic import ActorCritic
from foreground.agents.average import WeightAverage
from foreground.agents.config import AgentConfig, OptimiserConfig
from foreground.agents.discovery import make_discovery
from foreground.agents.memory import Memory, initial_memory, next_noise, some_of
from foreground.agents.optimiser import Optimiser, descend, gradients, load_training_state, step, training_state
from foreground.agents.recorded import Recorded, uncompiled
from foreground.agents.rewards import make_rewards, parts
from foreground.agents.skills import Skills
from foreground.errors import UserError
from foreground.world_models.rssm import RSSM, State
from foreground.world_models.world_model import Spaces, WorldModel, known_rows


def policy_of(config: AgentConfig, rssm: RSSM, spaces: Spaces) -> ActorCritic:
    """The actor-critic on states and skills."""
    return ActorCritic(config.actor_critic, rssm.feature_size, spaces.action, spaces.condition)


def discovery_of(config: AgentConfig, feature: int) -> nn.Module | None:
    """The map of skills, where a reward asks for it. Errors: UserError where there are no skills."""
    asked = any("discovery" in parts(name) for name in config.actor_critic.rewards)
    return make_discovery(config.discovery, feature, Skills(config.skill)) if asked else None


def detached(table: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same without gradients."""
    return {name: value.detach() for name, value in table.items()}


class Agent(nn.Module):
    """Learns from batches of the replay (`update`) and acts on images (`act`)."""

    def __init__(
        self,
        config: AgentConfig,
        spaces: Spaces,
        device: torch.device | str = "cpu",
        make_policy: Callable[[AgentConfig, RSSM, Spaces], ActorCritic] | None = None,
    ):
        """make_policy   for an actor-critic with an actor or a condition of its own; none: on skills, where there are any"""
        super().__init__()
        self.config, self.spaces, self.device = config, spaces, torch.device(device)
        self.world_model = WorldModel(config.world_model, spaces)
        self.actor_critic = (make_policy or policy_of)(config, self.world_model.rssm, spaces)
        if make_policy is None and "game" in config.actor_critic.rewards:
            raise UserError(
                "the reward 'game' is for policies of modes", "actor_critic.rewards", "choose --agent mra, or task=1"
            )
        if make_policy is None and spaces.condition != config.skill.size:
            raise ValueError(f"a condition of size {spaces.condition} for skills of size {config.skill.size}")
        self.skills = Skills(config.skill)
        self.discovery = discovery_of(config, self.world_model.rssm.feature_size)
        self.to(self.device)
        rewards, factors = list(config.actor_critic.rewards), config.actor_critic.factors
        self.rewards = make_rewards(rewards, self.world_model, self.discovery, factors)
        self.optimisers = self._make_optimisers(config.optimiser)
        self.average = WeightAverage(self, config.optimiser.average)
        records, plain = self._records(config.cuda_graphs), (self._of_model, self._of_policy)
        self._model_gradients, self._policy_gradients = map(Recorded, plain) if records else plain
        if self._compiles(config.compile, records):
            self.compile_parts(dynamic=False)

    def _compiles(self, choice: str, records: bool) -> bool:
        """Whether to compile; auto: what is recorded, where a C compiler and Python's headers are, which that needs on CUDA.

        Unrecorded, the parts cost more to call than they save.
        """
        if choice != "auto" or not records:
            return choice == "true"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler and Path(sysconfig.get_path("include"), "Python.h").exists():
            return True
        lacking, package = ("Python.h", "python3-dev") if compiler else ("C compiler", "gcc")
        warnings.warn(f"no {lacking}: the update runs uncompiled, and slower; install {package}", stacklevel=2)
        return False

    def compile_parts(self, **options) -> None:
        """Compile what an update calls; `options` of torch.compile. Acting and evaluating leave it aside, see `uncompiled`.

        Whole losses, with their loops over time unrolled, take minutes to compile and are slower then.
        """
        model, policy = self.world_model, self.actor_critic
        for part in (model.encoder, model.rssm.recurrence, policy.actor, *model.terms.values()):
            part.compile(**options)
        model.imagine = torch.compile(model.imagine, **options)
        policy.improve = torch.compile(policy.improve, **options)

    def _records(self, choice: str) -> bool:
        """Whether the gradients of an update are recorded as CUDA graphs; auto: on CUDA."""
        return self.device.type == "cuda" and choice != "false"

    def _make_optimisers(self, config: OptimiserConfig) -> dict[str, Optimiser]:
        # The decoder for pictures has its own optimiser: not even the clipping of its gradient touches the model.
        pictures = [] if self.world_model.decodes else list(self.world_model.decoder.parameters())
        held = {id(parameter) for parameter in pictures}
        model = [parameter for parameter in self.world_model.parameters() if id(parameter) not in held]
        actor = getattr(self.actor_critic.actor, "policy", self.actor_critic.actor)  # what else is in one learns elsewhere
        rows = {
            "world_model": (model, config.model_rate, config.model_clip),
            "actor": (list(actor.parameters()), config.actor_rate, config.policy_clip),
            "critic": (list(self.actor_critic.critics.parameters()), config.critic_rate, config.policy_clip),
        }
        if pictures and self.config.world_model.picture_frames:
            rows["pictures"] = (pictures, config.model_rate, config.model_clip)
        if self.discovery is not None:
            rows["discovery"] = (list(self.discovery.parameters()), self.config.discovery.rate, config.policy_clip)
        schedule = config.epsilon, config.warmup, config.decay_after
        return {name: Optimiser(name, *row, *schedule) for name, row in rows.items()}

    @property
    def draws(self) -> bool:
        """Whether there is a trained decoder to draw pictures with."""
        return self.world_model.decodes or "pictures" in self.optimisers

    def initial_state(self, number: int) -> Memory:
        """The memory of `number` environments before their first image."""
        memory = initial_memory(self.world_model, self.skills, self.spaces, number, self.device)
        return memory._replace(noise=torch.randn_like(memory.action))

    @torch.no_grad()
    def act(
        self, memory: Memory, image: Tensor, is_first: Tensor, condition: Tensor | None = None, explore: bool = True
    ) -> tuple[Tensor, Memory]:
        """Images uint8 (N, H, W, C), is_first (N,) -> actions (N, A) in [-1, 1], new memory.

        Without `explore` latent and action are the modes of their distributions: evaluation is deterministic. The skill
        is `condition` (N, C), or the memory's, drawn anew at resets and when it was held long enough.
        """
        image, is_first = image.to(self.device), is_first.to(self.device)
        skill, age = self.skills.renew(memory.condition, memory.age, is_first)
        condition = skill if condition is None else condition.to(self.device)
        state, noise = self.perceive(memory, image, is_first, explore), self.noise(memory, explore)
        action = self.choose(state, condition, noise if explore else None)
        return action, Memory(state, action, image, condition, age, noise=noise)

    def noise(self, memory: Memory, explore: bool) -> Tensor:
        """Of the next action, (N, A) in deviations of the policy; that of the last stays where it does not explore."""
        return next_noise(memory.noise, self.config.actor_critic.noise_correlation) if explore else memory.noise

    @uncompiled
    def perceive(self, memory: Memory, image: Tensor, is_first: Tensor, sample: bool) -> State:
        """The state after an image; its mode where nothing is sampled."""
        seen = image.to(self.device), memory.action, is_first.to(self.device)
        return self.world_model.filter(memory.state, memory.image, *seen, sample=sample)

    @uncompiled
    def choose(self, state: State, condition: Tensor, noise: Tensor | None = None) -> Tensor:
        """What the policy does in a state under a skill, its mean without noise: (N, ...), (N, C), (N, A) -> (N, A)."""
        policy = self.actor_critic.actor(self.actor_critic.inputs(state, condition))
        return (policy.mean if noise is None else policy.mean + policy.std * noise).clamp(-1, 1)

    def update(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of everything on a batch (B, T, ...); metrics as detached tensors.

        Errors: Divergence when a loss or a gradient is not finite; the weights of that module are then untouched.
        """
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        state, metrics = self.learn_model(batch)
        metrics |= self._discover(state, batch)
        seen = (state, batch["reward"], batch["is_first"]) if self.config.actor_critic.replay_value else None
        metrics |= self.learn_policy(*self._starts(state, batch["is_first"]), replayed=seen)
        self.average.follow()
        return detached(metrics)

    def learn_model(self, batch: dict[str, Tensor]) -> tuple[State, dict[str, Tensor]]:
        """One step of the world model on a batch on the device: its states (B, T, ...), metrics.

        On CUDA the next call may write over the states.
        """
        losses, found, state, values, metrics = self._model_gradients(batch)
        norms = step(self.optimisers, losses, found)
        self.world_model.dual_step(values)
        metrics = {f"model/{key}": value for key, value in metrics.items()}
        return state, metrics | {f"gradient/{key}": value for key, value in norms.items()}

    def _of_model(self, batch: dict[str, Tensor]) -> tuple[dict, dict, State, dict, dict]:
        """Losses of the world model and their gradients; states, values of the terms, metrics."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            losses, states, values, metrics = self.world_model.loss(batch)
        found = gradients(self.optimisers, losses)
        return detached(losses), found, states.state.detach(), detached(values), detached(metrics)

    def judge(
        self, start: State, condition: Tensor | None, weight: Tensor | None = None, member: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses of actor and critics on roll-outs from start (N, ...), and metrics; see ActorCritic.loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.actor_critic.loss(self.world_model, start, self.rewards, condition, weight, member)

    def learn_policy(
        self,
        start: State,
        condition: Tensor | None,
        member: Tensor | None = None,
        replayed: tuple[State, Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """One step of actor and critics from start (N, ...) under condition (N, C), in games (N, M): metrics.

        replayed   states (B, T, ...), rewards and is_first (B, T) that the task's critic learns from as well
        """
        losses, found, metrics = self._policy_gradients(start, condition, member, replayed)
        norms = step(self.optimisers, losses, found)
        self.actor_critic.follow()
        metrics = {f"policy/{key}": value for key, value in (metrics | losses).items()}
        return metrics | {f"gradient/{key}": value for key, value in norms.items()}

    def _of_policy(
        self,
        start: State,
        condition: Tensor | None,
        member: Tensor | None,
        replayed: tuple[State, Tensor, Tensor] | None = None,
    ) -> tuple[dict, dict, dict]:
        """Losses of actor and critics and their gradients; metrics."""
        losses, metrics = self.judge(start, condition, member=member)
        if replayed is not None:
            known = known_rows(replayed[2], self.config.world_model.context)
            loss, metrics["task/over_replay"] = self.actor_critic.replayed(*replayed, known)
            losses["critic"] = losses["critic"] + self.config.actor_critic.replay_value * loss
        return detached(losses), gradients(self.optimisers, losses), detached(metrics)

    def _discover(self, state: State, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of the map that discovery rewards by; metrics. Steps that start an episode are none of anyone's."""
        if self.discovery is None:
            return {}
        feature, skill = state.detach().feature.float(), batch["condition"][:, 1:]  # (B, T, F), (B, T-1, C)
        moved = ~batch["is_first"][:, 1:]
        loss, metrics = self.discovery.loss(feature[:, :-1][moved], feature[:, 1:][moved], skill[moved])
        norm = descend(self.optimisers, {"discovery": loss})["discovery"]
        return {f"discovery/{key}": value for key, value in (metrics | {"gradient": norm}).items()}

    def _starts(self, state: State, is_first: Tensor | None = None) -> tuple[State, Tensor | None]:
        """Where imagination begins: a random subset of the batch's states (N, ...), each with a skill of its own.

        The skill is drawn anew, not the one that led there: where it led to its end it has nothing more to teach.
        """
        context = self.config.world_model.context
        known = known_rows(is_first, context) if context and is_first is not None else None
        start = some_of(state, self.config.actor_critic.starts, known)
        return start, self.skills.draw(len(start.deterministic), self.device) if self.spaces.condition else None

    @uncompiled
    @torch.no_grad()
    def pictures(self, batch: dict[str, Tensor]) -> Tensor:
        """What the latent keeps of each image: batch (B, T, ...) -> uint8 (B, T, H, W, C)."""
        model = self.world_model
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        _, states = model.observe(batch["image"], batch["action"], batch["is_first"])
        return model.picture(states.state.feature)

    def parameters_by_module(self) -> dict[str, int]:
        """Number of trainable parameters of each part."""
        parts = dict(self.world_model.named_children()) | {"actor": self.actor_critic.actor}
        parts = {k: m for k, m in parts.items() if k not in ("terms", "rule")} | dict(self.world_model.terms.items())
        parts |= {f"critic ({name})": critic for name, critic in self.actor_critic.critics.items()}
        parts |= {"discovery": self.discovery} if self.discovery is not None else {}
        return {k: sum(p.numel() for p in m.parameters() if p.requires_grad) for k, m in parts.items()}

    def training_state(self) -> dict:
        """Everything that learning changes, as plain types and tensors."""
        return training_state(self, self.optimisers) | self.average.state()

    def load_training_state(self, state: dict, optimisers: bool = True) -> None:
        """Take over what `training_state` gave; without optimisers, the averaged weights, for evaluation."""
        load_training_state(self, self.optimisers if optimisers else {}, state)
        self.average.load(state)
        if not optimisers:
            self.average.apply()
