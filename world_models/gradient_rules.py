"""Rules that weigh the information terms by their gradients in the embedding, which all share.

They leave fixed weights to everything above the embedding: heads, critics and the recurrent model.
They decide what reaches the encoder, where the terms compete. Each term needs a backward pass from
its value to the embedding.

Shapes: B batch, T time, E embedding, K terms.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

SMALL = 1e-4  # of the largest norm: a gradient below it has no direction
Directed = tuple[Tensor, dict[str, Tensor]]


class ByGradient(nn.Module):
    """loss = - sum_k w_k I_k, with another gradient in the embedding.

    direct   weighted gradients of the terms in the embedding (K, B, T, E) -> the one to ascend
             (B, T, E), and metrics; those of K numbers are named by the terms. The order of the
             terms is that of `weights`
    """

    validates = False
    recordable = False  # values pass the host, and compiled terms have one backward pass only

    def __init__(self, weights: dict[str, float], direct: Callable[[Tensor], Directed]):
        super().__init__()
        self.weights, self.direct = weights, direct

    def forward(
        self, values: dict[str, Tensor], shared: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Values (scalars, nats), embedding (B, T, E) -> (loss, metrics)."""
        values = {name: values[name] for name in self.weights}
        loss = -sum(self.weights[name] * value for name, value in values.items())
        if shared is None or not shared.requires_grad or not torch.is_grad_enabled():
            return loss, {}
        rows = torch.stack([self.weights[k] * slope(value, shared) for k, value in values.items()])
        wanted, found = self.direct(rows)
        # Zero in value; its gradient replaces that of the plain sum.
        change = ((rows.sum(0) - wanted).detach() * shared.float()).sum()
        metrics = {}
        for key, row in found.items():
            names = [f"{key}_{name}" for name in values] if row.dim() else [key]
            metrics |= dict(zip(names, row.reshape(-1)))
        return loss + change - change.detach(), metrics

    def dual_step(self, values: dict[str, Tensor]) -> None:
        """Do nothing: the weights are those of each batch."""


def slope(value: Tensor, shared: Tensor) -> Tensor:
    """Return the gradient of a value in the embedding, in float32; zeros where none reaches it."""
    found = (
        torch.autograd.grad(value, shared, retain_graph=True, allow_unused=True)[0]
        if value.requires_grad
        else None
    )
    return torch.zeros_like(shared, dtype=torch.float32) if found is None else found.float()


def nearest_to_zero(gram: np.ndarray) -> np.ndarray:
    """Return the convex weights (K,) of K vectors whose weighted sum is shortest, by their products
    (K, K).

    They are the b >= 0 that minimise |sum_k b_k v_k|^2 + (sum_k b_k - 1)^2, over their sum.
    """
    from scipy.optimize import nnls  # slow to import, and only these rules need it

    values, vectors = np.linalg.eigh(gram)
    root = vectors * np.sqrt(values.clip(0))  # root root^T = gram
    rows = np.vstack([root.T, np.ones(len(gram))])
    found = nnls(rows, np.eye(len(rows))[-1])[0]
    return found / found.sum()


def multiple_gradient(rows: Tensor) -> Directed:
    """Return the shortest vector in the hull of the terms' unit gradients (ParetoGNN, arXiv
    2210.02016; MGDA, Desideri 2012).

    No term falls along it, to first order. It is zero where no direction raises all of them, which
    is Pareto stationary. Its length is scaled by the sum of the norms, so that terms which agree
    have the gradient of fixed weights. A term without a gradient takes no part.
    """
    flat = rows.flatten(1)
    norms = flat.norm(dim=1)
    there = norms > SMALL * norms.max()
    shares = torch.zeros_like(norms)
    if not bool(there.any()):
        return rows.sum(0), {"share": shares, "descent": norms.sum()}
    units = flat[there] / norms[there].unsqueeze(1)
    gram = (units @ units.T).double().cpu().numpy()
    shares[there] = torch.from_numpy(nearest_to_zero(gram)).to(norms)
    shortest = (shares[there].unsqueeze(1) * units).sum(0)
    direction = (norms.sum() * shortest).view_as(rows[0])
    return direction, {"share": shares, "descent": shortest.norm()}


def game(rows: Tensor, competition: float, common: tuple[int, ...] = ()) -> Directed:
    """Return the gradient of a game in which each playing term owns an equal block of the
    embedding's coordinates (MCR, arXiv 2411.07335).

    A block ascends the common terms, and its own term plus `competition` times those of the others:
    -1 is greedy, 0 independent, 1 collaborative. The last is the gradient of fixed weights.

    common   numbers of the terms that do not play
    """
    size = rows.shape[-1]
    playing = [k for k in range(len(rows)) if k not in common]
    players = rows[playing]  # (P, B, T, E)
    owner = torch.arange(size, device=rows.device) * len(playing) // size  # (E,)
    player = torch.arange(len(playing), device=rows.device).unsqueeze(1)
    owned = players * (owner == player).view(-1, 1, 1, size)
    others = players.sum(0) - owned.sum(0)
    share = torch.ones(len(rows), device=rows.device)
    norms = players.flatten(1).norm(dim=1)
    share[playing] = owned.flatten(1).norm(dim=1) / norms.clamp(min=1e-12)
    return rows.sum(0) - others + competition * others, {"share": share}
