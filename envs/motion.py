"""An agent behind the agent: the recorded motion of a robot as clips (a distractor of InfoPower's
paper).
"""

from collections.abc import Iterator

import numpy as np

from foreground.envs.sources import sum_of_text

VERSION = 1  # raise when the pictures change
CLIPS = {"train": 12, "heldout": 6}
FIRST_SEED = {"train": 0, "heldout": 1_000_000}  # the sides share no episode
CLIP_FRAMES = 125
SMOOTHNESS = 0.9  # correlation of an action with the one before


def clips(task: str, side: str, size: int) -> Iterator[tuple[str, str, str, Iterator[np.ndarray]]]:
    """Yield (name, recording, sum, frames) for each episode of a side; frames are (size, size, 3)
    uint8.
    """
    environment = _environment(task, size)
    for seed in range(FIRST_SEED[side], FIRST_SEED[side] + CLIPS[side]):
        name = f"{task}-{seed}"
        yield (
            name,
            name,
            sum_of_text(f"motion of {name}, version {VERSION}"),
            _episode(environment, seed, CLIP_FRAMES),
        )
    environment.close()


def record_motion(task: str, seed: int, frames: int = CLIP_FRAMES, size: int = 64) -> np.ndarray:
    """Return one episode of `task` under smooth random actions, (frames, H, W, 3) uint8.

    It has the task's own sky and floor.
    """
    environment = _environment(task, size)
    recorded = np.stack(list(_episode(environment, seed, frames)))
    environment.close()
    return recorded


def _environment(task: str, size: int):
    # Imported here: it imports MuJoCo, and this module is imported with the options.
    from foreground.envs.dmc import DMCEnv

    return DMCEnv(task, size=size)


def _episode(environment, seed: int, frames: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    action = np.zeros(environment.action_space.shape)
    picture, _ = environment.reset(seed=seed)
    for _ in range(frames):
        yield picture
        noise = random.standard_normal(action.shape)
        action = SMOOTHNESS * action + np.sqrt(1 - SMOOTHNESS**2) * noise
        picture, _, terminated, truncated, _ = environment.step(np.clip(action, -1, 1))
        if terminated or truncated:
            picture, _ = environment.reset()
