"""The agent: a world model, a commander and learners. `base.py` has its interface.

Methods differ in their configuration only: a preset names the commander and the learners.
Shapes: B batch, T time, N environments or starts, A action, C condition, F features.
"""

import functools
import shutil
import sysconfig
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from foreground.agents import registry
from foreground.agents.actor_critic import ActorCritic
from foreground.agents.average import WeightAverage
from foreground.agents.base import (
    AgentSpec,
    Batch,
    Commander,
    Learner,
    Metrics,
    OwnCommander,
    Step,
    to_device,
)
from foreground.agents.config import AgentConfig
from foreground.agents.cuda_graphs import Recorded, uncompiled
from foreground.agents.learners import detached
from foreground.agents.memory import Memory, next_noise
from foreground.agents.optimiser import Optimiser, load_training_state, training_state
from foreground.agents.skills import Skills
from foreground.world_models.rssm import State
from foreground.world_models.world_model import Spaces, WorldModel


class WorldModelAgent(nn.Module):
    """Learns from batches of the replay (`update`) and acts on images (`act`)."""

    def __init__(self, config: AgentConfig, spaces: Spaces, device: torch.device | str = "cpu"):
        super().__init__()
        kind = registry.commanders()[config.commander]
        kind.check(config, spaces)
        self.config = config
        self.spaces = spaces
        self.device = torch.device(device)
        self.skills = Skills(config.skill)
        self.world_model = WorldModel(config.world_model, spaces)
        # Modules of the learners and commanders that have them.
        self.discovery = self.modes = None
        self.commander: OwnCommander = kind(config, spaces, self.world_model)
        self._add(self.commander.modules)
        self.learners: dict[str, Learner] = {}
        for name in config.learners:
            self.learners[name] = registry.learners()[name](self)
            self._add(self.learners[name].modules)
        self.to(self.device)
        self._begin()

    def _add(self, modules: dict[str, nn.Module]) -> None:
        for name, module in modules.items():
            setattr(self, name, module)

    def _begin(self) -> None:
        """Make what needs the weights on their device: optimisers, average, compiled parts."""
        records = self.device.type == "cuda" and self.config.cuda_graphs != "false"
        # Parts that wait for the host say so: `recordable = False`.
        records = records and all(
            getattr(part, "recordable", True) for part in self.world_model.modules()
        )
        self.optimisers: dict[str, Optimiser] = {}
        for learner in self.learners.values():
            learner.begin(records)
            self.optimisers |= learner.optimisers
        records_acting = records and self.config.cuda_graphs == "act" and self.commander.recordable
        self.explore = Recorded(self._explore, copies=True) if records_acting else self._explore
        self.average = WeightAverage(self, self.config.optimiser.ema_decay)
        if self._compiles(self.config.compile, records):
            self.compile_parts(dynamic=False)

    def _compiles(self, choice: str, records: bool) -> bool:
        """Return whether to compile.

        auto: where CUDA graphs are recorded, and there are a C compiler and Python's headers.
        Without CUDA graphs the calls cost more than compiling saves.
        """
        if choice != "auto" or not records:
            return choice == "true"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler and Path(sysconfig.get_path("include"), "Python.h").exists():
            return True
        missing, package = ("Python.h", "python3-dev") if compiler else ("C compiler", "gcc")
        warnings.warn(
            f"no {missing}: the update runs uncompiled, and slower; install {package}", stacklevel=2
        )
        return False

    def compile_parts(self, **options) -> None:
        """Compile the parts of an update, with `options` of torch.compile.

        Acting and evaluation run uncompiled, see `uncompiled`. Whole losses, with their loops over
        time unrolled, take minutes to compile and are slower.
        """
        for learner in self.learners.values():
            learner.compile_parts(**options)

    @property
    def spec(self) -> AgentSpec:
        """The fields that the agent stores, and whether it renders and explores."""
        layout = (
            {"condition": ((self.spaces.condition,), np.float32)} if self.spaces.condition else {}
        )
        renders = any(learner.renders for learner in self.learners.values())
        return AgentSpec(layout, renders, self.commander.explores, self.world_model.rule.validates)

    @property
    def actor(self) -> nn.Module:
        """The policy that acts under a condition."""
        return self.commander.actor

    # ------------------------------------------------------------------------------------ acting

    def initial_state(self, number: int) -> Memory:
        """Return the memory of `number` environments before their first image."""
        side, size = self.spaces.image_size, (number, self.spaces.action)
        held = self.commander.initial(number, self.device)
        return Memory(
            state=self.world_model.initial(number, self.device),
            action=torch.zeros(size, device=self.device),
            image=torch.zeros(number, side, side, 3, dtype=torch.uint8, device=self.device),
            age=torch.zeros(number, dtype=torch.long, device=self.device),
            noise=torch.randn(size, device=self.device) if self.commander.explores else None,
            proprioception=self.world_model.no_proprioception(number, self.device),
            **held,
        )

    @torch.no_grad()
    def act(
        self,
        memory: Memory,
        image: Tensor,
        is_first: Tensor,
        explore: bool = True,
        commander: Commander | None = None,
    ) -> tuple[Tensor, Memory]:
        """Return actions (N, A) in [-1, 1] and the new memory.

        image      uint8 (N, H, W, C)
        is_first   bool (N,)
        explore    without it latent, condition and action are the modes of their distributions,
                   so that evaluation is deterministic
        commander  replaces the agent's own
        """
        # A copy: memory keeps the image, and an environment may write the next one to the same
        # array.
        image = image.to(self.device, copy=True)
        is_first = is_first.to(self.device)
        if explore and commander is None:
            return self.explore(memory, image, is_first)
        return self._act(memory, image, is_first, explore, commander or self.commander)

    def _explore(self, memory: Memory, image: Tensor, is_first: Tensor) -> tuple[Tensor, Memory]:
        """Act as in training; with `--cuda_graphs act` it is recorded as a CUDA graph."""
        return self._act(memory, image, is_first, True, self.commander)

    def _act(
        self, memory: Memory, image: Tensor, is_first: Tensor, explore: bool, commander: Commander
    ) -> tuple[Tensor, Memory]:
        """Return the action and the new memory, for tensors on the agent's device."""
        # Lazy, so that a prior draws random numbers before the world model does.
        see = functools.cache(lambda: self.observe_step(memory, image, is_first, explore))
        held = commander(memory, see, is_first, explore)
        state = see()
        noise = self.noise(memory, explore)
        condition = (
            held.condition if memory.game is None else torch.cat([held.condition, memory.game], -1)
        )
        action = self.select_action(state, condition, noise if explore else None)
        kept = memory.game, noise, memory.proprioception
        return action, Memory(state, action, image, held.condition, held.age, *kept)

    def noise(self, memory: Memory, explore: bool) -> Tensor | None:
        """Return the noise (N, A) of the next action, in standard deviations of the policy.

        Without `explore` it is the noise of the last action.
        """
        if memory.noise is None or not explore:
            return memory.noise
        return next_noise(memory.noise, self.config.actor_critic.noise_correlation)

    @uncompiled
    def observe_step(self, memory: Memory, image: Tensor, is_first: Tensor, sample: bool) -> State:
        """Return the state after an image; without `sample` its mode."""
        seen = image.to(self.device), memory.action, is_first.to(self.device)
        return self.world_model.filter(
            memory.state, memory.image, *seen, sample=sample, proprioception=memory.proprioception
        )

    @uncompiled
    def select_action(self, state: State, condition: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the action (N, A) in states (N, ...) under conditions (N, C).

        noise   (N, A), in standard deviations of the policy; none: the mean
        """
        policy = self.actor(ActorCritic.inputs(state, condition))
        return (policy.mean if noise is None else policy.mean + policy.std * noise).clamp(-1, 1)

    # ---------------------------------------------------------------------------------- learning

    def update(self, batch: Batch) -> Metrics:
        """Take one step of every learner on a batch (B, T, ...); return detached metrics.

        Raises: Divergence when a loss or a gradient is not finite. The weights of that module are
        then unchanged.
        """
        step = Step(to_device(batch, self.device))
        metrics: Metrics = {}
        for learner in self.learners.values():
            metrics |= learner(step)
        self.average.update()
        return detached(metrics)

    @uncompiled
    def validate(self, episode: Batch | None) -> Metrics:
        """Evaluate an episode (1, T, ...) that no update has seen, for the world model's rule.

        None: another rank has one, and this one has not.
        """
        metrics = self.world_model.validate(episode and to_device(episode, self.device))
        return {f"model/{name}": value for name, value in metrics.items()}

    @uncompiled
    @torch.no_grad()
    def render(self, batch: Batch) -> Tensor:
        """Return images decoded from the latent: batch (B, T, ...) -> uint8 (B, T, H, W, C)."""
        _, states = self.world_model.observe(to_device(batch, self.device))
        return self.world_model.decode(states.state.feature)

    def parameters_by_module(self) -> dict[str, int]:
        """Return the number of parameters of each part; parts that nothing trains are marked as
        frozen.
        """
        parts = {k: m for k, m in self.world_model.named_children() if k not in ("terms", "rule")}
        parts |= dict(self.world_model.terms.items())
        own = {k: m for k, m in self.named_children() if k not in ("world_model", "actor_critic")}
        parts |= {"actor": self.actor_critic.actor} | own
        parts |= {f"critic ({name})": critic for name, critic in self.actor_critic.critics.items()}
        trained = {id(p) for optimiser in self.optimisers.values() for p in optimiser.parameters}
        counts = {}
        for name, part in parts.items():
            parameters = [p for p in part.parameters() if p.requires_grad]
            learns = not parameters or any(id(p) in trained for p in parameters)
            counts[name if learns else f"{name} (frozen)"] = sum(p.numel() for p in parameters)
        return counts

    def training_state(self) -> dict:
        """Return everything that learning changes, as plain types and tensors."""
        return training_state(self, self.optimisers) | self.average.state()

    def load_training_state(self, state: dict, optimisers: bool = True) -> None:
        """Load a `training_state`; without optimisers its averaged weights."""
        load_training_state(self, self.optimisers if optimisers else {}, state)
        self.average.load(state)
        if not optimisers:
            self.average.apply()
