"""What an objective asks of the data plane, and what it receives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.core.config import Config


class ImageView(Config):
    """One augmented rendering of the image; ``augmentation`` holds a config of that family."""

    augmentation: Config
    stream: int = 0  # views with different numbers draw different random numbers


class TextView(Config):
    """Token ids of a text field."""

    field: str = "caption"
    templates: tuple[str, ...] = ("{}",)
    extras: str | None = None  # a field of comma-separated phrases, appended at random
    extras_probability: float = 0.0
    stream: int = 0


class IdentityView(Config):
    """A 64-bit hash of a text field: equal texts have equal numbers."""

    field: str = "caption"


ViewSpec = Mapping[str, ImageView | TextView | IdentityView]


def two_views(augmentation: Config) -> ViewSpec:
    """Views ``a`` and ``b`` of an image by one augmentation, with independent numbers."""
    return {
        "a": ImageView(augmentation=augmentation, stream=0),
        "b": ImageView(augmentation=augmentation, stream=1),
    }


@dataclass(frozen=True)
class Batch:
    """One worker's share of a global batch, on the training device.

    Shapes: B samples of this worker, H x W pixels, L tokens.

    Attributes:
        samples: Number of each sample in its dataset. [B] int64
        keys: Random key of (seed, epoch, sample), see ``randomness``. [B] int64
        views: Views by name: images [B, 3, H, W] float32, normalised; texts
            [B, L] int64, zero-padded; identities [B] int64.
    """

    samples: Tensor
    keys: Tensor
    views: Mapping[str, Tensor]

    def __len__(self) -> int:
        return int(self.samples.shape[0])

    def to(self, device: torch.device) -> Batch:
        """Copy to a device."""
        views = {name: view.to(device, non_blocking=True) for name, view in self.views.items()}
        return Batch(
            self.samples.to(device, non_blocking=True),
            self.keys.to(device, non_blocking=True),
            views,
        )
