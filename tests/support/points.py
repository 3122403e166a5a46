"""Make a one-dimensional world for tests of the actor-critic: the coordinate becomes the action."""

import torch
from torch import nn

from foreground.agents.actor_critic import ActorCritic, ActorCriticConfig
from foreground.agents.policy import Policy
from foreground.world_models.rssm import State

CONFIG = ActorCriticConfig(rewards={"task": 1.0}, units=32, layers=1, horizon=4)


class Point(nn.Module):
    """A world in which the first coordinate becomes the action and the second is noise."""

    continuation = None

    def imagine(self, state: State, action: torch.Tensor) -> State:
        return State(action, torch.randn_like(state.stochastic))


def start(number=64) -> State:
    return State(torch.zeros(number, 1), torch.randn(number, 1))


def towards(target: float):
    return lambda imagined: 1 - (imagined.following.deterministic[..., 0] - target).square()


def make(seed=0, **fields) -> ActorCritic:
    torch.manual_seed(seed)
    return ActorCritic(ActorCriticConfig(**(vars(CONFIG) | fields)), feature=2, action=1)


def learn(agent: ActorCritic, rewards: dict, updates=300, rows: list | None = None) -> Policy:
    """Train on the toy; the metrics of every update are appended to `rows`."""
    actor = torch.optim.Adam(agent.actor.parameters(), 2e-3)
    critic = torch.optim.Adam(agent.critics.parameters(), 6e-3)
    for _ in range(updates):
        losses, metrics = agent.loss(Point(), start(256), rewards)
        for optimiser, name in ((actor, "actor"), (critic, "critic")):
            optimiser.zero_grad()
            losses[name].backward()
            optimiser.step()
        agent.update_target()
        if rows is not None:
            rows.append({key: value.item() for key, value in metrics.items()})
    with torch.no_grad():
        return agent.actor(start().feature)


def constant(imagined) -> torch.Tensor:
    return torch.ones_like(imagined.log_prob)


def scaled(function, factor: float):
    return lambda imagined: factor * function(imagined)
