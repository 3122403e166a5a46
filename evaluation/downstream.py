"""The value of skills on tasks: the return of the best one, and of planning over sequences of them.

No policy is learned here. Returns are divided by those of URLB's experts (arXiv 2110.15191) where
there is one, otherwise by the largest possible return, 1 per frame.

Shapes: N environments, C skill, F features, J sequences, D skills of a sequence.
"""

from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import Held
from foreground.agents.commanders import Fixed, due, resampled
from foreground.agents.memory import Memory
from foreground.evaluation import progress
from foreground.evaluation.driver import Driver, Features, Returns, memory_of, policy_of
from foreground.evaluation.episodes import play
from foreground.evaluation.skills import in_waves
from foreground.training import system
from foreground.world_models.rssm import State

# Mean returns of the experts over 1000 frames, by the authors of URLB: rll-research/url_benchmark,
# issue 1. Their other tasks are not in dm_control's suite.
EXPERTS = {
    "walker-stand": 984,
    "walker-walk": 971,
    "walker-run": 796,
    "quadruped-walk": 866,
    "quadruped-run": 888,
}
Reward = Callable[[torch.Tensor], torch.Tensor]  # features (N, F) -> expected reward (N,)


def normalised(task: str, score: float, frames: int) -> float:
    """Return a return as a share of the expert's, for episodes of `frames`."""
    return score / (EXPERTS.get(task, 1000) * frames / 1000)


def best_skill(
    agent: WorldModelAgent,
    make_env: Callable[[], gymnasium.Env],
    number: int,
    episodes: int,
    seed: int,
) -> tuple[int, float, float]:
    """Return the best of `number` skills, its mean return on other `episodes`, and the mean return
    of all.

    Each skill is tried from `episodes` starts.
    """
    skills = agent.skills.grid(number).to(agent.device)
    starts = [seed + index for index in range(episodes)]
    scores = episodes_under(
        agent, make_env, skills.repeat_interleave(episodes, 0), starts * number
    ).reshape(number, episodes)
    best = int(np.argmax(scores.mean(1)))
    fresh = episodes_under(
        agent, make_env, skills[best].expand(episodes, -1), [start + episodes for start in starts]
    )
    return best, float(np.mean(fresh)), float(np.mean(scores))


def episodes_under(
    agent: WorldModelAgent, make_env: Callable, skills: torch.Tensor, seeds: list[int]
) -> np.ndarray:
    """Return of a whole episode under each skill (N, C), from each seed: (N,)."""
    return np.concatenate(
        in_waves(
            make_env,
            len(seeds),
            lambda envs, rows: _returns(agent, envs, skills[rows], seeds[rows]),
        )
    )


def _returns(
    agent: WorldModelAgent, envs: list[gymnasium.Env], skills: torch.Tensor, seeds: list[int]
) -> np.ndarray:
    returns = Returns(len(envs))
    Driver(envs, policy_of(agent, Fixed(skills)), memory_of(agent, len(envs)), [returns]).run(seeds)
    return returns.total


def fit_reward(
    agent: WorldModelAgent, make_env: Callable[[], gymnasium.Env], episodes: int, seed: int
) -> Reward:
    """Return a reward head on the frozen latent, fitted on `episodes` with skills from the prior,
    for planning.
    """
    seen, env = Features(), make_env()
    try:
        with system.random_kept(agent.device):
            torch.manual_seed(seed)
            for episode in range(episodes):
                Driver([env], policy_of(agent), memory_of(agent, 1), [seen]).run([seed + episode])
                progress.advance()
    finally:
        env.close()
    features, rewards = torch.cat(seen.latents).cpu().numpy(), np.concatenate(seen.rewards)
    network = MLPRegressor(
        hidden_layer_sizes=(128,), batch_size=64, early_stopping=True, max_iter=100, random_state=0
    )
    head = make_pipeline(StandardScaler(), network).fit(features, rewards)
    return lambda feature: torch.as_tensor(
        head.predict(feature.float().cpu().numpy()), dtype=torch.float32
    )


class Planner:
    """A commander that imagines `sequences` of `depth` skills of `hold` steps each, and takes the
    first skill of the best.

    It plans anew every `hold` steps. Source: SLIM, arXiv 2402.00823.
    """

    def __init__(
        self,
        agent: WorldModelAgent,
        reward: Reward,
        hold: int = 25,
        sequences: int = 64,
        depth: int = 3,
        discount: float = 0.99,
    ):
        self.agent, self.reward, self.hold = agent, reward, hold
        self.sequences, self.depth, self.discount = sequences, depth, discount

    def __call__(
        self, memory: Memory, see: Callable[[], State], is_first: torch.Tensor, explore: bool
    ) -> Held:
        where = due(memory, is_first, self.hold)
        return resampled(memory, where, self.plan(see()) if where.any() else memory.condition)

    @torch.no_grad()
    def plan(self, start: State) -> torch.Tensor:
        """Return the first skill of the best sequence from each state: (N, ...) -> (N, C)."""
        number = len(start.deterministic)
        state = start.map(lambda x: x.repeat_interleave(self.sequences, 0))  # (N J, ...)
        draw = self.agent.skills.draw
        # (D, N J, C)
        skills = torch.stack(
            [draw(number * self.sequences, self.agent.device) for _ in range(self.depth)]
        )
        total = torch.zeros(number * self.sequences, device=self.agent.device)
        for step in range(self.depth * self.hold):
            action = self.agent.select_action(state, skills[step // self.hold])
            state = self.agent.world_model.imagine(state, action)
            total += self.discount**step * self.reward(state.feature).to(total.device)
        best = total.view(number, self.sequences).argmax(1)
        return skills[0].view(number, self.sequences, -1)[
            torch.arange(number, device=best.device), best
        ]


def planned(
    agent: WorldModelAgent,
    make_env: Callable[[], gymnasium.Env],
    reward: Reward,
    episodes: int,
    seed: int,
    **options,
):
    """Return the scores of whole episodes under a Planner."""
    act = policy_of(agent, Planner(agent, reward, **options))
    with system.random_kept(agent.device), torch.no_grad():
        torch.manual_seed(seed)
        return play(
            make_env, lambda envs: (act, agent.initial_state(envs.num_envs)), episodes, seed
        )
