"""Building blocks: normalised multi-layer perceptrons, block-diagonal layers, image encoder and decoder.

Shapes: N any leading axes, B batch, T time, E embedding, G blocks. Images are uint8 (..., H, W, C) until the encoder.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def initialise(weight: Tensor, fan_in: int, fan_out: int, scale: float = 1.0) -> None:
    """Truncated normal with variance scale / mean fan, the initialisation of DreamerV3; scale 0 gives zeros."""
    if scale == 0:
        nn.init.zeros_(weight)
        return
    std = math.sqrt(scale * 2.0 / (fan_in + fan_out)) / 0.87962566  # the constant undoes the truncation at 2 sigma
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def linear(inputs: int, outputs: int, scale: float = 1.0, bias: bool = True) -> nn.Linear:
    """A dense layer whose weights start as `initialise` says; scale 0 makes a head that starts at its prior."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    initialise(layer.weight, inputs, outputs, scale)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Sequential):
    """(N, inputs) -> (N, units): `layers` times dense, layer norm, SiLU; with `outputs`, a last dense layer."""

    def __init__(self, inputs: int, units: int, layers: int, outputs: int = 0, output_scale: float = 1.0):
        parts: list[nn.Module] = []
        for index in range(layers):
            # LayerNorm, not RMSNorm: only the former is fused on a CPU (four times faster there).
            parts += [linear(inputs if index == 0 else units, units, bias=False), nn.LayerNorm(units), nn.SiLU()]
        if outputs:
            parts.append(linear(units, outputs, output_scale))
        super().__init__(*parts)


class BlockLinear(nn.Module):
    """(N, inputs) -> (N, outputs) by G independent dense blocks (block-diagonal weights, DreamerV3).

    Weights are stored (G, in/G, out/G) so that the product is one batched matrix product. Errors: ValueError when
    a size is not a multiple of G.
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
    """Layer norm over the channels of (N, C, H, W), each pixel by itself. Input and output are channels_last."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # a view each way when channels_last


def image_to_float(image: Tensor) -> Tensor:
    """uint8 (..., H, W, C) -> float (N, C, H, W) in [-0.5, 0.5], channels_last in memory."""
    flat = image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2)
    return flat.float().div_(255.0).sub_(0.5)


class Encoder(nn.Module):
    """uint8 images (..., H, W, C) -> embeddings (..., E).

    A first convolution of stride 2 or 4 (`stem`), then 4x4 convolutions of stride 2 down to about 4x4 pixels.
    """

    def __init__(self, size: int, depth: int, embedding: int, stem: int = 2, channels: int = 3):
        super().__init__()
        stages = max(1, round(math.log2(size / 4 / stem)))
        widths = [depth * factor for factor in (2, 3, 4, 4, 4, 4, 4, 4)]
        layers: list[nn.Module] = [nn.Conv2d(channels, depth if stem == 2 else widths[0], 4, stem, int(stem == 2))]
        inputs = layers[0].out_channels
        for width in widths[1 if stem == 4 else 0 :][:stages]:
            # No norm behind the first convolution: over its many pixels it costs more than the convolution.
            norm = [ChannelNorm(inputs)] if len(layers) > 1 else []
            layers += [*norm, nn.SiLU(), nn.Conv2d(inputs, width, 4, 2, 1)]
            inputs = width
        layers += [ChannelNorm(inputs), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        with torch.no_grad():
            flat = self.convolutions(torch.zeros(1, channels, size, size)).numel()
        self.project = linear(flat, embedding, bias=False)
        self.norm = nn.LayerNorm(embedding)
        self.embedding = embedding

    def forward(self, image: Tensor) -> Tensor:
        x = self.convolutions(image_to_float(image))  # (N, C', 4, 4)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (N, 4*4*C'), a view: gradients then stay channels_last, too
        x = F.silu(self.norm(self.project(x)))  # (N, E)
        return x.unflatten(0, image.shape[:-3])


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
            # Norms where pixels are few; over many they cost more than the convolutions.
            norm = [ChannelNorm(inputs)] if index < 2 else []
            layers += [*norm, nn.SiLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)]
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, features: Tensor) -> Tensor:
        x = self.project(features.reshape(-1, features.shape[-1]))
        x = x.view(-1, self.start, self.start, self.width).permute(0, 3, 1, 2)  # channels_last without a copy
        x = self.convolutions(x)[..., : self.size, : self.size].permute(0, 2, 3, 1)  # (N, H, W, C)
        return x.unflatten(0, features.shape[:-1])


def float_to_image(image: Tensor) -> Tensor:
    """Decoder output (..., H, W, C) -> uint8 of the same shape."""
    return ((image.float() + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)
