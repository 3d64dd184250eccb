"""What towers of the library make of their inputs, faster: patches, and the first residual."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchProjection(nn.Conv2d):
    """A convolution of patches side by side, as the one product of matrices that it is.

    Its kernel is as large as its stride. Libraries of convolutions take many times as long: on
    an H200, half a ViT-B's layer.

    Args:
        conv: Whose parameters are taken over.
    """

    def __init__(self, conv: nn.Conv2d):
        patch: Any = conv.kernel_size
        if conv.stride != patch or conv.padding != (0, 0) or conv.groups != 1:
            raise ValueError(f"not a convolution of patches side by side: {conv}")
        with torch.device("meta"):  # nothing is drawn: what follows gets the same numbers
            super().__init__(conv.in_channels, conv.out_channels, patch, patch)
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D, H / P, W / P]; what is left of a patch at the edge is left out."""
        (tall, wide), channels = self.kernel_size, self.in_channels
        rows, columns = images.shape[2] // tall, images.shape[3] // wide
        images = lowered(images[:, :, : rows * tall, : columns * wide])
        parts = images.reshape(len(images), channels, rows, tall, columns, wide)
        patches = parts.permute(0, 2, 4, 1, 3, 5).reshape(len(images), rows * columns, -1)
        tokens = F.linear(patches, self.weight.flatten(1), self.bias)
        return tokens.transpose(1, 2).view(len(images), -1, rows, columns)


def lowered(values: Tensor) -> Tensor:
    """The same in the format of autocast, where it is on."""
    kind = values.device.type
    return values.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else values


def lower_residual(embedding: nn.Module) -> None:
    """Have a tower add up its layers' results in the format of autocast, where it is on.

    Autocast leaves sums alone, and positions are kept in fp32: without this the sum that each
    layer reads and adds to takes twice the memory, and the time to move it.
    """
    embedding.register_forward_hook(_lowered_output)


def _lowered_output(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    del module, inputs
    return lowered(output)
