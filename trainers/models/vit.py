"""Vision transformer image tower."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pipelines import core
from trainers.core.objective import Surroundings
from trainers.models._embedding import PatchProjection, lower_residual


class Vit(nn.Module):
    """Transformer over patches (Dosovitskiy et al., 2021, arXiv:2010.11929)."""

    class Config(core.Config):
        """Sizes, and what the feature is.

        Attributes:
            width: Of a token.
            layers: Number of them.
            heads: Of attention.
            patch: Side of a patch, in pixels.
            pooling: ``mean`` over patches, or ``flat``: all patches side by side, for pictures in
                which it matters where something is.
            activation: ``gelu``, or the approximation by a sigmoid that CLIP's towers have.
        """

        width: int = 384
        layers: int = 12
        heads: int = 6
        patch: int = 16
        pooling: Literal["mean", "flat"] = "mean"
        activation: Literal["gelu", "quick_gelu"] = "gelu"

    def __init__(self, config: Config, surroundings: Surroundings):
        from transformers import ViTConfig, ViTModel

        super().__init__()
        self._token, self._patch, self._pooling = config.width, config.patch, config.pooling
        count = (surroundings.size // config.patch) ** 2
        self.width = config.width * (count if config.pooling == "flat" else 1)
        self._model = ViTModel(
            ViTConfig(
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=4 * config.width,
                hidden_act=config.activation,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                image_size=surroundings.size,
                patch_size=config.patch,
            ),
            add_pooling_layer=False,
        )
        embeddings = self._model.embeddings
        patches = embeddings.patch_embeddings
        patches.projection = PatchProjection(patches.projection)
        lower_residual(embeddings)

    def forward(self, images: Tensor) -> Tensor:
        """Features. [B, 3, H, W] -> [B, width]."""
        patches = self._patches(images)
        return patches.mean(1) if self._pooling == "mean" else patches.flatten(1)

    def grid(self, images: Tensor) -> Tensor:
        """Features of patches. [B, 3, H, W] -> [B, D, h, w]."""
        patches = self._patches(images).transpose(1, 2)
        return patches.reshape(*patches.shape[:2], images.shape[2] // self._patch, -1)

    def _patches(self, images: Tensor) -> Tensor:
        tokens: Tensor = self._model(images).last_hidden_state
        return tokens[:, 1:]

    def tokens(self, images: Tensor, kept: Tensor) -> Tensor:
        """Run on some patches only, without their mean.

        Args:
            images: [B, 3, H, W]
            kept: Numbers of patches, in reading order from 0. [B, K] int64

        Returns:
            The class token and the patches kept, each with its position. [B, 1 + K, D]
        """
        hidden = self._model.embeddings(images)
        patches = hidden[:, 1:].gather(1, kept[:, :, None].expand(-1, -1, self._token))
        hidden = torch.cat([hidden[:, :1], patches], 1)
        for layer in self._model.layers:
            hidden = layer(hidden)
        tokens: Tensor = self._model.layernorm(hidden)
        return tokens
