"""dm_control's soccer with teams of several sizes, as rows for a policy over sets of agents.

Its interface is that of `treasure.Treasures`: every player of every match is a row, with itself and
the others as slots, absent ones zero, so that one policy plays for all. Players are BoxHeads, which
roll, turn and kick; a step is 0.025 s. It checks that the interface carries a game of real physics
(tests/envs/test_soccer.py); no results are claimed. Source of the game: Liu et al., arXiv
1902.07151.

Shapes: N rows (players of all matches), F numbers of a row, A action, D descriptor.
"""

import numpy as np

from foreground.envs.families import Game
from foreground.errors import UserError

MOST = 4  # players of a team that there are slots for
BODY = (
    "joints_pos",
    "joints_vel",
    "sensors_accelerometer",
    "sensors_gyro",
    "sensors_velocimeter",
    "world_zaxis",
    "prev_action",
)
SEEN = ("ball_ego_position", "ball_ego_linear_velocity", "team_goal_mid", "opponent_goal_mid")
OTHER = ("ego_position", "ego_linear_velocity")
OWN = 1 + 1 + 5 * 3 + 4 * 3
SLOT = 2 + 2 * 3  # there, of one's own team; relative position and velocity
SLOTS = 2 * MOST - 1  # team mates, then opponents
FEATURE = OWN + SLOTS * SLOT
ACTION = 3
# lengths and velocities are divided by these
METRE = 20.0
SPEED = 5.0


def game_of(players: int) -> Game:
    """Return the game with `players` per team; its descriptor is the log of their number, 0 for 1,
    1 for `MOST`.

    Raises: UserError for a number without slots.
    """
    if not 1 <= players <= MOST:
        raise UserError(
            f"{players} players a team are outside of the family's range",
            "players",
            f"choose 1 to {MOST}",
        )
    return Game(f"players={players}", (float(np.log(players) / np.log(MOST)),), (float(players),))


class Soccer:
    """`copies` matches of each team size; home players come first in a match, then away.

    Goals do not end it.
    """

    def __init__(self, games: tuple[int, ...], copies: int, time_limit: float = 45.0):
        """time_limit   seconds of a match; steps past it raise"""
        from dm_control.locomotion import soccer  # heavy

        self.games = [game_of(players) for players in games]
        self.matches = [
            soccer.load(players, time_limit, terminate_on_goal=False)
            for players in games
            for _ in range(copies)
        ]
        counts = [2 * players for players in games for _ in range(copies)]
        self.copy = np.repeat(np.arange(len(counts)), counts)  # (N,), which match a row is of
        # (N, D)
        self.descriptor = np.array(
            [self.games[index // copies].descriptor for index in self.copy], np.float32
        )

    def __len__(self) -> int:
        """Return N, the number of players of all matches."""
        return len(self.copy)

    def reset(self, seed: int) -> np.ndarray:
        """Return the rows of new matches, (N, F)."""
        for match, source in zip(
            self.matches, np.random.SeedSequence(seed).spawn(len(self.matches))
        ):
            match.random_state.seed(source.generate_state(4))
        return self._rows([match.reset() for match in self.matches])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take actions (N, A), clipped to [-1, 1]; return features (N, F), rewards (N,) and
        learning rewards (N,).

        The last two are equal here. A goal pays 1 to every player of the team and -1 to every
        other.

        Raises: RuntimeError after the end of a match.
        """
        action = np.clip(action, -1, 1)
        moments = [
            match.step(list(action[self.copy == index])) for index, match in enumerate(self.matches)
        ]
        if any(moment.first() for moment in moments):
            raise RuntimeError("a match is over: reset comes first")
        reward = np.concatenate([np.stack(moment.reward) for moment in moments]).astype(np.float32)
        return self._rows(moments), reward, reward.copy()

    def _rows(self, moments: list) -> np.ndarray:
        return np.stack([row(seen) for moment in moments for seen in moment.observation])


def row(seen: dict[str, np.ndarray]) -> np.ndarray:
    """Return the observation of one player, (F,)."""
    body = [seen[name].ravel() for name in BODY]
    own = np.concatenate(
        [*body[:2], body[2] / 10, *body[3:], *(_scaled(name, seen) for name in SEEN)]
    )
    slots = np.zeros((SLOTS, SLOT))
    for index in range(SLOTS):
        mate = index < MOST - 1
        who = f"teammate_{index}" if mate else f"opponent_{index - MOST + 1}"
        if f"{who}_ego_position" in seen:
            slots[index] = [
                1,
                mate,
                *np.concatenate([_scaled(f"{who}_{name}", seen) for name in OTHER]),
            ]
    return np.concatenate([own, slots.ravel()]).astype(np.float32)


def _scaled(name: str, seen: dict[str, np.ndarray]) -> np.ndarray:
    return seen[name].ravel() / (SPEED if "velocity" in name else METRE)
