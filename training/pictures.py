"""What people look at: an observation, what the latent keeps of it, and the difference."""

import numpy as np


def beside(observed: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """uint8 (..., H, W, 3), the same -> (..., H, 3W, 3): observation, decoded latent, size of the difference."""
    difference = np.abs(observed.astype(np.int16) - kept.astype(np.int16)).astype(np.uint8)
    return np.concatenate([observed, kept, difference], -2)
