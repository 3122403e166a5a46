"""Named rewards: what an imagined roll-out is judged by. One critic each; see actor_critic.py.

Each is a function Imagined -> (H, N), the reward that came with each following state. Names joined by + are one reward, the
sum: what methods with a single critic do.
"""

from collections.abc import Callable

from torch import Tensor, nn

from foreground.agents.actor_critic import Imagined, RewardFunction
from foreground.errors import UserError, nearest
from foreground.world_models.world_model import WorldModel


def expected(name: str) -> Callable[[WorldModel, nn.Module | None], RewardFunction]:
    """The environment's reward, or one of its signals, as its head expects it."""

    def make(model: WorldModel, discovery: nn.Module | None) -> RewardFunction:
        return lambda imagined: model.reward(imagined.reached, name)

    return make


def empowerment(model: WorldModel, discovery: nn.Module | None) -> RewardFunction:
    """log q(a | z, z') - log pi(a | z) (InfoPower, Eq. 6): its second half keeps the first from paying saturation.

    Both are log-probabilities of the clipped action, so that its mean is at most 0 where the outcome tells nothing.
    """
    inverse = model.terms["empowerment"].inverse

    def reward(imagined: Imagined) -> Tensor:
        outcome = imagined.previous.stochastic, imagined.following.stochastic
        return inverse.log_prob(*outcome, imagined.action.clamp(-1, 1)) - imagined.log_prob

    return reward


def discovery(model: WorldModel, discovery: nn.Module | None) -> RewardFunction:
    """Going where the skill says, by the map of the moment (agents/discovery.py): nothing of it is stored."""

    def reward(imagined: Imagined) -> Tensor:
        skill = imagined.condition.expand(len(imagined.action), *imagined.condition.shape)  # (H, N, C)
        return discovery.reward(imagined.previous.feature, imagined.following.feature, skill)

    return reward


def in_game(model: WorldModel, discovery: nn.Module | None) -> RewardFunction:
    """The reward of the game that ends a roll-out's condition, as the head of all games expects it."""
    term = model.terms["games"]

    def reward(imagined: Imagined) -> Tensor:
        game = imagined.condition[:, -term.games.shape[-1] :].expand(len(imagined.action), -1, -1)  # (H, N, D)
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
NEEDS = {"task": "reward", "game": "games", "use": "use", "safety": "safety", "empowerment": "empowerment"}


def parts(name: str) -> list[str]:
    """The rewards that a name asks for."""
    return name.split("+")


def make_rewards(
    names: list[str], model: WorldModel, discovery: nn.Module | None = None, factors: dict[str, float] | None = None
) -> dict[str, RewardFunction]:
    """The reward functions by name; `factors`: by how much single ones are multiplied before anything else.

    Errors: UserError for an unknown one, or one whose term the model lacks.
    """
    known = [part for joined in names for part in parts(joined)]
    for name in factors or {}:
        if name not in known:
            raise UserError(f"a scale for {name!r}, which is not maximised", "actor_critic.reward_scales", nearest(name, known))
    for name in known:
        where = "actor_critic.rewards"
        if name not in REWARDS:
            raise UserError(f"unknown reward {name!r}", where, nearest(name, REWARDS))
        if name == "discovery" and discovery is None:
            remedy = "choose --learners model,discovery,imagination"
            raise UserError("reward 'discovery' needs the learner 'discovery' before imagination", where, remedy)
        if name in NEEDS and NEEDS[name] not in model.terms:
            remedy = f"add {NEEDS[name]}=1 to --world_model.objective.terms"
            raise UserError(f"reward {name!r} needs the information term {NEEDS[name]!r}", where, remedy)
    return {name: _total([_made(part, model, discovery, factors or {}) for part in parts(name)]) for name in names}


def _made(name: str, model: WorldModel, discovery: nn.Module | None, factors: dict[str, float]) -> RewardFunction:
    function, factor = REWARDS[name](model, discovery), factors.get(name, 1.0)
    return function if factor == 1 else lambda imagined: factor * function(imagined)


def _total(functions: list[RewardFunction]) -> RewardFunction:
    return functions[0] if len(functions) == 1 else lambda imagined: sum(function(imagined) for function in functions)
