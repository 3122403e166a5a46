"""Check, from shapes only, whether a run fits in memory, before its networks are made.

The memory of an update is estimated from the tensors that encoder and imagination keep for the
gradient.
"""

import functools
from collections.abc import Callable
from dataclasses import replace

import gymnasium
import torch

from foreground.agents.config import AgentConfig
from foreground.build import GIBIBYTE, of_shapes, spaces_of
from foreground.configs.run import RunConfig
from foreground.errors import UserError
from foreground.training.system import free_memory
from foreground.world_models.world_model import Spaces

BYTES_PER_PARAMETER = 16  # float32: the weight, its gradient and Adam's two moments
# Memory of an update as a multiple of what the encoder keeps for the gradient in float32. At the
# cpu size the peak_rss_mb of update_speed.py grows by 2.7 times that from a batch of 8x32 to one of
# 32x32. In bfloat16 it is half.
AROUND_ENCODER = {"cpu": 2.5, "cuda": 1.2}
# The same for imagination: 1.3 times at the cpu size with 4,096 starts, 1.5 at 12m with actor_grad
# dynamics.
AROUND_IMAGINATION = 1.5


def check_model(config: RunConfig, space: gymnasium.spaces.Box, device: torch.device | str) -> int:
    """Return the bytes that an update needs on the device.

    Raises: UserError when networks, batch or imagination do not fit in the free memory there.
    """
    spaces = spaces_of(config, space)
    training = config.training
    number = number_of_parameters(config.agent_config, spaces)
    kind = torch.device(device).type
    free = torch.cuda.mem_get_info()[0] if kind == "cuda" else free_memory()
    networks = number * BYTES_PER_PARAMETER
    if networks > free:
        what = (
            f"{number:,} parameters need {networks / GIBIBYTE:.1f} GiB to learn and "
            f"{free / GIBIBYTE:.1f} GiB are free"
        )
        raise UserError(what, "--size", "choose a smaller one, or fewer units")
    rows = training.batch_size * training.batch_length
    frozen = "model" not in config.learners  # without gradient
    seen = (
        0 if frozen else AROUND_ENCODER[kind] * bytes_per_image(config.agent_config, spaces) * rows
    )
    ahead = AROUND_IMAGINATION * bytes_of_imagination(config.agent_config, spaces, rows)
    needed = networks + max(seen, ahead)  # one is freed before the other
    if needed > free:
        need = f"needs {needed / GIBIBYTE:.1f} GiB and {free / GIBIBYTE:.1f} GiB are free"
        if ahead > seen:
            remedy = "choose fewer, or a shorter --actor_critic.horizon"
            raise UserError(
                f"imagination from as many starts {need}", "--actor_critic.imag_starts", remedy
            )
        what = f"an update of {training.batch_size}x{training.batch_length} {need}"
        raise UserError(
            what, "--training.batch_size", "choose a smaller batch, or a smaller --size"
        )
    return int(needed)


def number_of_parameters(config: AgentConfig, spaces: Spaces) -> int:
    """Return the number of parameters of an agent, from shapes only."""
    return sum(parameter.numel() for parameter in of_shapes(config, spaces).parameters())


def bytes_per_image(config: AgentConfig, spaces: Spaces) -> int:
    """Return the bytes, in float32, that the encoder keeps of an image for the gradient."""
    side = spaces.image_size
    encoder = of_shapes(config, spaces).world_model.encoder

    def seen(number: int) -> int:
        images = torch.empty(number, 1, side, side, 3, dtype=torch.uint8, device="meta")
        return kept_bytes(
            lambda: encoder(images, torch.empty(number, 1, dtype=torch.bool, device="meta"))
        )

    return seen(2) - seen(1)  # the difference, since some tensors are common to all images


def bytes_of_imagination(config: AgentConfig, spaces: Spaces, rows: int) -> int:
    """Return the bytes, in float32, that actor and critics keep of a batch of `rows` for the
    gradient.

    They grow with starts times horizon. Return 0 for agents that imagine in other ways.
    """
    if (
        config.commander not in ("skill_prior", "goal_prior")
        or "imagination" not in config.learners
    ):
        return 0

    def kept(horizon: int) -> int:
        """Return the bytes of one more start."""
        agent = of_shapes(
            replace(config, actor_critic=replace(config.actor_critic, horizon=horizon)), spaces
        )
        totals = []
        for number in (1, 2):
            start = agent.world_model.initial(number, torch.device("meta"))
            condition = (
                torch.empty(number, spaces.condition, device="meta") if spaces.condition else None
            )
            rewards = agent.learners["imagination"].rewards
            loss = functools.partial(
                agent.actor_critic.loss, agent.world_model, start, rewards, condition
            )
            totals.append(kept_bytes(loss))
        return totals[1] - totals[0]

    step = kept(2) - kept(1)
    return step * config.actor_critic.horizon * min(config.actor_critic.imag_starts or rows, rows)


def kept_bytes(call: Callable[[], object]) -> int:
    """Return the bytes of the tensors that a call keeps for its gradient."""
    kept: list[torch.Tensor] = []
    with (
        torch.device("meta"),
        torch.autograd.graph.saved_tensors_hooks(
            lambda value: kept.append(value) or value, lambda value: value
        ),
    ):
        call()
    storages = {value.untyped_storage()._cdata: value.untyped_storage().nbytes() for value in kept}
    return sum(storages.values())
