"""Behavioural similarity (InfoPower, Sec. 5): are steps close in the latent where states are close?

Two complete graphs over the same steps, of distances in the latent and in the state, are compared
by the shortest-path graph kernel (Borgwardt and Kriegel 2005). The paper does not say how it labels
nodes or discretises lengths. Here the label of a node is its step: without labels any two clouds of
points score above 0.99. A length is the fifth of all distances that it belongs to, so that units do
not matter. On such graphs the kernel is the share of pairs of steps in the same fifth.
Shapes: n steps, F features, S numbers of the state.
"""

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

LEVELS = 5
STEPS = 150


def similarity(latent: np.ndarray, state: np.ndarray, seed: int = 0) -> float:
    """Return how alike the distances within (n, F) and (n, S) are.

    It is 1 for the same distances up to a monotone function, and about 1/5 for unrelated ones.
    Columns of the state are standardised, since their units differ. Of more than 150 steps, 150
    are drawn.
    """
    chosen = np.random.default_rng(seed).permutation(len(state))[:STEPS]
    state = (state - state.mean(0)) / (state.std(0) + 1e-8)
    return float(np.mean(_levels(latent[chosen]) == _levels(state[chosen])))


def _levels(points: np.ndarray) -> np.ndarray:
    """Return the fifth of all distances that each pair's is in, (n, D) -> (n (n - 1) / 2,)."""
    ranks = rankdata(pdist(points), "ordinal") - 1
    return np.floor(LEVELS * ranks / len(ranks))
