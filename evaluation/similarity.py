"""Behavioural similarity (InfoPower, Sec. 5): are steps near each other in the latent where the simulator's states are?

Two complete graphs over the same steps, of the distances in the latent and in the state, compared by the shortest-path
graph kernel (Borgwardt and Kriegel 2005, package grakel). The paper does not say how it labels nodes or counts lengths.
Here a node's label is its step (unlabelled, any two clouds of points score above 0.99), and a length is the fifth of all
distances that it belongs to, so that no unit matters: the kernel is the share of pairs of steps in the same fifth.
Shapes: n steps, F features, S numbers of the state.
"""

import numpy as np
from grakel import Graph
from grakel.kernels import ShortestPath
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

LEVELS = 5
STEPS = 150


def similarity(latent: np.ndarray, state: np.ndarray, seed: int = 0) -> float:
    """(n, F), (n, S) -> 1 for the same distances up to a monotone function, about 1/5 for unrelated ones.

    Columns of the state are standardised: they have units of their own. Of more than 150 steps as many are drawn.
    """
    chosen = np.random.default_rng(seed).permutation(len(state))[:STEPS]
    state = (state - state.mean(0)) / (state.std(0) + 1e-8)
    graphs = [_graph(latent[chosen]), _graph(state[chosen])]
    kernel = ShortestPath(normalize=True, with_labels=True, algorithm_type="floyd_warshall")
    return float(kernel.fit_transform(graphs)[0, 1])  # k(a, b) / sqrt(k(a, a) k(b, b))


def _graph(points: np.ndarray) -> Graph:
    """The complete graph over the rows of (n, D). Lengths lie within [1, 2): no detour is ever shorter than the edge."""
    ranks = rankdata(pdist(points), "ordinal") - 1
    lengths = 1 + np.floor(LEVELS * ranks / len(ranks)) / LEVELS
    pairs = np.stack(np.triu_indices(len(points), 1), 1).tolist()  # pdist's order
    edges = {tuple(pair): length for (i, j), length in zip(pairs, lengths.tolist()) for pair in ((i, j), (j, i))}
    return Graph(edges, {index: index for index in range(len(points))}, graph_format="all")
