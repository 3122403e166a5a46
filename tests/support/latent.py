"""Make a small latent policy and batches for tests: the real classes, few units."""

import torch

from foreground.agents.actor_critic import ActorCriticConfig
from foreground.agents.agent import WorldModelAgent
from foreground.agents.config import AgentConfig, ModesConfig, OptimiserConfig
from foreground.world_models.world_model import Spaces
from tests.support.small import make_batch, world_config

GAMES = ((-1.0,), (0.0,), (1.0,))
MODAL = {"commander": "mode_prior", "learners": ("model", "imagination", "modes")}
TERMS = {"contrastive": 1.0, "predictability": 1.0, "games": 1.0}


def make_agent(modes=3, seed=0, shared=True, gradient="dynamics", **fields) -> WorldModelAgent:
    torch.manual_seed(seed)
    policy = ActorCriticConfig(
        rewards={"game": 1.0},
        units=32,
        layers=1,
        horizon=4,
        imag_starts=16,
        actor_grad=gradient,
        target_update_every=fields.get("update_every", 3),
    )
    world = world_config(TERMS, ("predictability", "games"))
    modal = ModesConfig(num_modes=modes, units=8, **{"update_every": 3} | fields)
    config = AgentConfig(world, policy, OptimiserConfig(warmup=0), modes=modal, **MODAL)
    return WorldModelAgent(config, Spaces(32, 2, modes, ("a", "b", "c") if shared else (), GAMES))


def batch_of(agent: WorldModelAgent, seed=0):
    spaces = agent.spaces
    return make_batch(
        seed=seed, condition=spaces.condition, signals=len(spaces.signals), games=spaces.games
    )


def states(agent: WorldModelAgent, number=6):
    torch.manual_seed(1)
    return torch.randn(number, agent.world_model.rssm.feature_size)


def inputs(agent, feature, mode: int, game: float = 0.0):
    one = agent.modes.one_hot(torch.full((len(feature),), mode))
    return torch.cat([feature, one, torch.full((len(feature), 1), game)], -1)


def changed(agent, update) -> set[str]:
    before = {name: value.clone() for name, value in agent.named_parameters()}
    update()
    return {
        name for name, value in agent.named_parameters() if not torch.equal(before[name], value)
    }


def parts_of(names: set[str]) -> set[str]:
    known = (
        "actor.relation",
        "actor.policy",
        "critics",
        "world_model",
        "modes.choice",
        "classifier",
    )
    return {part for part in known for name in names if part in name}
