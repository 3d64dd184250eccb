"""Vision transformer with registers as image tower."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from trainers.core.objective import Surroundings
from trainers.models._embedding import PatchProjection
from trainers.models._stem import ConvolutionalStem


class Tokens(NamedTuple):
    """What a vision transformer makes of images; N patches, R registers, D wide.

    Attributes:
        image: The class token. [B, D]
        registers: [B, R, D]
        patches: In reading order. [B, N, D]
    """

    image: Tensor
    registers: Tensor
    patches: Tensor


class VitRegisters(nn.Module):
    """Transformer over patches and registers (Darcet et al., 2024, arXiv:2309.16588).

    Images of another size than it was built for have positions between the learned ones.
    """

    class Config(core.Config):
        """Sizes, and what the feature is.

        Attributes:
            width: Of a token.
            layers: Number of them.
            heads: Of attention.
            patch: Side of a patch, in pixels.
            registers: Number of them.
            stem: What makes tokens of patches: one ``linear`` map, or ``convolutions`` of stride 2.
            pooling: ``class`` token, or ``flat``: all patches side by side, for pictures in which
                it matters where something is.
        """

        width: int = 384
        layers: int = 12
        heads: int = 6
        patch: int = 16
        registers: int = Field(default=4, ge=1)
        stem: Literal["linear", "convolutions"] = "linear"
        pooling: Literal["class", "flat"] = "class"

    def __init__(self, config: Config, surroundings: Surroundings):
        from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

        super().__init__()
        self.patch, self._pooling = config.patch, config.pooling
        patches = (surroundings.size // config.patch) ** 2
        self.width = config.width * (patches if config.pooling == "flat" else 1)
        self._registers = config.registers
        sizes = Dinov2WithRegistersConfig(
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_register_tokens=config.registers,
            image_size=surroundings.size,
            patch_size=config.patch,
        )
        self._model = Dinov2WithRegistersModel(sizes)
        embeddings = self._model.embeddings
        self._overlaps = config.stem == "convolutions"
        if self._overlaps:
            embeddings.patch_embeddings = ConvolutionalStem(config.patch, config.width)
        else:
            patches = embeddings.patch_embeddings
            patches.projection = PatchProjection(patches.projection)
        # The library starts all registers at 0. They have no positions: equal ones would get
        # equal gradients and stay one register.
        nn.init.trunc_normal_(embeddings.register_tokens, std=sizes.initializer_range)

    def forward(self, images: Tensor) -> Tensor:
        """Features. [B, 3, H, W] -> [B, width]."""
        tokens = self.tokens(images)
        return tokens.image if self._pooling == "class" else tokens.patches.flatten(1)

    def grid(self, images: Tensor) -> Tensor:
        """Features of patches. [B, 3, H, W] -> [B, D, h, w]."""
        patches = self.tokens(images).patches.transpose(1, 2)
        return patches.reshape(*patches.shape[:2], images.shape[2] // self.patch, -1)

    def tokens(self, images: Tensor, masked: Tensor | None = None) -> Tokens:
        """All tokens after the last layer.

        Args:
            images: Of any size that patches fit. [B, 3, H, W]
            masked: Which patches a learned token replaces, in reading order. [B, N] bool
        """
        if masked is not None:
            images = self._hide(images, masked)
        else:
            # Not left out: the mask token then has a gradient, of 0, in every pass.
            height, width = (side // self.patch for side in images.shape[2:])
            masked = images.new_zeros((len(images), height * width), dtype=torch.bool)
        tokens: Tensor = self._model(images, bool_masked_pos=masked).last_hidden_state
        first = 1 + self._registers
        return Tokens(tokens[:, 0], tokens[:, 1:first], tokens[:, first:])

    def _hide(self, images: Tensor, masked: Tensor) -> Tensor:
        """Take masked patches' pixels away where the stem would show them to their neighbours."""
        if not self._overlaps:
            return images
        height, width = (side // self.patch for side in images.shape[2:])
        places = masked.view(len(images), 1, height, width)
        pixels = places.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return images.masked_fill(pixels, 0.0)

    @torch.no_grad()
    def components(self, images: Tensor) -> Tensor:
        """Paint patches by the three principal components of their tokens over all images.

        Args:
            images: In [-1, 1]. [B, 3, H, W]

        Returns:
            One colour a patch, the same for equal tokens. [B, H, W, 3] uint8
        """
        patches = self.tokens(images).patches
        height, width = (side // self.patch for side in images.shape[2:])
        colours = principal(patches.flatten(0, 1).double()).mul(255).round()
        grid = colours.view(len(images), height, width, 3).permute(0, 3, 1, 2)
        painted = F.interpolate(grid, images.shape[2:], mode="nearest")
        return painted.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def principal(rows: Tensor) -> Tensor:
    """First three principal components, each scaled to [0, 1]. [R, D] -> [R, 3]."""
    centred = rows - rows.mean(0)
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -3:].flip(1)
    # An axis has no sign of its own: its greatest entry is made positive.
    greatest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    found = centred @ (axes * greatest.sign())
    low, high = found.amin(0), found.amax(0)
    scaled: Tensor = (found - low) / (high - low).clamp(min=torch.finfo(rows.dtype).eps)
    return scaled
