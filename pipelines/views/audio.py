"""Views of sound."""

from __future__ import annotations

from collections.abc import Callable

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
