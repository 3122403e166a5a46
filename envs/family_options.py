"""Options of a family of games."""

from foreground.errors import UserError
from foreground.option import Rule, config_class, option


def _of(*kinds: str) -> Rule:
    """Return the rule of an option that only some kinds of families read."""
    return f"where --family.kind is {' or '.join(kinds)}", lambda family: family.kind in kinds


@config_class
class FamilyConfig:
    kind: str = option(
        "none",
        "Games are tasks of one body, target speeds or directions of a walker or cheetah, "
        "hidden targets of a reacher, or dynamics (mass, friction, motor gain).",
        choices=("none", "tasks", "speed", "direction", "target", "dynamics"),
    )
    only: str = option(
        "",
        "Train on this game of the family alone, as an expert does; empty: on all.",
        read_if=("where there is a family", lambda family: family.kind != "none"),
    )
    tasks: tuple[str, ...] = option(
        (), "tasks: the games, with commas between.", read_if=_of("tasks")
    )
    speeds: tuple[float, ...] = option(
        (0.0, 1.0, 8.0),
        "speed: speeds of training in m/s, below 0 backward; 0, 1, 8 are a walker's stand, "
        "walk, run.",
        read_if=_of("speed"),
    )
    heldout_speeds: tuple[float, ...] = option(
        (3.0,), "speed: held-out speeds.", read_if=_of("speed")
    )
    exact: bool = option(
        False,
        "speed: whether the reward also falls beyond the target speed; otherwise faster is as "
        "good, as in dm_control.",
        read_if=_of("speed"),
    )
    num_games: int = option(
        6,
        "dynamics, target: number of training games.",
        ge=1,
        le=4096,
        read_if=_of("dynamics", "target"),
    )
    num_heldout_games: int = option(
        3,
        "dynamics, target: number of held-out games.",
        ge=0,
        le=4096,
        read_if=_of("dynamics", "target"),
    )
    low: float = option(
        0.75, "dynamics: the smallest factor in training.", gt=0.0, read_if=_of("dynamics")
    )
    high: float = option(
        1.5, "dynamics: the largest factor in training.", gt=0.0, read_if=_of("dynamics")
    )
    heldout_low: float = option(
        0.5,
        "dynamics: the smallest factor of all; held-out factors are below low or above high.",
        gt=0.0,
        read_if=_of("dynamics"),
    )
    heldout_high: float = option(
        2.0, "dynamics: the largest factor of all.", gt=0.0, read_if=_of("dynamics")
    )

    def __post_init__(self):
        if not self.heldout_low < self.low < self.high < self.heldout_high:
            what = (
                f"the factors {self.heldout_low}, {self.low}, {self.high}, {self.heldout_high} "
                "do not rise"
            )
            raise UserError(what, "family.low", "choose heldout_low < low < high < heldout_high")
