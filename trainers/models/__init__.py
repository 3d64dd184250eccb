"""Towers: one file each, built from ``transformers`` configs; the file's name is the ``kind``.

An image tower maps [B, 3, H, W] in [-1, 1] to features [B, ``width``], a text
tower token ids [B, L] (0 is padding) to [B, ``width``]. None uses batch
normalisation, whose statistics would depend on the number of workers.
"""

from pipelines.core import Family

TOWERS = Family("trainers.models")

__all__ = ["TOWERS"]
