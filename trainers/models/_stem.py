"""Patches of an image by convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from pipelines.core import ConfigError

_GROUPS = 8


class ConvolutionalStem(nn.Module):
    """Convolutions of stride 2 instead of one of a patch's size; W is the width of a token.

    A small transformer learns more from few pictures with them (Xiao et al., 2021,
    arXiv:2106.14881). Group normalisation takes the place of the paper's batch
    normalisation: a token depends on its own image alone.
    """

    def __init__(self, patch: int, width: int):
        """Build it for patches of a side in pixels.

        Raises:
            ConfigError: The side is not a power of two, or the width does not divide.
        """
        super().__init__()
        self.patch_size = (patch, patch)  # which the library's transformer asks for
        halvings = patch.bit_length() - 1
        if patch < 2 or patch != 1 << halvings:
            raise ConfigError(f"stem: convolutions halve a side: {patch} is not a power of two")
        widths = [max(_GROUPS, width >> (halvings - 1 - level)) for level in range(halvings)]
        if any(channels % _GROUPS for channels in widths):
            raise ConfigError(f"stem: halves of the width {width} are not multiples of {_GROUPS}")
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(_GROUPS, after),
                nn.GELU(),
            ]
        self._layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], width, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Tokens of patches in reading order. [B, 3, H, W] -> [B, N, W]."""
        tokens: Tensor = self._layers(images).flatten(2).transpose(1, 2)
        return tokens
