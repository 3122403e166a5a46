"""Named rewards: what an imagined roll-out is judged by. One critic each; see actor_critic.py.

Each is a function Imagined -> (H, N), the reward that came with each following state.
"""

from torch import Tensor

from agents.actor_critic import Imagined, RewardFunction
from errors import UserError, nearest
from world_models.world_model import WorldModel


def task(model: WorldModel) -> RewardFunction:
    """The environment's reward, as the reward head expects it."""
    return lambda imagined: model.reward(imagined.following.feature)


def empowerment(model: WorldModel) -> RewardFunction:
    """log q(a | z, z') - log pi(a | z) (InfoPower, Eq. 6): its second half keeps the first from paying saturation.

    Both are log-probabilities of the clipped action, so that its mean is at most 0 where the outcome tells nothing.
    """
    inverse = model.terms["empowerment"].inverse

    def reward(imagined: Imagined) -> Tensor:
        outcome = imagined.previous.stochastic, imagined.following.stochastic
        return inverse.log_prob(*outcome, imagined.action.clamp(-1, 1)) - imagined.log_prob

    return reward


REWARDS = {"task": task, "empowerment": empowerment}
NEEDS = {"task": "reward", "empowerment": "empowerment"}


def make_rewards(names: list[str], model: WorldModel) -> dict[str, RewardFunction]:
    """The reward functions by name. Errors: UserError for an unknown one, or one whose term the model lacks."""
    for name in names:
        where = "actor_critic.rewards"
        if name not in REWARDS:
            raise UserError(f"unknown reward {name!r}", where, nearest(name, REWARDS))
        if NEEDS[name] not in model.terms:
            remedy = f"add {NEEDS[name]}=1 to --world_model.objective.terms"
            raise UserError(f"reward {name!r} needs the information term {NEEDS[name]!r}", where, remedy)
    return {name: REWARDS[name](model) for name in names}
