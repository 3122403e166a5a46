"""The term of SepCLR (arXiv 2402.11928): what images with a robot have, and frames of the clip
alone have not.

Shapes: B batch, T time, N = B*T, E embedding, S size of the common space.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foreground.world_models.networks import Encoder
from foreground.world_models.terms import TrainSequence

TAU = 0.5  # variance of the kernels, the authors'
COMMON = 32  # size S, the authors'


def log_kernel(rows: Tensor) -> Tensor:
    """Return - |x_i - x_j|^2 / (2 tau) of all pairs of rows, (N, E) -> (N, N)."""
    square = rows.square().sum(-1)
    distance = square.unsqueeze(-1) + square.unsqueeze(-2) - 2 * rows @ rows.T
    return -distance.clamp(min=0) / (2 * TAU)


def spread(rows: Tensor) -> Tensor:
    """Return - ln mean_ij k(x_i, x_j), the uniformity: 0 for equal rows, at most ln N."""
    return -log_kernel(rows).exp().mean().log()


def joint_spread(left: Tensor, right: Tensor) -> Tensor:
    """Return - mean_i ln mean_j k(x_i, x_j) k(y_i, y_j), the joint entropy by a kernel, at most
    ln N: largest where no part of the one is known from the other.
    """
    return -(log_kernel(left) + log_kernel(right)).exp().mean(-1).log().mean()


class SalientTerm(nn.Module):
    """SepCLR: the embedding is the salient space, an encoder of the term's own the common one.

    It reads frames of the clip alone, which an agent of pixels does not have: an oracle. In nats:

        - E |e(clip) - e'|^2 / (2 tau)        clips have one embedding e', without information
        spread of e(images) and e'            images differ in it, and from e'
        - E |c(image) - c(clip)|^2 / (2 tau)  an image and its clip have the clip in common
        spread of c                           clips differ in it
        joint spread of c and e               neither tells of the other

    Distances in the embedding are means over its coordinates.
    """

    def __init__(self, config, encoder: Encoder, image_size: int):
        super().__init__()
        # Not the encoder itself: as a submodule of both, it would be saved twice.
        self.salient = encoder.forward
        self.common = Encoder(image_size, config.depth, COMMON, config.stem, config.frame_stack)

    def forward(self, sequence: TrainSequence) -> tuple[Tensor, dict[str, Tensor]]:
        clip, first = sequence.extra["clip"], sequence.is_first
        images, clips = sequence.embedding, self.salient(clip, first)
        common = [self.common(seen, first) for seen in (sequence.image, clip)]
        with torch.autocast(images.device.type, enabled=False):
            images, clips, *common = (x.float().flatten(0, 1) for x in (images, clips, *common))
            images, clips = (x / x.shape[-1] ** 0.5 for x in (images, clips))
            one, other = (F.normalize(x, dim=-1) for x in common)
            empty = clips.mean(0).detach()
            away = (clips - empty).square().sum(-1).mean()
            apart = (one - other).square().sum(-1).mean()
            salient = torch.cat([images, empty.expand_as(clips)])
            shared = torch.cat([one, other])
            value = -(away + apart) / (2 * TAU) + spread(salient) + spread(shared)
            value = value + joint_spread(shared, salient)
        with torch.no_grad():
            variance = (images - images.mean(0)).square().sum(-1).mean()
            metrics = {"left_in": away / variance.clamp(min=1e-8), "alignment": 1 - apart / 2}
        return value, metrics
