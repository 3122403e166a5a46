"""MRA's own first game: `collect_treasure` of mpe2, with any number of collectors, as rows of one size.

Every agent is a row: what it is, and the others and treasures as slots, absent ones zero. The agents of all copies and games
stand side by side, so that one policy acts for them. mpe2 is optional: ``pip install -r requirements-games.txt``.

Shapes: N rows (agents), O numbers of its own, S slots, E numbers of a slot, F = O + S E, A action.
"""

import importlib.util

import numpy as np

from envs.families import Game
from errors import UserError

DEPOSITS, TREASURES, TYPES, MOST = 2, 6, 2, 12  # MOST collectors that there are slots for
OWN = 4 + TYPES + 1 + TYPES  # position, velocity, what it holds, whether it collects, what it takes in
SLOT = 2 + 2 + 2 + 2 * TYPES + TYPES  # there, an agent; relative position; velocity; takes in, holds; type of a treasure
SLOTS = MOST + DEPOSITS - 1 + TREASURES
FEATURE, ACTION, STEPS = OWN + SLOTS * SLOT, 2, 25


def game_of(collectors: int) -> Game:
    """The game with so many collectors; its descriptor is the logarithm of the number, 0 for 3 and 1 for 12.

    Errors: UserError for a number that there are no slots for.
    """
    if not 1 <= collectors <= MOST:
        raise UserError(f"{collectors} collectors are outside of the family's range", "collectors", f"choose 1 to {MOST}")
    return Game(f"collectors={collectors}", (float(np.log(collectors / 3) / np.log(MOST / 3)),), (float(collectors),))


class Treasures:
    """`copies` of each game side by side; all episodes last 25 steps and end together.

    games   by the number of their collectors
    Errors: UserError when mpe2 is not there.
    """

    def __init__(self, games: tuple[int, ...], copies: int, steps: int = STEPS):
        if importlib.util.find_spec("mpe2") is None:
            raise UserError("mpe2 is not installed", "collect_treasure", "pip install -r requirements-games.txt")
        from mpe2 import collect_treasure_v1

        self.numbers = [number for number in games for _ in range(copies)]
        self.games = [game_of(number) for number in self.numbers]
        self._envs = [
            collect_treasure_v1.parallel_env(
                num_collectors=number,
                num_deposits=DEPOSITS,
                num_treasures=TREASURES,
                max_cycles=steps,
                continuous_actions=True,
            )
            for number in self.numbers
        ]
        sizes = [number + DEPOSITS for number in self.numbers]
        self.copy = np.repeat(np.arange(len(sizes)), sizes)  # (N,), which environment a row is of
        self.descriptor = np.array([self.games[index].descriptor for index in self.copy], np.float32)  # (N, D)
        self._names = [env.possible_agents for env in self._envs]

    def __len__(self) -> int:
        """N, agents over all copies."""
        return len(self.copy)

    def reset(self, seed: int) -> np.ndarray:
        """(N, F)."""
        seeds = np.random.SeedSequence(seed).generate_state(len(self._envs))
        rows = [env.reset(seed=int(one))[0] for env, one in zip(self._envs, seeds)]
        return self._features(rows)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Forces (N, A) in [-1, 1] to the right and up -> features (N, F), rewards (N,), each agent's own."""
        forces = np.zeros((len(action), 5), np.float32)  # nothing, left, right, down, up
        forces[:, [1, 3]], forces[:, [2, 4]] = np.clip(-action, 0, 1), np.clip(action, 0, 1)
        rows, rewards, first = [], [], 0
        for env, names in zip(self._envs, self._names):
            given = dict(zip(names, forces[first : first + len(names)]))
            seen, reward, *_ = env.step(given)
            rows.append(seen)
            rewards += [reward[name] for name in names]
            first += len(names)
        return self._features(rows), np.array(rewards, np.float32)

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _features(self, rows: list[dict]) -> np.ndarray:
        features = []
        for seen, names, number in zip(rows, self._names, self.numbers):
            features += [feature_of(seen[name], index, number) for index, name in enumerate(names)]
        return np.stack(features)


def feature_of(seen: np.ndarray, index: int, collectors: int) -> np.ndarray:
    """What mpe2 shows agent `index` of a game -> (F,)."""
    collects = index < collectors
    holds, rest = (seen[4 : 4 + TYPES], seen[4 + TYPES :]) if collects else (np.zeros(TYPES), seen[4:])
    takes = np.eye(TYPES)[index - collectors] if not collects else np.zeros(TYPES)
    own = np.concatenate([seen[:4], holds, [float(collects)], takes])
    others = collectors + DEPOSITS - 1
    agents, treasures = rest[: others * (4 + 2 * TYPES)], rest[others * (4 + 2 * TYPES) :]
    slots = np.zeros((SLOTS, SLOT))
    slots[:others, :2] = 1
    slots[:others, 2 : 6 + 2 * TYPES] = agents.reshape(others, -1)
    # treasures have places of their own, so that a slot is never now an agent and now a treasure
    treasures = treasures.reshape(TREASURES, 2 + TYPES)
    last = slots[-TREASURES:]
    last[:, 0] = treasures[:, 2:].sum(-1)  # one that was just taken is not there
    last[:, 2:4], last[:, -TYPES:] = treasures[:, :2], treasures[:, 2:]
    return np.concatenate([own, slots.ravel()]).astype(np.float32)
