"""MRA's own first game, collect_treasure, for many agents at once, as rows of one size.

The game is that of `mpe2.collect_treasure_v1` in arrays, for that one is slow and a policy needs a
million steps. Given one state and the same random numbers both do the same, step by step
(tests/envs/test_treasure.py, where mpe2 is installed: ``pip install -e ".[games]"``). Every agent
is a row: what it is, and the others and treasures as slots, absent ones zero. The agents of all
copies and games stand side by side, so that one policy acts for them.

Shapes: N rows (agents), F numbers of a row, A action; E copies, n agents, T treasures.
"""

import numpy as np

from foreground.envs.families import Game
from foreground.errors import UserError

DEPOSITS = 2
TREASURES = 6
TYPES = 2
MOST = 12  # slots for collectors
# position, velocity, what it holds, whether it collects, what it takes in.
OWN = 4 + TYPES + 1 + TYPES
# there, an agent; relative position; velocity; takes in, holds; type of a treasure.
SLOT = 2 + 2 + 2 + 2 * TYPES + TYPES
SLOTS = MOST + DEPOSITS - 1 + TREASURES
FEATURE = OWN + SLOTS * SLOT
ACTION = 2
STEPS = 25

DT = 0.1
DAMPING = 0.25
ACCELERATION = 1.5
FASTEST = 1.0
MASSES = (1.0, 2.25)  # of a collector, of a deposit
SIZES = (0.05, 0.075, 0.025)  # radius of a collector, a deposit, a treasure
# For a treasure taken, one brought, and off for each overlap; off for each unit of distance.
PAID = 5.0
SHAPING = 0.1
PROGRESS = 5.0  # a unit of way, in what is learned from


def game_of(collectors: int) -> Game:
    """Return the game with `collectors`; its descriptor is the log of their number, 0 for 3 and 1
    for 12.

    Raises: UserError for a number without slots.
    """
    if not 1 <= collectors <= MOST:
        raise UserError(
            f"{collectors} collectors are outside of the family's range",
            "collectors",
            f"choose 1 to {MOST}",
        )
    return Game(
        f"collectors={collectors}",
        (float(np.log(collectors / 3) / np.log(MOST / 3)),),
        (float(collectors),),
    )


class Arena:
    """E copies of the game with one number of collectors.

    Agents are these first, then deposits; deposit i takes type i.
    """

    def __init__(self, collectors: int, copies: int):
        self.collectors = collectors
        self.copies = copies
        self.agents = collectors + DEPOSITS
        self.random = [np.random.default_rng(0)] * copies
        self.place, self.speed = np.zeros((2, copies, self.agents, 2))  # (E, n, 2)
        self.holds = np.full((copies, collectors), -1)  # type of a treasure, or -1
        self.treasure = np.zeros((copies, TREASURES, 2))
        self.kind = np.zeros((copies, TREASURES), int)
        self.there = np.ones((copies, TREASURES), bool)
        self.credit = np.zeros((copies, self.agents))

    def reset(self, seeds: np.ndarray) -> None:
        """Reset all copies, each with a generator of its seed."""
        self.random = [np.random.default_rng(int(seed)) for seed in seeds]
        for copy, random in enumerate(self.random):
            self.place[copy] = random.uniform(-1, 1, (self.agents, 2))
            for index in range(TREASURES):
                self._put(copy, index)
        self.speed[:], self.holds[:] = 0, -1

    def _put(self, copy: int, index: int) -> None:
        random = self.random[copy]
        self.treasure[copy, index] = random.uniform(-0.95, 0.95, 2)
        self.kind[copy, index] = random.integers(0, TYPES)
        self.there[copy, index] = True

    def step(self, force: np.ndarray) -> np.ndarray:
        """Take forces (E, n, 2) in [-1, 1]; return rewards (E, n). All agents receive the reward
        for treasures.

        `credit` then holds the reward to learn from: without the reward for others' treasures, a
        difference reward (Wolpert and Tumer, 2001), plus the progress of each agent towards its
        target. The game's own rewards are mostly noise from the others. The progress is not a
        potential, since following a moving target pays; so scores are always the game's own
        rewards.
        """
        aim = self.wanted()
        before = np.linalg.norm(self.place - aim, axis=-1)
        mass = np.repeat(MASSES, (self.collectors, DEPOSITS))[:, None]
        self.place += self.speed * DT
        self.speed = self.speed * (1 - DAMPING) + force * ACCELERATION / mass * DT
        length = np.linalg.norm(self.speed, axis=-1, keepdims=True)
        self.speed = np.where(
            length > FASTEST, self.speed / np.maximum(length, 1e-12) * FASTEST, self.speed
        )
        done = PAID * (self._take() + self._bring())  # (E, n), by whom
        own = self._rewards()
        collectors = np.arange(self.agents) < self.collectors
        self.credit = own + done + PROGRESS * (before - np.linalg.norm(self.place - aim, axis=-1))
        return own + (done * collectors).sum(1, keepdims=True)

    def _take(self) -> np.ndarray:
        """Let collectors without treasure take one that they touch; replace taken ones.

        Return by whom, (E, n).
        """
        taken = np.zeros((self.copies, self.agents))
        copies = np.arange(self.copies)
        for index in range(TREASURES):
            was = self.there[:, index].copy()
            # (E, n)
            near = (
                _distance(self.place[:, : self.collectors], self.treasure[:, index, None])
                < SIZES[0] + SIZES[2]
            )
            able = near & (self.holds < 0) & was[:, None]
            found = able.any(1)
            who = able.argmax(1)  # the first
            self.holds[copies[found], who[found]] = self.kind[found, index]
            self.there[found, index] = False
            taken[copies[found], who[found]] += 1
            for copy in copies[~was]:
                # mpe2's throw of whether it comes back, which is certain.
                self.random[copy].uniform()
                self._put(copy, index)
        return taken

    def _bring(self) -> np.ndarray:
        """Let collectors at the deposit of their treasure deliver it.

        Return by whom and to whom, (E, n).
        """
        # (E, n, deposits)
        apart = _distance(
            self.place[:, : self.collectors, None], self.place[:, None, self.collectors :]
        )
        given = (apart < SIZES[0] + SIZES[1]) & (self.holds[..., None] == np.arange(DEPOSITS))
        brought = given.any(-1)
        self.holds[brought] = -1
        return np.concatenate([brought, given.sum(1)], 1)

    def _rewards(self) -> np.ndarray:
        """Return each agent's costs, (E, n): overlaps with other collectors, and the distance to
        its target.
        """
        collectors = self.place[:, : self.collectors]
        # Not oneself.
        overlaps = (_distance(collectors[:, :, None], collectors[:, None]) < 2 * SIZES[0]).sum(
            -1
        ) - 1
        rewards = -SHAPING * np.linalg.norm(self.place - self.wanted(), axis=-1)
        rewards[:, : self.collectors] -= PAID * overlaps
        return rewards

    def wanted(self) -> np.ndarray:
        """Return the target of each agent, (E, n, 2), or its own place where there is none.

        A collector's target is the nearest treasure, or the deposit of the one that it holds. A
        deposit's target is the nearest collector with its type, or the centre of all collectors.
        """
        collectors = self.place[:, : self.collectors]
        deposits = self.place[:, self.collectors :]
        treasure = _nearest(collectors, self.treasure, self.there[:, None])
        home = np.take_along_axis(deposits, np.maximum(self.holds, 0)[..., None], 1)
        carried = self.holds[:, None] == np.arange(DEPOSITS)[:, None]  # (E, deposits, n)
        middle = np.broadcast_to(collectors.mean(1, keepdims=True), deposits.shape)
        carrier = np.where(
            carried.any(-1, keepdims=True), _nearest(deposits, collectors, carried), middle
        )
        return np.concatenate([np.where((self.holds < 0)[..., None], treasure, home), carrier], 1)

    def features(self) -> np.ndarray:
        """Return features (E, n, F), with others and treasures by distance, as in mpe2."""
        copies = self.copies
        agents = self.agents
        holds = np.zeros((copies, agents, TYPES))
        holds[:, : self.collectors] = self.holds[..., None] == np.arange(TYPES)
        takes = np.zeros((copies, agents, TYPES))
        takes[:, self.collectors :] = np.eye(TYPES)
        collects = np.zeros((copies, agents, 1))
        collects[:, : self.collectors] = 1
        own = np.concatenate([self.place, self.speed, holds, collects, takes], -1)
        slots = np.zeros((copies, agents, SLOTS, SLOT))
        others = np.broadcast_to(
            np.concatenate([self.speed, takes, holds], -1)[:, None], (copies, agents, agents, 6)
        )
        # (E, n, n, 8), a row's view of each.
        seen = np.concatenate([self.place[:, None] - self.place[:, :, None], others], -1)
        # The agent itself comes last.
        apart = np.linalg.norm(seen[..., :2], axis=-1) + np.where(
            np.eye(agents, dtype=bool), np.inf, 0
        )
        order = apart.argsort(-1, kind="stable")[..., : agents - 1, None]
        slots[:, :, : agents - 1, :2] = 1
        slots[:, :, : agents - 1, 2:10] = np.take_along_axis(seen, order, 2)
        kind = np.broadcast_to(
            (self.kind[..., None] == np.arange(TYPES))[:, None], (copies, agents, TREASURES, TYPES)
        )
        there = np.broadcast_to(self.there[:, None, :, None], (copies, agents, TREASURES, 1))
        # (E, n, T, 5)
        seen = (
            np.concatenate([there, self.treasure[:, None] - self.place[:, :, None], kind], -1)
            * there
        )
        far = np.where(there[..., 0], np.linalg.norm(seen[..., 1:3], axis=-1), np.inf)
        seen = np.take_along_axis(seen, far.argsort(-1, kind="stable")[..., None], 2)
        # Places of their own: a slot is never now an agent and now a treasure.
        last = slots[:, :, -TREASURES:]
        last[..., 0], last[..., 2:4], last[..., -TYPES:] = (
            seen[..., 0],
            seen[..., 1:3],
            seen[..., 3:],
        )
        return np.concatenate([own, slots.reshape(copies, agents, -1)], -1)


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.linalg.norm(one - other, axis=-1)


def _nearest(places: np.ndarray, points: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the nearest present point of each place, or the place itself.

    (E, n, 2), (E, m, 2), present (E, 1 or n, m) -> (E, n, 2).
    """
    apart = np.where(there, _distance(places[:, :, None], points[:, None]), np.inf)  # (E, n, m)
    found = np.take_along_axis(points, apart.argmin(-1)[..., None], 1)
    return np.where(np.isinf(apart.min(-1))[..., None], places, found)


class Treasures:
    """`copies` of each game side by side, by the number of their collectors; all episodes begin and
    end together.
    """

    def __init__(self, games: tuple[int, ...], copies: int):
        self.games = [game_of(number) for number in games]
        self.arenas = [Arena(number, copies) for number in games]
        counts = [arena.agents for arena in self.arenas for _ in range(copies)]
        # (N,), which copy of which game a row is of.
        self.copy = np.repeat(np.arange(len(counts)), counts)
        # (N, D)
        self.descriptor = np.array(
            [self.games[index // copies].descriptor for index in self.copy], np.float32
        )

    def __len__(self) -> int:
        """Return N, the number of agents of all copies."""
        return len(self.copy)

    def reset(self, seed: int) -> np.ndarray:
        """(N, F)."""
        for arena, source in zip(self.arenas, np.random.SeedSequence(seed).spawn(len(self.arenas))):
            arena.reset(source.generate_state(arena.copies))
        return self._features()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Forces (N, A) to the right and up, clipped to [-1, 1] -> features (N, F), rewards (N,),
        `Arena.credit` (N,).
        """
        rewards = []
        first = 0
        for arena in self.arenas:
            rows = arena.copies * arena.agents
            force = np.clip(action[first : first + rows], -1, 1).reshape(
                arena.copies, arena.agents, ACTION
            )
            rewards.append(arena.step(force).ravel())
            first += rows
        credit = np.concatenate([arena.credit.ravel() for arena in self.arenas]).astype(np.float32)
        return self._features(), np.concatenate(rewards).astype(np.float32), credit

    def _features(self) -> np.ndarray:
        return np.concatenate(
            [arena.features().reshape(-1, FEATURE) for arena in self.arenas]
        ).astype(np.float32)
