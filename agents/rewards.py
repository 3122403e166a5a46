"""Named rewards of imagined rollouts, with one critic each; see actor_critic.py.

Each is a function Imagined -> (H, N), the reward of each following state. Names joined by + are one
reward, their sum, as in methods with a single critic.
"""

from collections.abc import Callable

from torch import Tensor, nn

from foreground.agents.actor_critic import Imagined, RewardFunction
from foreground.errors import UserError, nearest
from foreground.world_models.world_model import WorldModel


def expected(name: str) -> Callable[[WorldModel, nn.Module | None], RewardFunction]:
    """Return the maker of the reward, or signal of that name, that its head predicts."""

    def make(model: WorldModel, discovery: nn.Module | None) -> RewardFunction:
        return lambda imagined: model.reward(imagined.reached, name)

    return make


def empowerment(model: WorldModel, discovery: nn.Module | None) -> RewardFunction:
    """Return log q(a | z, z') - log pi(a | z) (InfoPower, Eq. 6).

    The second term keeps the first from rewarding saturation. Both are log-probabilities of the
    clipped action, so that the mean is at most 0 where the outcome does not depend on the action.
    """
    inverse = model.terms["empowerment"].inverse

    def reward(imagined: Imagined) -> Tensor:
        outcome = imagined.previous.stochastic, imagined.following.stochastic
        return inverse.log_prob(*outcome, imagined.action.clamp(-1, 1)) - imagined.log_prob

    return reward


def discovery(model: WorldModel, discovery: nn.Module | None) -> RewardFunction:
    """Return the reward of the current map for moving along the skill (agents/discovery.py).

    It is never stored.
    """

    def reward(imagined: Imagined) -> Tensor:
        # (H, N, C)
        skill = imagined.condition.expand(len(imagined.action), *imagined.condition.shape)
        return discovery.reward(imagined.previous.feature, imagined.following.feature, skill)

    return reward


def in_game(model: WorldModel, discovery: nn.Module | None) -> RewardFunction:
    """Return the predicted reward of the game whose descriptor ends the condition of a rollout."""
    term = model.terms["games"]

    def reward(imagined: Imagined) -> Tensor:
        # (H, N, D)
        game = imagined.condition[:, -term.games.shape[-1] :].expand(len(imagined.action), -1, -1)
        return term.mean(imagined.following.feature, game)

    return reward


REWARDS = {
    "task": expected("reward"),
    "game": in_game,
    "use": expected("use"),
    "safety": expected("safety"),
    "empowerment": empowerment,
    "discovery": discovery,
}
NEEDS = {
    "task": "reward",
    "game": "games",
    "use": "use",
    "safety": "safety",
    "empowerment": "empowerment",
}


def parts(name: str) -> list[str]:
    """Return the rewards that a name joins."""
    return name.split("+")


def make_rewards(
    names: list[str],
    model: WorldModel,
    discovery: nn.Module | None = None,
    scales: dict[str, float] | None = None,
) -> dict[str, RewardFunction]:
    """Return the reward functions by name.

    scales   factors that multiply single rewards first

    Raises: UserError for an unknown reward, or one whose information term is not in the model.
    """
    known = [part for joined in names for part in parts(joined)]
    for name in scales or {}:
        if name not in known:
            raise UserError(
                f"a scale for {name!r}, which is not maximised",
                "actor_critic.reward_scales",
                nearest(name, known),
            )
    for name in known:
        where = "actor_critic.rewards"
        if name not in REWARDS:
            raise UserError(f"unknown reward {name!r}", where, nearest(name, REWARDS))
        if name == "discovery" and discovery is None:
            remedy = "choose --learners model,discovery,imagination"
            raise UserError(
                "reward 'discovery' needs the learner 'discovery' before imagination", where, remedy
            )
        if name in NEEDS and NEEDS[name] not in model.terms:
            remedy = f"add {NEEDS[name]}=1 to --world_model.objective.terms"
            raise UserError(
                f"reward {name!r} needs the information term {NEEDS[name]!r}", where, remedy
            )
    return {
        name: _total([_made(part, model, discovery, scales or {}) for part in parts(name)])
        for name in names
    }


def _made(
    name: str, model: WorldModel, discovery: nn.Module | None, scales: dict[str, float]
) -> RewardFunction:
    function = REWARDS[name](model, discovery)
    factor = scales.get(name, 1.0)
    return function if factor == 1 else lambda imagined: factor * function(imagined)


def _total(functions: list[RewardFunction]) -> RewardFunction:
    return (
        functions[0]
        if len(functions) == 1
        else lambda imagined: sum(function(imagined) for function in functions)
    )
