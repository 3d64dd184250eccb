"""What an objective receives of the data plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One worker's share of a global batch, on the training device.

    Shapes: B samples of this worker, H x W pixels, L tokens, T frames, S samples of sound.

    Attributes:
        samples: Number of each sample in its dataset. [B] int64
        keys: Random key of (seed, epoch, sample), see ``randomness``. [B] int64
        views: Views by name: images [B, 3, H, W] float32, normalised; texts
            [B, L] int64, zero-padded; identities [B] int64; clips [B, T, 3, H, W]
            float32, normalised, how many frames a film has [B] int64 and whether it is long
            enough [B] bool; waveforms [B, S] float32, and whether there is one [B] bool.
    """

    samples: Tensor
    keys: Tensor
    views: Mapping[str, Tensor]

    def __len__(self) -> int:
        return int(self.samples.shape[0])

    def first(self, count: int) -> Batch:
        """Copy its first samples, in memory of their own."""
        views = {name: view[:count].clone() for name, view in self.views.items()}
        return Batch(self.samples[:count].clone(), self.keys[:count].clone(), views)

    def every(self, step: int) -> Batch:
        """Its first sample of every so many; a view of it."""
        views = {name: view[::step] for name, view in self.views.items()}
        return Batch(self.samples[::step], self.keys[::step], views)

    def split(self, count: int) -> list[Batch]:
        """Cut into equal parts, in order.

        Raises:
            ValueError: The samples cannot be shared out equally.
        """
        size, rest = divmod(len(self), count)
        if rest or not size:
            raise ValueError(f"{len(self)} samples cannot be cut into {count} equal parts")
        cuts = [slice(start, start + size) for start in range(0, len(self), size)]
        return [
            Batch(
                self.samples[cut],
                self.keys[cut],
                {name: view[cut] for name, view in self.views.items()},
            )
            for cut in cuts
        ]

    def to(self, device: torch.device) -> Batch:
        """Copy to a device."""
        views = {name: view.to(device, non_blocking=True) for name, view in self.views.items()}
        return Batch(
            self.samples.to(device, non_blocking=True),
            self.keys.to(device, non_blocking=True),
            views,
        )
