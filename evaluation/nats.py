"""Mutual information in nats by three estimators: k nearest neighbours, diffusion spectral entropy,
and nearest neighbours after lossy compression.

The first two get a probe's prediction of a number and the number itself, one pair of columns at a
time. The third gets the latent, compressed to a few numbers, and the number. The information of a
prediction or a compression is at most that of the latent (data processing), and in so few
dimensions the estimators are reliable.

Shapes: m steps, F features of the latent, K columns.
"""

import random

import numpy as np
from dse_dsmi.dsmi import diffusion_spectral_mutual_information
from scipy.spatial import KDTree
from scipy.special import digamma
from sklearn.decomposition import PCA
from sklearn.feature_selection import mutual_info_regression
from sklearn.metrics import mutual_info_score

# Of the diffusion kernel, in standard deviations: nearest to the truth for Gaussians of every
# correlation.
SIGMA = 0.5
BINS = 10  # of the number, for the diffusion estimate, which is thus at most ln 10
KEPT = 4  # principal components of the latent that the compression keeps
NEIGHBOURS = 3
STEPS = 2000  # at most, evenly spaced: both grow faster than the number of steps


def of_columns(reading: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return means over the columns of (m, K) and (m, K): `knn` (Kraskov et al. 2004, scikit-learn)
    and `diffusion`.

    The latter is DSMI (Liao et al. 2023, package dse-dsmi), converted from bits to nats.
    """
    chosen = _chosen(true)
    pairs = [
        (_standardised(a), _standardised(b)) for a, b in zip(reading[chosen].T, true[chosen].T)
    ]
    neighbours = [float(mutual_info_regression(a[:, None], b, random_state=0)[0]) for a, b in pairs]
    return {
        "knn": float(np.mean(neighbours)),
        "diffusion": float(np.mean([_diffusion(a, b) for a, b in pairs])),
    }


def compressed(latent: np.ndarray, true: np.ndarray) -> float:
    """Return the mean over the columns of (m, K) of their information with the first principal
    components of a latent (m, F), by nearest neighbours (Butakov et al. 2024, arXiv 2305.08013).

    It needs no probe. What lies in none of these components is lost.
    """
    chosen = _chosen(true)
    rows = latent[chosen] - latent[chosen].mean(0)
    kept = PCA(min(KEPT, *rows.shape), random_state=0).fit_transform(rows)
    kept = kept / (kept.std(0).max() + 1e-8)  # in proportion: small components are mostly noise
    columns = [_standardised(column)[:, None] for column in true[chosen].T]
    return float(np.mean([max(0.0, _neighbours(kept, column)) for column in columns]))


def _neighbours(left: np.ndarray, right: np.ndarray) -> float:
    """Return I of two sets of columns (m, X), (m, Y) by nearest neighbours (Kraskov et al. 2004,
    Eq. 8).
    """
    joint = KDTree(np.hstack([left, right]))
    # The point itself is its own nearest neighbour. Counts are of points strictly within.
    radius = joint.query(joint.data, NEIGHBOURS + 1, p=np.inf)[0][:, -1]
    radius = np.nextafter(radius, 0)
    counts = [
        KDTree(side).query_ball_point(side, radius, p=np.inf, return_length=True)
        for side in (left, right)
    ]  # with the point itself: n + 1
    near = sum(digamma(count).mean() for count in counts)
    return float(digamma(NEIGHBOURS) + digamma(len(left)) - near)


def _chosen(rows: np.ndarray) -> np.ndarray:
    """Return the steps that are read, evenly spaced."""
    return np.linspace(0, len(rows) - 1, min(len(rows), STEPS)).astype(int)


def of_labels(reading: np.ndarray, true: np.ndarray) -> float:
    """Return the information between two columns of labels (m,), by counting; at most the entropy
    of the labels.
    """
    return float(mutual_info_score(true, reading))


def _diffusion(a: np.ndarray, b: np.ndarray) -> float:
    state = random.getstate()  # the package seeds Python's generator
    try:
        bits, _ = diffusion_spectral_mutual_information(
            a[:, None],
            b[:, None],
            reference_discrete=False,
            gaussian_kernel_sigma=SIGMA,
            n_clusters=BINS,
        )
    finally:
        random.setstate(state)
    return float(bits) * np.log(2)


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / (x.std() + 1e-8)
