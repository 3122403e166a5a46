"""Whether a run fits in memory, before its networks are made: from shapes alone.

What an update holds is estimated from what the encoder and imagination keep for the gradient.
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
# An update holds so many times what its encoder keeps for the gradient in float32, or more: at the cpu size the peak_rss_mb of
# update_speed.py rises by 2.7 times that from a batch of 8x32 to one of 32x32. In bfloat16 half.
AROUND_ENCODER = {"cpu": 2.5, "cuda": 1.2}
# As many times what imagination keeps: 1.3 times at the cpu size with 4,096 starts, 1.5 at 12m along the path.
AROUND_IMAGINATION = 1.5


def check_model(config: RunConfig, space: gymnasium.spaces.Box, device: torch.device | str) -> int:
    """Bytes that an update needs on the device, before the networks are made.

    Errors: UserError when they, a batch, or what is imagined from it do not fit in the memory that is free there.
    """
    spaces, training = spaces_of(config, space), config.training
    number = number_of_parameters(config.agent_config, spaces)
    kind = torch.device(device).type
    free = torch.cuda.mem_get_info()[0] if kind == "cuda" else free_memory()
    networks = number * BYTES_PER_PARAMETER
    if networks > free:
        what = f"{number:,} parameters need {networks / GIBIBYTE:.1f} GiB to learn and {free / GIBIBYTE:.1f} GiB are free"
        raise UserError(what, "--size", "choose a smaller one, or fewer units")
    rows, frozen = training.batch_size * training.batch_length, "model" not in config.learners
    seen = 0 if frozen else AROUND_ENCODER[kind] * bytes_per_image(config.agent_config, spaces) * rows  # frozen: no gradient
    ahead = AROUND_IMAGINATION * bytes_of_imagination(config.agent_config, spaces, rows)
    needed = networks + max(seen, ahead)  # one after the other
    if needed > free:
        need = f"needs {needed / GIBIBYTE:.1f} GiB and {free / GIBIBYTE:.1f} GiB are free"
        if ahead > seen:
            remedy = "choose fewer, or a shorter --actor_critic.horizon"
            raise UserError(f"imagination from as many starts {need}", "--actor_critic.imag_starts", remedy)
        what = f"an update of {training.batch_size}x{training.batch_length} {need}"
        raise UserError(what, "--training.batch_size", "choose a smaller batch, or a smaller --size")
    return int(needed)


def number_of_parameters(config: AgentConfig, spaces: Spaces) -> int:
    """Of an agent that is not made: shapes alone, no memory."""
    return sum(parameter.numel() for parameter in of_shapes(config, spaces).parameters())


def bytes_per_image(config: AgentConfig, spaces: Spaces) -> int:
    """What the encoder keeps of an image until the gradient has passed, in float32; of shapes alone."""
    side, encoder = spaces.image_size, of_shapes(config, spaces).world_model.encoder

    def seen(number: int) -> int:
        images = torch.empty(number, 1, side, side, 3, dtype=torch.uint8, device="meta")
        return kept_bytes(lambda: encoder(images, torch.empty(number, 1, dtype=torch.bool, device="meta")))

    return seen(2) - seen(1)  # the difference, since some of it is kept for all images together


def bytes_of_imagination(config: AgentConfig, spaces: Spaces, rows: int) -> int:
    """What actor and critics keep of a batch of so many rows until their gradient has passed, in float32; of shapes alone.

    It grows with starts times horizon. 0 for agents that imagine in other ways.
    """
    if config.commander != "skill_prior" or "imagination" not in config.learners:
        return 0

    def kept(horizon: int) -> int:
        """What one more start adds."""
        agent = of_shapes(replace(config, actor_critic=replace(config.actor_critic, horizon=horizon)), spaces)
        totals = []
        for number in (1, 2):
            start = agent.world_model.initial(number, torch.device("meta"))
            condition = torch.empty(number, spaces.condition, device="meta") if spaces.condition else None
            rewards = agent.learners["imagination"].rewards
            loss = functools.partial(agent.actor_critic.loss, agent.world_model, start, rewards, condition)
            totals.append(kept_bytes(loss))
        return totals[1] - totals[0]

    step = kept(2) - kept(1)
    return step * config.actor_critic.horizon * min(config.actor_critic.imag_starts or rows, rows)


def kept_bytes(call: Callable[[], object]) -> int:
    """Bytes of the tensors that a call keeps for its gradient."""
    kept: list[torch.Tensor] = []
    with (
        torch.device("meta"),
        torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value),
    ):
        call()
    storages = {value.untyped_storage()._cdata: value.untyped_storage().nbytes() for value in kept}
    return sum(storages.values())
