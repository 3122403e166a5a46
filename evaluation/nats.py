"""Mutual information in nats by two external estimators: k nearest neighbours and diffusion
spectral entropy.

Both get a probe's prediction of a number and the number itself, one pair of columns at a time. The
information of the prediction is at most that of the latent (data processing), and in two dimensions
both estimators are reliable.

Shapes: m steps, K columns.
"""

import random

import numpy as np
from dse_dsmi.dsmi import diffusion_spectral_mutual_information
from sklearn.feature_selection import mutual_info_regression
from sklearn.metrics import mutual_info_score

# Of the diffusion kernel, in standard deviations: nearest to the truth for Gaussians of every
# correlation.
SIGMA = 0.5
BINS = 10  # of the number, for the diffusion estimate, which is thus at most ln 10
STEPS = 2000  # at most, evenly spaced: both grow faster than the number of steps


def of_columns(reading: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Return means over the columns of (m, K) and (m, K): `knn` (Kraskov et al. 2004, scikit-learn)
    and `diffusion`.

    The latter is DSMI (Liao et al. 2023, package dse-dsmi), converted from bits to nats.
    """
    chosen = np.linspace(0, len(true) - 1, min(len(true), STEPS)).astype(int)
    pairs = [
        (_standardised(a), _standardised(b)) for a, b in zip(reading[chosen].T, true[chosen].T)
    ]
    neighbours = [float(mutual_info_regression(a[:, None], b, random_state=0)[0]) for a, b in pairs]
    return {
        "knn": float(np.mean(neighbours)),
        "diffusion": float(np.mean([_diffusion(a, b) for a, b in pairs])),
    }


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
