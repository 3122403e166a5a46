"""Videos of training: decoded latents beside their images, and the running episode."""

from collections.abc import Sequence

import numpy as np

from foreground.agents.base import Agent
from foreground.training import pictures, system
from foreground.training.replay import Replay

ROWS = 64  # of a video


def latents(agent: Agent, replay: Replay) -> np.ndarray | None:
    """Return images of the replay beside their decoded latents and the difference, (T, H, W, C).

    None where the agent decodes no images, or where there are too few rows.
    """
    length = min(ROWS, replay.rows_per_stream)
    if not replay.can_sample(length) or not agent.spec.renders:
        return None
    with system.random_kept(agent.device):  # looking must not change the run
        batch = replay.peek(2, length)
        kept = agent.render(batch)
    # Three of (2, T, H, W, C)
    panels = pictures.latent_panels(batch["image"].cpu().numpy(), kept.cpu().numpy())
    tiles = [panel[row] for row in range(len(kept)) for panel in panels]
    labels = pictures.LABELS * len(kept)
    return np.stack(list(pictures.pages(tiles, labels, columns=3, side=pictures.GIF)))


def episode(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return a labelled video of an episode, (T, H, W, C).

    images   each (H, W, C)
    """
    return np.stack(
        list(pictures.pages([np.stack(images)], ["training episode, with exploration"]))
    )
