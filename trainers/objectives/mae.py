"""Reconstruct masked patches from the visible ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import sample_keys, uniform
from pipelines.views import ImageView
from trainers.core.objective import LossOutput, Objective, Surroundings
from trainers.core.pictures import shown
from trainers.models.vit import Vit

_STREAM = 1


class Mae(Objective):
    """Pixels of masked patches from the visible ones (He et al., 2022, arXiv:2111.06377)."""

    class Config(core.Config):
        """The vision transformer (no other tower can run on some patches only), and the decoder.

        Attributes:
            vit: Image tower; in training it sees visible patches only.
            augmentation: Before masking; crops and mirrors, as in the paper.
            masked: Share of patches that are masked.
            width: Of the decoder, a multiple of 32 (a head).
            layers: Of the decoder.
            normalise: Whether each target patch has mean 0 and deviation 1.
        """

        vit: Vit.Config = Vit.Config(width=192, layers=4, heads=3, patch=4)
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config(jitter=0, grey=0)
        masked: float = Field(default=0.75, gt=0, lt=1)
        width: int = Field(default=96, ge=32, multiple_of=32)
        layers: int = Field(default=1, ge=1)
        normalise: bool = True

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = {"image": ImageView(augmentation=config.augmentation)}
        self._patch, self._normalise = config.vit.patch, config.normalise
        side, rest = divmod(surroundings.size, self._patch)
        self._patches = side * side
        self._kept = self._patches - round(config.masked * self._patches)
        if rest or not 0 < self._kept < self._patches:
            raise ConfigError(
                f"objective.vit.patch: {self._patch} does not split an image of "
                f"{surroundings.size} pixels into patches of which some are masked"
            )
        self.tower = Vit(config.vit, surroundings)
        self.decoder = Decoder(config, self._patches)

    def forward(self, batch: Batch) -> LossOutput:
        """Mask by the keys' draws, encode what is visible, compare what was masked."""
        predicted, target, _ = self._reconstruct(batch.views["image"], batch.keys)
        if self._normalise:
            mean, deviation = _spread(target)
            target = (target - mean) / deviation
        return LossOutput(F.mse_loss(predicted, target))

    def _reconstruct(self, images: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Masked patches as predicted, as they are, and their numbers. [B, M, 3 p p] each."""
        order = uniform(keys, _STREAM, self._patches).argsort(dim=1, stable=True)
        tokens = self.tower.tokens(images, order[:, : self._kept])
        predicted = self.decoder(tokens, order).float()
        masked = order[:, self._kept :, None].expand(-1, -1, predicted.shape[2])
        return predicted, patchify(images, self._patch).gather(1, masked), masked

    def pictures(self, images: Tensor) -> Mapping[str, Tensor]:
        """Images without their masked patches, and with those that are predicted.

        What is predicted of a normalised patch lacks its mean and deviation: they are the image's.
        """
        numbers = torch.arange(len(images), device=images.device)
        keys = sample_keys(0, torch.zeros_like(numbers), numbers)
        predicted, target, masked = self._reconstruct(images, keys)
        if self._normalise:
            mean, deviation = _spread(target)
            predicted = predicted * deviation + mean
        patches = patchify(images, self._patch).float()
        grey = torch.zeros_like(predicted)
        return {
            "what is not masked": self._picture(patches.scatter(1, masked, grey)),
            "reconstructed": self._picture(patches.scatter(1, masked, predicted)),
        }

    def _picture(self, patches: Tensor) -> Tensor:
        """Join patches in [-1, 1]. [B, N, 3 p p] -> [B, S, S, 3] uint8."""
        side = math.isqrt(self._patches) * self._patch
        joined = F.fold(patches.transpose(1, 2), side, self._patch, stride=self._patch)
        return shown(joined)

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower, on all patches."""
        return {"image": self.tower}


class Decoder(nn.Module):
    """A few layers over all patches; their width is small, as they are thrown away.

    Args:
        config: Sizes.
        patches: N, patches of an image.
    """

    def __init__(self, config: Mae.Config, patches: int):
        from transformers import ViTConfig
        from transformers.models.vit.modeling_vit import ViTLayer

        super().__init__()
        sizes = ViTConfig(
            hidden_size=config.width,
            num_attention_heads=config.width // 32,
            intermediate_size=4 * config.width,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="sdpa",
        )
        self._embed = nn.Linear(config.vit.width, config.width)
        self._mask = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self._positions = nn.Parameter(torch.randn(1, 1 + patches, config.width) * 0.02)
        self._layers = nn.ModuleList(ViTLayer(sizes) for _ in range(config.layers))
        self._norm = nn.LayerNorm(config.width)
        self._pixels = nn.Linear(config.width, 3 * config.vit.patch**2)

    def forward(self, tokens: Tensor, order: Tensor) -> Tensor:
        """Predict the pixels of masked patches.

        Args:
            tokens: The class token and K visible patches. [B, 1 + K, D]
            order: Numbers of all patches, visible ones first. [B, N] int64

        Returns:
            Masked patches in the order's order. [B, N - K, 3 p p]
        """
        kept = tokens.shape[1]
        hidden = self._embed(tokens)
        mask = self._mask.to(hidden.dtype).expand(len(order), 1 + order.shape[1] - kept, -1)
        places = torch.cat([torch.zeros_like(order[:, :1]), 1 + order], 1)
        hidden = torch.cat([hidden, mask], 1) + self._positions[0][places]
        for layer in self._layers:
            hidden = layer(hidden)
        pixels: Tensor = self._pixels(self._norm(hidden[:, kept:]))
        return pixels


def _spread(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch. [B, M, D] -> [B, M, 1] each."""
    variance, mean = torch.var_mean(patches, 2, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def patchify(images: Tensor, side: int) -> Tensor:
    """Cut images into patches in reading order. [B, 3, S, S] -> [B, N, 3 side side]."""
    return F.unfold(images, side, stride=side).transpose(1, 2)
