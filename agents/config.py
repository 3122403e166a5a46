"""All options of an agent: what its parts are made from, and which of them there are."""

from dataclasses import dataclass

from agents.actor_critic import ActorCriticConfig
from agents.discovery import DiscoveryConfig
from agents.skills import SkillConfig
from option import option
from world_models.world_model import WorldModelConfig


@dataclass(frozen=True)
class OptimiserConfig:
    model_rate: float = option(1e-3, "Learning rate of the world model.", gt=0.0)
    actor_rate: float = option(3e-4, "Learning rate of the actor.", gt=0.0)
    critic_rate: float = option(3e-4, "Learning rate of the critics.", gt=0.0)
    model_clip: float = option(100.0, "Largest gradient norm of the world model.", gt=0.0)
    policy_clip: float = option(100.0, "Largest gradient norm of actor and critics.", gt=0.0)
    warmup: int = option(
        200, "Updates over which the rates rise from zero; without them a posterior can collapse for good.", ge=0
    )
    epsilon: float = option(1e-8, "Epsilon of Adam.", gt=0.0)


@dataclass(frozen=True)
class HierarchyConfig:
    hold: int = option(0, "Agent steps for which a high-level policy holds a skill of --skills; 0: no hierarchy.", ge=0)
    units: int = option(256, "Units of the skill policy, as in its run.", ge=8)
    layers: int = option(2, "Layers of the skill policy, as in its run.", ge=1)


@dataclass(frozen=True)
class AgentConfig:
    world_model: WorldModelConfig = option(WorldModelConfig, "World model")
    actor_critic: ActorCriticConfig = option(ActorCriticConfig, "Actor and critics")
    optimiser: OptimiserConfig = option(OptimiserConfig, "Optimisers")
    skill: SkillConfig = option(SkillConfig, "Skills")
    discovery: DiscoveryConfig = option(DiscoveryConfig, "Discovery of skills")
    hierarchy: HierarchyConfig = option(HierarchyConfig, "High-level policy over the skills of another run")
    compile: str = option("auto", "Compile the two steps of an update; auto: on CUDA.", choices=("auto", "true", "false"))
