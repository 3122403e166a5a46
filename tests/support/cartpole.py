"""Model dm_control's cartpole-swingup in closed form, as an exact, differentiable world model.

The actor-critic is tested alone on it: no learned model can teach it what it does not learn here.
"""

import math

import torch
from torch import Tensor

from foreground.agents.actor_critic import Imagined
from foreground.world_models.rssm import State

CART, POLE, HALF_LENGTH, GRAVITY, FORCE, RAIL, TIMESTEP = 1.0, 0.1, 0.5, 9.81, 10.0, 1.8, 0.01
INERTIA = POLE * (2 * HALF_LENGTH) ** 2 / 12 + POLE * HALF_LENGTH**2  # about the hinge
COUPLING = POLE * HALF_LENGTH


class Cartpole:
    """Stands for a world model: `deterministic` is the state (N, 4), `stochastic` what the policy
    reads (N, 5).
    """

    continuation = None

    def __init__(self, action_repeat: int = 4):
        self.action_repeat = action_repeat

    def state(self, physics: Tensor) -> State:
        """(N, 4) -> State: position, cosine, sine and scaled velocities, which the policy reads."""
        x, angle, speed, spin = physics.unbind(-1)
        return State(physics, torch.stack([x, angle.cos(), angle.sin(), speed, spin / 3], -1))

    def imagine(self, state: State, action: Tensor) -> State:
        """One agent step: action (N, 1)."""
        physics = state.deterministic
        for _ in range(self.action_repeat):
            physics = substep(physics, action[..., 0])
        return self.state(physics)

    def reward(self, imagined: Imagined) -> Tensor:
        """cartpole-swingup's, summed over the action repeat: (H, N)."""
        return (
            swingup_reward(imagined.following.deterministic, imagined.action[..., 0].clamp(-1, 1))
            * self.action_repeat
        )


def substep(physics: Tensor, action: Tensor) -> Tensor:
    """0.01 s of semi-implicit Euler: (N, 4), (N,) -> (N, 4).

    Lagrange's equations of a cart and a uniform rod.
    """
    x, angle, speed, spin = physics.unbind(-1)
    coupling = COUPLING * angle.cos()
    force = FORCE * action - 5e-4 * speed + COUPLING * angle.sin() * spin**2
    torque = COUPLING * GRAVITY * angle.sin()
    determinant = (CART + POLE) * INERTIA - coupling**2
    speed = speed + TIMESTEP * (force * INERTIA - coupling * torque) / determinant
    spin = spin + TIMESTEP * ((CART + POLE) * torque - coupling * force) / determinant
    x, angle = x + TIMESTEP * speed, angle + TIMESTEP * spin
    # The end of the rail stops the cart, and the stop kicks the pole.
    stopped = (x.abs() > RAIL) & (x * speed > 0)
    spin = torch.where(stopped, spin + coupling / INERTIA * speed, spin)
    speed = torch.where(stopped, torch.zeros_like(speed), speed)
    return torch.stack([x.clamp(-RAIL, RAIL), angle, speed, spin], -1)


def swingup_reward(physics: Tensor, action: Tensor) -> Tensor:
    """The task's reward of one env frame, 0 to 1 (dm_control.suite.cartpole, smooth version)."""
    x, angle, _, spin = physics.unbind(-1)

    def near_zero(value: Tensor, margin: float) -> Tensor:
        return torch.exp(math.log(0.1) * (value / margin) ** 2)  # 0.1 at the margin

    upright, centred = (1 + angle.cos()) / 2, (1 + near_zero(x, 2)) / 2
    return upright * centred * (5 - action**2) / 5 * (1 + near_zero(spin, 5)) / 2


def hanging(number: int) -> Tensor:
    """Start states (N, 4): the pole hangs down."""
    physics = 0.01 * torch.randn(number, 4)
    physics[:, 1] += math.pi
    return physics
