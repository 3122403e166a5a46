"""Adam with gradient clipping and warm-up; a gradient that is not finite stops the step."""

import math

import torch
from torch import Tensor, nn

from foreground import ranks
from foreground.errors import UserError


class Divergence(Exception):
    """A loss, gradient or weight is not finite. The module keeps the weights of the step before."""

    def __init__(self, module: str, quantity: str):
        super().__init__(f"{quantity} of {module} is not finite")
        self.module = module


class Optimiser:
    """Adam for one module; see `descend`.

    The learning rate rises over the first `warmup` steps. After `decay_after` steps it falls with
    1 / sqrt(steps); 0: it does not fall.
    """

    def __init__(
        self,
        name: str,
        parameters: list[nn.Parameter],
        rate: float,
        clip: float,
        epsilon: float,
        warmup: int = 0,
        decay_after: int = 0,
    ):
        self.name, self.clip, self.rate, self.steps = name, clip, rate, 0
        self.warmup, self.decay_after = warmup, decay_after
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.adam = torch.optim.Adam(
            self.parameters, lr=rate, eps=epsilon, fused=not self.parameters[0].is_meta
        )

    def clip_gradient(self) -> Tensor:
        """Clip in place; return the norm before.

        Raises: Divergence when the norm of the gradient or of the weights is not finite.
        """
        norm = nn.utils.get_total_norm(
            [weight.grad for weight in self.parameters if weight.grad is not None]
        )
        self.guard(norm)
        if norm > self.clip:  # rare, and a pass over all gradients
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
        return norm

    def guard(self, norm: Tensor) -> None:
        """Raise Divergence for a gradient or weights that are not finite.

        A weight of minus infinity may leave loss and gradient finite, but not the policy.
        """
        weights = nn.utils.get_total_norm([parameter.detach() for parameter in self.parameters])
        for quantity, value in (("the gradient", norm), ("the norm of the weights", weights)):
            if not torch.isfinite(value):
                raise Divergence(self.name, quantity)

    def step(self) -> None:
        """Take one step of Adam, and delete the gradients."""
        self.steps += 1
        for group in self.adam.param_groups:
            group["lr"] = self.rate * self.share()
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def share(self) -> float:
        """Return the factor of the schedule at this step."""
        rising = min(1.0, self.steps / max(1, self.warmup))
        falling = min(1.0, math.sqrt(self.decay_after / self.steps)) if self.decay_after else 1.0
        return rising * falling

    def state_dict(self) -> dict:
        """Return Adam's moments, by the parameter's number, and the steps.

        Rates come from the config.
        """
        return {"adam": {"state": self.adam.state_dict()["state"]}, "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        """Load moments and steps.

        Raises: ValueError when the moments do not fit the weights: fused Adam would write out of
        bounds.
        """
        kept, steps = state["adam"]["state"], state["steps"]
        if type(steps) is not int or not kept.keys() <= set(range(len(self.parameters))):
            raise ValueError(f"the moments of {self.name} are not of its weights")
        self.adam.state.clear()
        self.adam.state.update(
            {
                self.parameters[index]: self._moments(index, moments)
                for index, moments in kept.items()
            }
        )
        self.steps = steps

    def _moments(self, index: int, moments: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a copy with the memory format of the weight (channels last).

        Fused Adam pairs the elements by their place in memory, not by index.
        """
        weight = self.parameters[index]
        like = {
            "step": torch.zeros((), device=weight.device),
            "exp_avg": weight,
            "exp_avg_sq": weight,
        }
        if moments.keys() != like.keys() or any(
            moments[name].shape != like[name].shape for name in like
        ):
            raise ValueError(f"the moments of {self.name} are not of its weights")
        return {
            name: torch.empty_like(value, requires_grad=False).copy_(moments[name])
            for name, value in like.items()
        }


def gradients(
    optimisers: dict[str, Optimiser], losses: dict[str, Tensor]
) -> dict[str, tuple[Tensor | None, ...]]:
    """Return the gradient of each loss by its module's parameters; None where a loss does not reach
    one.

    One backward pass serves all losses, which a compiled function needs. No loss may reach the
    parameters of another module (tests check that), so the gradient of the sum is the gradient of
    each loss.
    """
    parameters = [parameter for name in losses for parameter in optimisers[name].parameters]
    # Gradients of these parameters alone: what else the losses touched is left as it is.
    rows = iter(torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True))
    return {
        name: tuple(_laid_out(next(rows), own) for own in optimisers[name].parameters)
        for name in losses
    }


def _laid_out(gradient: Tensor | None, weight: Tensor) -> Tensor | None:
    """Return the gradient with the memory format of its weight, which fused Adam requires.

    That of a convolution may have another one.
    """
    if gradient is None or gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight, requires_grad=False).copy_(gradient)


def step(
    optimisers: dict[str, Optimiser],
    losses: dict[str, Tensor],
    found: dict[str, tuple[Tensor | None, ...]],
) -> dict[str, Tensor]:
    """Take one step of each module along the `gradients` of its own loss; return their norms before
    clipping.

    With several ranks the step is along the mean of their gradients, the same on each.

    Raises: Divergence, before any weight changes, when a loss, a gradient or a weight is not
    finite. Where one rank raises it, all do.
    """
    losses, found = over_ranks(losses, found)
    guard(losses)
    for name, own in found.items():
        for parameter, gradient in zip(optimisers[name].parameters, own):
            parameter.grad = gradient
    norms = {name: optimisers[name].clip_gradient() for name in losses}
    for name in losses:
        optimisers[name].step()
    return norms


def over_ranks(
    losses: dict[str, Tensor], found: dict[str, tuple[Tensor | None, ...]]
) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor | None, ...]]]:
    """Return losses and gradients as means over the ranks, by one message; as they are where there
    is one rank.

    Not within a recorded function: what comes out is memory of its own.
    """
    if ranks.number() == 1:
        return losses, found
    there = [gradient for own in found.values() for gradient in own if gradient is not None]
    means = iter(ranks.mean([*losses.values(), *there]))
    losses = {name: next(means) for name in losses}
    return losses, {
        name: tuple(None if row is None else next(means) for row in own)
        for name, own in found.items()
    }


def descend(optimisers: dict[str, Optimiser], losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute `gradients` of the losses and take a `step`; return their norms before clipping.

    Raises: as `step`.
    """
    return step(optimisers, losses, gradients(optimisers, losses))


def guard(losses: dict[str, Tensor]) -> None:
    """Raise Divergence for a loss that is not finite."""
    for name, loss in losses.items():
        if not torch.isfinite(loss):
            raise Divergence(name, "the loss")


def not_finite(state: dict) -> str:
    """Return the name of a weight, statistic or moment that is not finite, or ""."""
    for name, value in state["weights"].items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            return name
    for name, optimiser in state["optimisers"].items():
        for moments in optimiser["adam"]["state"].values():
            if not all(torch.isfinite(value).all() for value in moments.values()):
                return f"{name}'s optimiser"
    return ""


def training_state(module: nn.Module, optimisers: dict[str, Optimiser]) -> dict:
    """Return everything that learning changes, as plain types and tensors."""
    states = {name: optimiser.state_dict() for name, optimiser in optimisers.items()}
    return {"weights": dict(module.state_dict()), "optimisers": states}


def load_training_state(module: nn.Module, optimisers: dict[str, Optimiser], state: dict) -> None:
    """Load a `training_state`.

    Raises: UserError for the state of another agent, or of another version of it.
    """
    try:
        module.load_state_dict(state["weights"])
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise  # out of memory
        what = (
            "the weights that are kept there are not those of this agent "
            f"({str(error).splitlines()[-1].strip()})"
        )
        raise UserError(
            what, "the checkpoint", "use the version that wrote it, or begin in a new --folder"
        ) from error
    for name, optimiser in optimisers.items():
        optimiser.load_state_dict(state["optimisers"][name])
