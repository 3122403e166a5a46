"""The options of actor and critics."""

from foreground.errors import UserError
from foreground.option import config_class, option

ALONG_PATH = (
    "where --actor_critic.actor_grad is not reinforce",
    lambda config: config.actor_grad != "reinforce",
)
FIXED = (
    "where --actor_critic.entropy_coef is above 0 and --actor_critic.target_std is not given",
    lambda config: config.entropy_coef > 0 and not config.target_std,
)
TARGETED = "where --actor_critic.target_std is given", lambda config: config.target_std
NORMALISED = "where --actor_critic.reward_norm is true", lambda config: config.reward_norm


@config_class
class ActorCriticConfig:
    rewards: dict[str, float] = option(
        {"task": 1.0}, "Named rewards, and the weights of their normalised advantages.", ge=0.0
    )
    reward_scales: dict[str, float] = option(
        {},
        "Factors that multiply single rewards first, to test the effect of their units. "
        "Others have factor 1.",
        gt=0.0,
    )
    units: int = option(256, "Units of actor and critics.", ge=8, le=65536)
    layers: int = option(2, "Layers of actor and critics.", ge=1, le=100)
    horizon: int = option(15, "Imagined steps H.", ge=1, le=10_000)
    imag_starts: int = option(
        256, "States of a batch from which imagination starts; 0 takes all.", ge=0
    )
    discount: float = option(0.99, "Discount per agent step.", gt=0.0, lt=1.0)
    lam: float = option(0.95, "Lambda of the lambda-returns.", ge=0.0, le=1.0)
    entropy_coef: float = option(3e-4, "Weight of the policy's entropy.", ge=0.0)
    tanh_entropy_coef: float = option(
        1.0,
        "Weight, within the entropy, of SAC's tanh correction at the mean, ln(1 - mean^2). "
        "With 0 a saturated mean may stay saturated. Beside `target_std` it is not read: there "
        "ln(1 - mean^2) has the weight 0.003.",
        ge=0.0,
        read_if=FIXED,
    )
    target_std: tuple[float, ...] = option(
        (),
        "First and last target of the standard deviation of the clipped action. The weight "
        "of the entropy is then"
        " learned, starting from `entropy_coef`. Without targets it is fixed.",
        gt=0.0,
        le=0.57,
    )
    target_std_updates: tuple[int, ...] = option(
        (2500, 8000),
        "Updates between which the target falls geometrically from first to last.",
        ge=0,
        read_if=TARGETED,
    )
    actor_grad: str = option(
        "reinforce",
        "Gradient of the actor: reinforce (score function, cheap), dynamics (backpropagation "
        "through model and critics), own_return (as dynamics, but each action's own return only), "
        "or both (reinforce and dynamics, each weighted by the inverse of its second moment).",
        choices=("reinforce", "dynamics", "own_return", "both"),
    )
    policy_input_grad: float = option(
        1.0,
        "Share of the gradient that flows back through the policy's inputs; 0: they are "
        "detached, as in Dreamer.",
        ge=0.0,
        le=1.0,
        read_if=ALONG_PATH,
    )
    initial_std: float = option(0.6, "Initial standard deviation of the policy.", gt=0.0, le=1.0)
    critic_head: str = option(
        "two_hot", "Distribution of the value.", choices=("two_hot", "unit_normal")
    )
    value_limit: float = option(
        6.5,
        "Largest symlog of a value that a two-hot critic can represent: 6.5 is a value of 664.",
        gt=0.0,
        le=20.0,
    )
    target_tau: float = option(
        1.0,
        "Rate at which the target critics follow the critics. There are none where this and "
        "`target_update_every` are 1.",
        gt=0.0,
        le=1.0,
    )
    target_update_every: int = option(
        1,
        "Updates between two steps of the target critics; with target_tau 1 each step is a "
        "full copy.",
        ge=1,
    )
    replay_value_coef: float = option(
        0.0,
        "Weight of the critic's loss on replayed rows with their real rewards (DreamerV3); "
        "0: it learns in"
        " imagination only.",
        ge=0.0,
    )
    return_norm_min: float = option(
        1.0, "Smallest divisor of the returns, in units of return.", gt=0.0
    )
    norm_rate: float = option(
        0.02, "Rate of the moving statistics that normalise returns and rewards.", gt=0.0, le=1.0
    )
    reward_norm: bool = option(
        False,
        "Centre each reward and divide it by its moving standard deviation before its "
        "critic learns it (SLIM).",
    )
    reward_norm_min: float = option(
        1e-4, "Smallest divisor of a normalised reward.", gt=0.0, read_if=NORMALISED
    )
    noise_correlation: float = option(
        0.5,
        "Correlation of exploration noise between successive actions; 0: white noise. The "
        "choice of skills"
        " (hierarchical) has no such noise.",
        ge=0.0,
        lt=1.0,
    )
    min_std: float = option(0.1, "Smallest standard deviation of the policy.", gt=0.0)
    max_std: float = option(1.0, "Largest standard deviation of the policy.", gt=0.0)

    def __post_init__(self):
        if not self.rewards:
            raise UserError(
                "no reward is named",
                "actor_critic.rewards",
                "name one with its weight, like task=1",
            )
        limit = min(self.initial_std, 0.99 * self.max_std)  # the initial standard deviation
        if self.min_std >= limit:
            what = (
                f"min_std {self.min_std} leaves no room below initial_std {self.initial_std} "
                f"and max_std {self.max_std}"
            )
            raise UserError(what, "actor_critic.min_std", f"choose less than {limit:g}")
