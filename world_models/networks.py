"""Perceptrons with layer norm, block-diagonal layers, image encoder and decoder.

Shapes: N any leading axes, B batch, T time, E embedding, G blocks. Images are uint8 (..., H, W, C)
until the encoder.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def initialise(weight: Tensor, fan_in: int, fan_out: int, scale: float = 1.0) -> None:
    """Fill a weight as DreamerV3 does: truncated normal, variance scale / mean fan; scale 0 gives
    zeros.
    """
    if scale == 0:
        nn.init.zeros_(weight)
        return
    # The constant corrects for the truncation at 2 sigma.
    std = math.sqrt(scale * 2.0 / (fan_in + fan_out)) / 0.87962566
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def linear(inputs: int, outputs: int, scale: float = 1.0, bias: bool = True) -> nn.Linear:
    """Return a dense layer initialised by `initialise`; with scale 0 a head starts at its prior."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    initialise(layer.weight, inputs, outputs, scale)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Sequential):
    """(N, inputs) -> (N, units): `layers` of dense, layer norm, SiLU; with `outputs` one more dense
    layer.
    """

    def __init__(
        self, inputs: int, units: int, layers: int, outputs: int = 0, output_scale: float = 1.0
    ):
        parts: list[nn.Module] = []
        for index in range(layers):
            # LayerNorm, not RMSNorm: only the former is fused on a CPU (four times faster there).
            parts += [
                linear(inputs if index == 0 else units, units, bias=False),
                nn.LayerNorm(units),
                nn.SiLU(),
            ]
        if outputs:
            parts.append(linear(units, outputs, output_scale))
        super().__init__(*parts)


class BlockLinear(nn.Module):
    """(N, inputs) -> (N, outputs) by G independent dense blocks (block-diagonal weights,
    DreamerV3).

    Weights are stored as (G, in/G, out/G), so that the product is one batched matrix product.

    Raises: ValueError when a size is not a multiple of G.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int):
        super().__init__()
        if inputs % blocks or outputs % blocks:
            raise ValueError(f"sizes {inputs} and {outputs} must be multiples of blocks={blocks}")
        self.blocks = blocks
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))
        initialise(self.weight.data, inputs // blocks, outputs // blocks)

    def forward(self, x: Tensor) -> Tensor:
        if self.blocks == 1:
            return torch.addmm(self.bias, x, self.weight[0])
        grouped = x.unflatten(-1, (self.blocks, -1)).transpose(0, 1)  # (G, N, in/G)
        product = torch.bmm(grouped, self.weight)  # (G, N, out/G)
        return product.transpose(0, 1).flatten(1) + self.bias  # (N, outputs)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel of (N, C, H, W).

    Input and output are channels_last.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        # Both permutations are views where x is channels_last.
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def image_to_float(image: Tensor) -> Tensor:
    """uint8 (..., H, W, C) -> float (N, C, H, W) in [-0.5, 0.5], channels_last in memory."""
    flat = image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2)
    return flat.float().div_(255.0).sub_(0.5)


# Luminance and two colour differences: RGB -> rows. In natural video luminance varies most
# (deviations 0.50, 0.12, 0.03 along the principal axes). The colours of a robot stand out in the
# differences.
OPPONENT_COLOURS = ((1 / 3, 1 / 3, 1 / 3), (3.0, 0.0, -3.0), (-1.5, 3.0, -1.5))


class ChannelsLastGradient(torch.autograd.Function):
    """Identity whose gradient is channels_last: otherwise the rest of the backward pass is strided
    and slow.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last)


class FirstConvolution(nn.Module):
    """uint8 (B, T, H, W, 3) -> (B*T, O, H', W'): a convolution over an image and its predecessor.

    With `frames` 1 it is over the image alone. The rows of the two images are interleaved in one
    image of twice the height. This copies whole rows; six channels would mean copying single
    pixels. The first image of an episode is its own predecessor.
    """

    def __init__(self, frames: int, outputs: int, stride: int, padding: int):
        super().__init__()
        self.frames = frames
        self.stride = stride
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(frames * outputs, 3, 4, 4))
        self.bias = nn.Parameter(torch.zeros(outputs))
        # The initialisation of nn.Conv2d, for `frames` times the inputs.
        nn.init.kaiming_uniform_(self.weight.data, a=math.sqrt(5))
        self.weight.data /= math.sqrt(frames)
        self.register_buffer("colours", torch.tensor(OPPONENT_COLOURS), persistent=False)

    def forward(self, image: Tensor, is_first: Tensor) -> Tensor:
        # Multiplying the weights by the matrix of colours equals multiplying every pixel, and costs
        # nothing.
        weight = torch.einsum("ockl,cd->odkl", self.weight, self.colours / 255)
        # (O, 3, 4*frames, 4)
        weight = weight.unflatten(0, (self.frames, -1)).permute(1, 2, 3, 0, 4).flatten(2, 3)
        x = image.flatten(0, 1).sub(127.5)  # (B*T, H, W, 3); 0 is grey, and so is the padding
        if self.frames == 2:
            start = is_first.clone()
            start[:, 0] = True  # a sequence has no image before its first
            now = torch.arange(len(x), device=x.device)
            pair = torch.stack([now, now - (~start).flatten().long()], 1)  # (B*T, 2)
            height = torch.arange(x.shape[1], device=x.device).unsqueeze(1)
            rows = pair.unsqueeze(1) * x.shape[1] + height  # (B*T, H, 2)
            # (B*T, H*2, W, 3)
            x = x.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, (len(x), -1))
        vertical = self.stride * self.frames, self.padding * self.frames
        stride, padding = zip(vertical, (self.stride, self.padding))
        weight = weight.contiguous(memory_format=torch.channels_last)
        convolved = F.conv2d(x.permute(0, 3, 1, 2), weight, self.bias, stride, padding)
        return ChannelsLastGradient.apply(F.silu(convolved))


class Encoder(nn.Module):
    """uint8 images (B, T, H, W, C) -> embeddings (B, T, E), with `frames` 2 of each image and its
    predecessor.

    A first convolution of stride 2 or 4 (`stem`) is followed by 4x4 convolutions of stride 2 down
    to about 4x4 pixels.
    """

    def __init__(self, size: int, depth: int, embedding: int, stem: int = 2, frames: int = 1):
        super().__init__()
        stages = max(1, round(math.log2(size / 4 / stem)))
        widths = [depth * factor for factor in (2, 3, 4, 4, 4, 4, 4, 4)]
        inputs = depth if stem == 2 else widths[0]
        # The first convolution has no norm: over its many pixels that costs more than the
        # convolution.
        self.first = FirstConvolution(frames, inputs, stem, int(stem == 2))
        layers: list[nn.Module] = []
        for width in widths[1 if stem == 4 else 0 :][:stages]:
            layers += [nn.Conv2d(inputs, width, 4, 2, 1), ChannelNorm(width), nn.SiLU()]
            inputs = width
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        with torch.no_grad():
            image = torch.zeros(1, 1, size, size, 3, dtype=torch.uint8)
            flat = self.convolutions(self.first(image, torch.ones(1, 1, dtype=torch.bool))).numel()
        self.project = linear(flat, embedding, bias=False)
        self.norm = nn.LayerNorm(embedding)
        self.embedding = embedding

    def forward(self, image: Tensor, is_first: Tensor) -> Tensor:
        x = self.convolutions(self.first(image, is_first))  # (B*T, C', 4, 4)
        # (B*T, 4*4*C'), a view, so that gradients stay channels_last.
        x = x.permute(0, 2, 3, 1).flatten(1)
        x = F.silu(self.norm(self.project(x)))  # (B*T, E)
        return x.unflatten(0, is_first.shape)


class Decoder(nn.Module):
    """Features (..., F) -> images as float (..., H, W, C) in the encoder's units ([-0.5, 0.5])."""

    def __init__(self, features: int, size: int, depth: int, channels: int = 3):
        super().__init__()
        stages = max(1, round(math.log2(size / 4)))
        self.start = math.ceil(size / 2**stages)
        self.size = size
        widths = [depth * factor for factor in (4, 3, 2, 1)][-stages:]
        widths = [widths[0]] * (stages - len(widths)) + widths
        self.width = widths[0]
        self.project = linear(features, self.width * self.start**2)
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(zip(widths, [*widths[1:], channels])):
            # Norms only where there are few pixels; over many they cost more than the convolutions.
            norm = [ChannelNorm(inputs)] if index < 2 else []
            layers += [*norm, nn.SiLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)]
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, features: Tensor) -> Tensor:
        x = self.project(features.reshape(-1, features.shape[-1]))
        # channels_last without a copy
        x = x.view(-1, self.start, self.start, self.width).permute(0, 3, 1, 2)
        x = self.convolutions(x)[..., : self.size, : self.size].permute(0, 2, 3, 1)  # (N, H, W, C)
        return x.unflatten(0, features.shape[:-1])


def float_to_image(image: Tensor) -> Tensor:
    """Return decoder output (..., H, W, C) as uint8 of the same shape."""
    return ((image.float() + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)
