"""Vision transformer image tower."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from pipelines import core
from trainers.core.objective import Surroundings


class Vit(nn.Module):
    """Transformer over patches (Dosovitskiy et al., 2021, arXiv:2010.11929), mean-pooled."""

    class Config(core.Config):
        """Sizes: width, layers, heads, and the side of a patch in pixels."""

        width: int = 384
        layers: int = 12
        heads: int = 6
        patch: int = 16

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.width = config.width
        self._model = ViTModel(
            ViTConfig(
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=4 * config.width,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                image_size=surroundings.size,
                patch_size=config.patch,
            ),
            add_pooling_layer=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features. [B, 3, H, W] -> [B, width]."""
        tokens: Tensor = self._model(images).last_hidden_state
        return tokens[:, 1:].mean(1)

    def tokens(self, images: Tensor, kept: Tensor) -> Tensor:
        """Run on some patches only, without their mean.

        Args:
            images: [B, 3, H, W]
            kept: Numbers of patches, in reading order from 0. [B, K] int64

        Returns:
            The class token and the patches kept, each with its position. [B, 1 + K, width]
        """
        hidden = self._model.embeddings(images)
        patches = hidden[:, 1:].gather(1, kept[:, :, None].expand(-1, -1, self.width))
        hidden = torch.cat([hidden[:, :1], patches], 1)
        for layer in self._model.layers:
            hidden = layer(hidden)
        tokens: Tensor = self._model.layernorm(hidden)
        return tokens
