"""Views of sound."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.views.rows import Rows
from pipelines.views.view import View

AUDIO = "sound: set data.decode.audio"


class AudioView(View):
    """The waveform ([B, S] float32 in [-1, 1]); silence where there is none."""

    def maker(self) -> Callable[[Rows], Tensor]:
        """Nothing to prepare."""
        return lambda rows: rows.repeated(rows.column("audio", "float32", AUDIO))


class AudioPresentView(View):
    """Whether the sample has a sound track ([B] bool)."""

    def maker(self) -> Callable[[Rows], Tensor]:
        """Nothing to prepare."""
        return lambda rows: rows.repeated(rows.column("audio.present", "uint8", AUDIO)[:, 0].bool())


def ends(sounds: Tensor) -> Tensor:
    """Where sounds end: what fills up the window behind a track is exact zeros.

    Args:
        sounds: Waveforms. [B, S]

    Returns:
        How many samples there are up to the last that is not 0; 0 where none is. [B] int64
    """
    numbers = torch.arange(1, sounds.shape[1] + 1, dtype=torch.int32, device=sounds.device)
    return torch.where(sounds != 0, numbers, 0).amax(1).long()
