"""Views of how long a film is: a short one repeats its last frame, a slow one each of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from pipelines.views.rows import Rows
from pipelines.views.view import View

VIDEO = "video: set data.decode.video"


class FilmFramesView(View):
    """How many of the decoded frames come before the film's end ([B] int64)."""

    def maker(self) -> Callable[[Rows], Tensor]:
        """Nothing to prepare."""
        return lambda rows: film_frames(film_times(rows))


class LongEnoughView(View):
    """Whether so many of the film's own frames were decoded ([B] bool).

    Attributes:
        frames: How many; what is shown again does not count again.
    """

    frames: int = Field(ge=1)

    def maker(self) -> Callable[[Rows], Tensor]:
        """Nothing to prepare."""
        return lambda rows: fresh(film_times(rows)).sum(1) >= self.frames


def film_times(rows: Rows) -> Tensor:
    """Times of the decoded frames, in seconds of the file's clock. [B, F] float32."""
    stored = rows.once("video.times", lambda: rows.column("video.times", "float32", VIDEO))
    return rows.repeated(stored)


def fresh(times: Tensor) -> Tensor:
    """Which frames are not the one before again. [B, F] -> [B, F] bool."""
    first = torch.ones_like(times[:, :1], dtype=torch.bool)
    return torch.cat([first, times[:, 1:] != times[:, :-1]], 1)


def own_frames(times: Tensor) -> tuple[Tensor, Tensor]:
    """Find a film's own frames among those that were decoded.

    Args:
        times: Of the decoded frames. [B, F]

    Returns:
        How many there are. [B] int64
        Numbers of the decoded frames, those that show the one before again last. [B, F] int64
    """
    own = fresh(times)
    return own.sum(1), (~own).long().argsort(dim=1, stable=True)


def film_frames(times: Tensor) -> Tensor:
    """How many of the decoded frames come before a film's end. [B, F] -> [B] int64.

    The last one is there as often as is usual in the film: what is slower than what is decoded
    shows each several times, and has not ended with that.
    """
    runs = fresh(times).cumsum(1) - 1
    lengths = torch.zeros_like(runs).scatter_add_(1, runs, torch.ones_like(runs))
    last = runs[:, -1:]
    shown = lengths.gather(1, last)[:, 0]
    usual = lengths.scatter(1, last, 0).amax(1).clamp(min=1)
    return times.shape[1] - (shown - usual).clamp(min=0)
