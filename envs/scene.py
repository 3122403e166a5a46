"""What is drawn of a simulation: the robot in front of a video, or the task's own image."""

import cv2
import numpy as np

from foreground.envs.distraction import Distraction
from foreground.envs.playback import Background
from foreground.envs.rendering import Renderer, colour_rule_mask, composite


def draw(
    renderer: Renderer,
    background: Background | None,
    mask: str,
    distraction: Distraction | None = None,
) -> np.ndarray:
    """Return uint8 (H, W, 3): the plain picture, or the robot before the video's frame.

    mask         what the video replaces, one of envs.dmc.MASKS
    distraction  what else changes in the picture; None: nothing
    """
    if distraction is None:
        return _drawn(renderer, background, mask)
    with distraction.applied(renderer):
        picture = _drawn(renderer, background, mask)
    return distraction.seen(picture)


def _drawn(renderer: Renderer, background: Background | None, mask: str) -> np.ndarray:
    if background is None:
        return renderer.picture()
    plain = renderer.picture() if mask == "colour" or background.window else None
    behind = _behind(background, renderer.size, plain)
    if mask == "colour":
        return np.where(colour_rule_mask(plain)[..., None], plain, behind)
    return composite(*renderer.foreground(), behind)


def _behind(background: Background, size: int, plain: np.ndarray | None) -> np.ndarray:
    """Return the video's frame at `size`; outside of the video's window it is the plain picture."""
    frame = background.frame()
    if frame.shape[0] != size:
        frame = cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR)
    if not background.window:
        return frame
    inside = background.window_slices(size)
    behind = plain.copy()
    behind[inside] = frame[inside]
    return behind
