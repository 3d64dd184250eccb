"""ConvNeXt image tower."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines import core
from trainers.core.objective import Surroundings


class ConvNext(nn.Module):
    """Convolutions with layer normalisation (Liu et al., 2022, arXiv:2201.03545); suits a CPU."""

    class Config(core.Config):
        """Sizes of the stages.

        Attributes:
            widths: Channels of each stage.
            depths: Blocks of each stage.
            patch: Stride of the stem, in pixels.
        """

        widths: tuple[int, ...] = (48, 96, 192)
        depths: tuple[int, ...] = (1, 2, 2)
        patch: int = 4

    def __init__(self, config: Config, surroundings: Surroundings):
        from transformers import ConvNextConfig, ConvNextModel

        super().__init__()
        self.width = config.widths[-1]
        self._model = ConvNextModel(
            ConvNextConfig(
                num_stages=len(config.widths),
                hidden_sizes=list(config.widths),
                depths=list(config.depths),
                patch_size=config.patch,
                image_size=surroundings.size,
                drop_path_rate=0.0,
                layer_scale_init_value=1.0,
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features. [B, 3, H, W] -> [B, width]."""
        images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self._model(images).pooler_output
        return features

    def grid(self, images: Tensor) -> Tensor:
        """Features of places, before they are pooled. [B, 3, H, W] -> [B, D, h, w]."""
        images = images.contiguous(memory_format=torch.channels_last)
        places: Tensor = self._model(images).last_hidden_state
        return places
