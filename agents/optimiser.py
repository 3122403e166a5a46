"""Adam with clipped gradients, and a guard that stops before a broken gradient reaches the weights."""

import torch
from torch import Tensor, nn


class Divergence(Exception):
    """A loss or gradient stopped being finite. The weights are still those of the step before."""

    def __init__(self, module: str, quantity: str):
        super().__init__(f"{quantity} of {module} is not finite")
        self.module = module


class Optimiser:
    """One Adam over one module. `step` returns the norm of the gradient before clipping."""

    def __init__(self, name: str, parameters: list[nn.Parameter], rate: float, clip: float, epsilon: float):
        self.name, self.clip = name, clip
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.adam = torch.optim.Adam(self.parameters, lr=rate, eps=epsilon, fused=True)

    def step(self, loss: Tensor) -> Tensor:
        """Descend. Errors: Divergence, before anything was changed, when loss or gradient is not finite."""
        if not torch.isfinite(loss):
            raise Divergence(self.name, "loss")
        # Gradients of these parameters alone: what else the loss touched is left as it is.
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = gradient
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if not torch.isfinite(norm):
            raise Divergence(self.name, "gradient")
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict:
        return self.adam.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.adam.load_state_dict(state)
