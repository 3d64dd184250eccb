"""Towers: one file each, most from ``transformers`` configs; the file's name is the ``kind``.

An image tower maps [B, 3, H, W] in [-1, 1] to features [B, ``width``], a text
tower token ids [B, L] (0 is padding), a video tower clips [B, T, 3, H, W] of any
number of frames, an audio tower waveforms [B, S] of any length to [B, ``width``].
Image towers that have features of places give them by ``grid``: [B, D, h, w], before pooling;
video and audio towers give those of moments, in order, by ``over_time``: [B, T', ``time_width``].
What a tower reads is the name of what its ``forward`` takes: ``images``, ``tokens``,
``clips`` or ``waveforms``. None uses batch normalisation, whose statistics would
depend on the number of workers. ``transformers`` takes seconds to import: it is imported where
a tower is built, since who only checks a recipe builds none.
"""

from pipelines.core import Family

TOWERS = Family("trainers.models")

__all__ = ["TOWERS"]
