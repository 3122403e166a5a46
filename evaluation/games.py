"""What a latent policy does in each game of its family: a return for each mode, and adaptation to a
game.

Shapes: E episodes, K modes, N states, D descriptor.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from foreground.agents import adaptation
from foreground.agents.adaptation import Adaptation, Batch
from foreground.agents.agent import WorldModelAgent
from foreground.agents.base import to_device
from foreground.envs.families import Game
from foreground.envs.workers import in_process
from foreground.evaluation import inference, progress, verdicts
from foreground.evaluation.aggregate import stratified_interval
from foreground.evaluation.downstream import episodes_under
from foreground.training.replay import Replay
from foreground.training.rollout import Rollout, layout_of

MakeEnv = Callable[[], gymnasium.Env]


def interval_of(returns: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of the mean over episodes (E,); None for few episodes."""
    if len(returns) < verdicts.EPISODES:
        return None
    return stratified_interval([returns], np.mean)


def modes_in(
    agent: WorldModelAgent,
    make_env: MakeEnv,
    game: Game,
    episodes: int,
    seed: int,
    candidates: Sequence[Game] = (),
) -> dict:
    """Return the returns of every mode in a game, the choice of p(z given game) and the best mode.

    p(z given game) chooses from the descriptor alone, without a frame. "best_of" is the return of
    the best mode on `episodes` other than those that chose it; "tried" is how many episodes that
    choice took, none where there is one mode. "regret" is the share of "best_of" by which
    p(z given game) falls short. It compares modes of this agent only, not other policies. "infer"
    is the return of a policy that infers the game among `candidates` from its rewards
    (inference.py), "infer_right" the share of steps at which it acts on the right one. Each return
    has an interval over episodes.
    """
    number = agent.config.modes.num_modes
    starts = [seed + index for index in range(episodes)]
    fresh = [start + episodes for start in starts]
    every = torch.eye(number, device=agent.device)
    descriptor = torch.tensor([game.descriptor], device=agent.device)
    with torch.no_grad():
        probability = agent.modes(descriptor)[0].exp().cpu().numpy()
    returns = episodes_under(
        agent, make_env, every.repeat_interleave(episodes, 0), starts * number
    ).reshape(number, episodes)
    best = int(returns.mean(1).argmax())
    likeliest = int(probability.argmax())
    tried = {
        mode: episodes_under(agent, make_env, every[mode].expand(episodes, -1), fresh)
        for mode in {best, likeliest}
    }
    zero_shot = float(tried[likeliest].mean())
    best_of = float(tried[best].mean())
    row = {f"mode_{mode}": float(row.mean()) for mode, row in enumerate(returns)}
    row |= {f"probability_{mode}": float(share) for mode, share in enumerate(probability)}
    row |= {
        "zero_shot": zero_shot,
        "best_of": best_of,
        "regret": (best_of - zero_shot) / max(abs(best_of), 1e-6),
    }
    row |= {
        "zero_shot_interval": interval_of(tried[likeliest]),
        "best_of_interval": interval_of(tried[best]),
    }
    if candidates and inference.answers(agent):
        with torch.no_grad():
            found, shares = inference.play(agent, make_env, candidates, fresh)
        row |= {
            "infer": float(found.mean()),
            "infer_interval": interval_of(found),
            "infer_right": float(shares[:, list(candidates).index(game)].mean()),
        }
    return row | {"likeliest": likeliest, "best": best, "tried": (number > 1) * number * episodes}


def information(agent: WorldModelAgent, batch: Batch) -> dict[str, float]:
    """Return I(relation; action given state) and the bound of I(game; relation), in nats, and their
    upper bounds.

    batch   equally many sequences of each training game, (B, T, ...)
    """
    with torch.no_grad():
        _, states = agent.world_model.observe(to_device(batch, agent.device))
        feature = states.state.feature.flatten(0, 1)
        action, game = agent.modes.information(
            agent.actor, feature, batch["game"].to(agent.device).flatten(0, 1)
        )
    caps = {
        "action_cap": np.log(agent.config.modes.num_modes),
        "game_cap": np.log(len(agent.modes.games)),
    }
    return {"action": float(action.mean()), "game": float(game.mean())} | {
        key: float(value) for key, value in caps.items()
    }


def gather(agent: WorldModelAgent, make_env: MakeEnv, steps: int, seed: int) -> Replay:
    """Take agent steps of a game, with modes drawn as in training."""
    envs = SyncVectorEnv([partial(in_process, make_env)], autoreset_mode=AutoresetMode.NEXT_STEP)
    try:
        layout = layout_of(envs) | agent.spec.layout
        layout.pop("signals", None)  # rewards of the games of training: not of this one
        rollout = Rollout(envs, agent.initial_state(1), seed, layout)
        replay = Replay(layout, 2 * steps + 2, seed=seed)
        taken = 0
        while taken < steps:
            replay.add(rollout.step(agent.act))
            taken += rollout.agent_steps
    finally:
        envs.close()
    return replay


def batches_of(replay: Replay, size: int, length: int) -> Iterator[Batch]:
    """Yield batches without end."""
    return (replay.sample(size, length) for _ in itertools.count())


def curve(
    adapting: Adaptation,
    make_env: MakeEnv,
    game: Game,
    batches: Iterator[Batch],
    steps: tuple[int, ...],
    episodes: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Return the returns (E,) of the likeliest mode after so many steps: {"0": ..., "1": ...}; the
    agent is left as it ends up.
    """
    agent = adapting.agent
    row = {}
    taken = 0
    descriptor = torch.tensor(game.descriptor, device=agent.device)
    for number in sorted(set(steps)):
        for _ in range(number - taken):
            progress.tick()
            adapting.step(next(batches), descriptor)
        taken = number
        with torch.no_grad():
            mode = agent.modes.likeliest(descriptor[None])
        seeds = [seed + index for index in range(episodes)]
        row[str(number)] = episodes_under(agent, make_env, mode.expand(episodes, -1), seeds)
    return row


def begin(
    adapting: Adaptation, kind: str, batches: Iterator[Batch], rounds: int, steps: int, rate: float
) -> None:
    """Move the agent to where adaptation is to begin, on the games of training, by one of
    adaptation.META.
    """
    adaptation.META[kind](adapting, batches, adapting.agent.modes.games, rounds, steps, rate)
    adapting.restart()
