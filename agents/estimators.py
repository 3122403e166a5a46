"""Estimators of the actor's gradient: from a rollout to an objective with that gradient.

`Score` weighs the log-probability of each action by the advantage of its own return, R_k. `Path`
differentiates the sum of all R_t through model and critics, as Dreamer does. There an action counts
in its own return, in those of the states before it, and in those of the states that it leads to.

Shapes: H horizon, N rollouts, A action.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from foreground.agents.actor_critic_config import ActorCriticConfig
from foreground.agents.policy import Policy
from foreground.errors import UserError

RATIO = 0.2  # PPO's clip range of the ratio of policies, where a rollout is used more than once
TINY = 1e-20  # of a squared gradient
FAINT = 1e-20  # factor of a slope, far from where float32 ends
BY_OUTPUTS = ("own_return", "both")  # call torch.autograd.grad, which no compiled graph can


class Rollout(Protocol):
    """What an estimator reads of an imagined rollout; see `actor_critic.Imagined`."""

    action: Tensor  # (H, N, A)
    behaviour: Tensor | None  # (H, N)
    policies: Sequence[Policy]  # that chose the H actions; the returns depend on them


class Estimator(Protocol):
    """along_path   whether the returns must carry gradients to the actions"""

    along_path: bool

    def __call__(
        self, rollout: Rollout, policy: Policy, returns: Tensor, advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective, (H, N), and metrics. Its mean has the gradient to ascend.

        policy      (H, N, A), of the detached features
        returns     (H, N), in units of their scale
        advantage   (H, N), likewise
        """


class Score:
    """The score function (REINFORCE).

    For rollouts of an older policy it is PPO's clipped surrogate (arXiv 1707.06347, Eq. 7).
    """

    along_path = False

    def __call__(
        self, rollout: Rollout, policy: Policy, returns: Tensor, advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        log_prob = policy.log_prob(rollout.action)
        if rollout.behaviour is None:
            return log_prob * advantage, {}
        ratio = (log_prob - rollout.behaviour).exp()
        clipped = ratio.clamp(1 - RATIO, 1 + RATIO)
        return torch.minimum(ratio * advantage, clipped * advantage), {}


class Path:
    """Backpropagation through model and critics (Dreamer)."""

    along_path = True

    def __call__(
        self, rollout: Rollout, policy: Policy, returns: Tensor, advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return returns, {}


class OwnReturn:
    """The path gradient of each action's own return, R_k, alone, times a constant.

    An action k reaches R_0 through R_k only, with the factor decay^k. So one backward pass of R_0
    gives the slopes of every R_k. The constant is the factor with which `Path` counts the last
    return in those of all states, so that one weight of the entropy suits both.
    """

    along_path = True

    def __init__(self, decay: float):
        """decay   discount x lambda, above 0; a continuation comes on top of it"""
        self.decay = decay

    def __call__(
        self, rollout: Rollout, policy: Policy, returns: Tensor, advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        slope = path_gradient(returns[0], rollout.policies)  # (H, N, 2A)
        reach = self.decay ** torch.arange(len(slope), device=slope.device).view(-1, 1, 1)
        slope = reach.sum() * slope / reach
        return (slope * torch.cat([*policy], -1)).sum(-1), {}


class Both:
    """`Path` and `Score` combined, each weighted by the inverse of its second moment.

    Both are gradients with respect to the policy's outputs. PIPPS (arXiv 1902.01240) combines two
    estimates of one gradient by their variances. These two also differ in expectation (see above),
    so the weights bring them to one scale as well: a heuristic, supported by measurements only.
    There is a weight for each step and each output of the policy.
    """

    along_path = True

    def __call__(
        self, rollout: Rollout, policy: Policy, returns: Tensor, advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        path = path_gradient(returns, rollout.policies)
        score = score_gradient(policy, rollout.action, advantage)
        share = path_share(path, score)
        slope = torch.lerp(score, path, share).detach()  # (H, N, 2A)
        objective = (slope * torch.cat([*policy], -1)).sum(-1)
        return objective, {"path_share": share.mean()}


def make_estimator(config: ActorCriticConfig) -> Estimator:
    """Return the estimator that a config names.

    Raises: UserError where the first return hardly depends on the last action.
    """
    if config.actor_grad == "own_return":
        decay = config.discount * config.lam
        if decay ** (config.horizon - 1) < FAINT:
            what = f"at {decay:g} a step the first return says nothing of the last action"
            remedy = "raise it, lower the horizon, or choose --actor_critic.actor_grad dynamics"
            raise UserError(what, "actor_critic.lam", remedy)
        return OwnReturn(decay)
    return {"reinforce": Score, "dynamics": Path, "both": Both}[config.actor_grad]()


def path_gradient(returns: Tensor, policies: Sequence[Policy]) -> Tensor:
    """Return the gradient of the sum of the returns, (H, N) or (N,), with respect to mean and
    standard deviation of each step's policy: (H, N, 2A).
    """
    outputs = [output for policy in policies for output in policy]
    slopes = torch.autograd.grad(returns.sum(), outputs, materialize_grads=True)
    return torch.stack([torch.cat(pair, -1) for pair in zip(slopes[::2], slopes[1::2])])


@torch.no_grad()
def score_gradient(policy: Policy, action: Tensor, advantage: Tensor) -> Tensor:
    """Return advantage x the gradient of log pi(action) by mean and deviation: (H, N, 2A)."""
    noise = (action - policy.mean) / policy.std
    slopes = torch.cat([noise, noise.square() - 1], -1) / policy.std.repeat(1, 1, 2)
    return advantage.unsqueeze(-1) * slopes


def path_share(path: Tensor, score: Tensor) -> Tensor:
    """Return the weight of the path gradient, (H, 1, 2A) within [0, 1]: (H, N, 2A) twice."""
    path, score = (slope.float().square().mean(1, keepdim=True) for slope in (path, score))
    return score / (path + score).clamp(min=TINY)
