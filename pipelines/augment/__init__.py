"""Augmentations: batched tensor operations on any device; one file each, the file is its ``kind``.

An augmentation is called with images [B, 3, H, W] float32 in [0, 1], the
samples' keys [B] int64 and the view's stream number, and returns images of
the same shape. It holds no state: equal keys give equal views.
"""

from pipelines.core import Family

AUGMENTATIONS = Family("pipelines.augment")

__all__ = ["AUGMENTATIONS"]
