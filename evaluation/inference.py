"""Inference of the game from its rewards, without gradients: a baseline of adaptation.

The agent is not told the game. It holds a posterior over the games of the family. Each reward
updates it by Bayes' rule, with the likelihood of the world model's head. The policy acts as in the
most likely game. PEARL (arXiv 1903.08254) learns such an inference; here the head is it.

Shapes: N environments, G games, D descriptor, E episodes.
"""

from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
import torch
from torch import Tensor

from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Held
from foreground.agents.memory import Memory
from foreground.envs.families import Game
from foreground.evaluation.driver import Callback, Driver, Moment, Returns, memory_of
from foreground.evaluation.skills import in_waves
from foreground.world_models.rssm import State

TIES = 1e-3  # nats by which the prior differs at random, so that no game is preferred


def answers(agent: WorldModelAgent) -> bool:
    """Return whether the policy can act on what is inferred: it has modes, or sees its game."""
    return agent.config.modes.num_modes > 1 or agent.config.modes.sees_game


class Inference(Callback):
    """The posterior of each environment, and the policy that acts on it.

    games   (G, D), descriptors of the candidates
    steps   how often each candidate was the most likely one, (N, G)
    """

    def __init__(self, agent: WorldModelAgent, games: Tensor, seeds: Sequence[int]):
        self.agent = agent
        self.games = games
        drawn = [np.random.default_rng(seed).uniform(size=len(games)) for seed in seeds]
        self.log_posterior = TIES * torch.tensor(np.stack(drawn), device=games.device)  # (N, G)
        self.steps = torch.zeros_like(self.log_posterior)
        self.begun = False

    def act(self, memory: Memory, image: Tensor, is_first: Tensor) -> tuple[Tensor, Memory]:
        """Act as in the most likely game, whatever the environment says of it."""
        likeliest = self.log_posterior.argmax(-1)
        self.steps[torch.arange(len(likeliest)), likeliest] += 1
        memory = memory._replace(game=self.games[likeliest])
        return self.agent.act(memory, image, is_first, explore=False, commander=self)

    def __call__(
        self, memory: Memory, see: Callable[[], State], is_first: Tensor, explore: bool
    ) -> Held:
        return Held(self.agent.modes.likeliest(memory.game), memory.age + 1)

    def on_action(self, moment: Moment) -> None:
        """Take in the reward that came with the image; none came with the first."""
        if self.begun:
            reward = torch.as_tensor(moment.reward, dtype=torch.float32, device=self.games.device)
            feature = moment.memory.state.feature
            term = self.agent.world_model.terms["games"]
            for index, game in enumerate(self.games):
                seen = game.expand(len(feature), -1)
                self.log_posterior[:, index] += term.log_prob(feature, seen, reward)
        self.begun = True


def play(
    agent: WorldModelAgent,
    make_env: Callable[[], gymnasium.Env],
    games: Sequence[Game],
    seeds: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the return of a whole episode from each seed (E,), and the share of its steps at which
    each candidate was the most likely (E, G).
    """
    descriptors = torch.tensor([game.descriptor for game in games], device=agent.device)

    def wave(envs: list[gymnasium.Env], rows: slice) -> tuple[np.ndarray, np.ndarray]:
        returns = Returns(len(envs))
        inference = Inference(agent, descriptors, seeds[rows])
        Driver(envs, inference.act, memory_of(agent, len(envs)), [returns, inference]).run(
            seeds[rows]
        )
        shares = inference.steps / inference.steps.sum(-1, keepdim=True)
        return returns.total, shares.cpu().numpy()

    totals, shares = zip(*in_waves(make_env, len(seeds), wave))
    return np.concatenate(totals), np.concatenate(shares)
