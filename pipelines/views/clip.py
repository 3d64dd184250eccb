"""Views of video."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from pipelines.augment import AUGMENTATIONS
from pipelines.augment.none import Nothing
from pipelines.core import Config, ConfigError
from pipelines.core.randomness import integers, part_keys
from pipelines.views.film import VIDEO, film_frames, film_times, own_frames
from pipelines.views.image import STREAM
from pipelines.views.rows import Rows, normalise, pixels
from pipelines.views.view import View

_RATE, _START = 2049, 3073  # each its own 1,024 streams, after those of texts


class ClipView(View):
    """Some frames of the video, augmented alike ([B, T, 3, H, W] float32 in [-1, 1]).

    Attributes:
        augmentation: Config of that family; one draw a clip, so that a clip stays a film.
        each_frame: Config of that family; drawn anew for every frame, before the former.
        frames: How many of the decoded frames, from a random one on; None for all.
        strides: One is drawn for each clip: of how many decoded frames one is taken.
        ordered: Whether the order of frames is asked for. A film that is shorter or slower than
            what is decoded repeats frames, which would tell it: only its own are then taken, and
            where they are too few for the longest stride one frame stands still.
        inside: Whether clips end where the film does, if it is long enough: where its last frame
            is repeated, there is no sound either.
        stream: Views with different numbers draw different random numbers.
    """

    augmentation: Config
    each_frame: Config = Nothing.Config()
    frames: int | None = Field(default=None, ge=1)
    strides: tuple[int, ...] = Field(default=(1,), min_length=1)
    ordered: bool = False
    inside: bool = False
    stream: int = 0

    def check(self, decoded: int) -> None:
        """Refuse clips that are shorter than what is asked of them.

        Args:
            decoded: How many frames are decoded, 0 without video.

        Raises:
            ConfigError: With what to set.
        """
        if not decoded:
            raise ConfigError(f"this objective needs {VIDEO}")
        needed = self.needed(decoded)
        if decoded < needed:
            raise ConfigError(
                f"{self.frames} frames at strides of up to {max(self.strides)} are cut from clips"
                f" of {needed}: raise data.decode.video.frames, now {decoded}"
            )

    def needed(self, decoded: int) -> int:
        """How many frames the longest clip reaches over, of so many that are decoded."""
        return 1 + max(self.strides) * ((self.frames or decoded) - 1)

    def drawn_strides(self, keys: Tensor) -> Tensor:
        """Which of the strides each clip has. [B] int64 -> [B] int64."""
        return integers(keys, _RATE + self.stream, len(self.strides))

    def places(self, keys: Tensor, decoded: int, filled: Tensor | None = None) -> Tensor:
        """Choose frames; every place that fits is as likely.

        Args:
            keys: Keys of the samples. [B] int64
            decoded: How many frames there are.
            filled: How many of them each film has, where it matters. [B] int64

        Returns:
            Numbers of the frames, ascending. [B, T] int64
        """
        self.check(decoded)
        count = self.frames or decoded
        drawn = self.drawn_strides(keys)
        # Not a tensor of all strides: to send one to a GPU would wait for it.
        stride = torch.stack([(drawn == n) * s for n, s in enumerate(self.strides)]).sum(0)
        free = (decoded if filled is None else filled) - stride * (count - 1)
        start = integers(keys, _START + self.stream, free.clamp(min=1))
        chosen = start[:, None] + stride[:, None] * torch.arange(count, device=keys.device)
        if filled is None or not self.ordered:
            return chosen
        return chosen * (filled >= self.needed(decoded))[:, None]

    def _chosen(self, keys: Tensor, times: Tensor) -> Tensor:
        """Numbers of the decoded frames of each clip. [B], [B, F] -> [B, T]."""
        decoded = times.shape[1]
        if self.ordered:
            filled, order = own_frames(times)
            return order.gather(1, self.places(keys, decoded, filled))
        return self.places(keys, decoded, film_frames(times) if self.inside else None)

    def maker(self) -> Callable[[Rows], Tensor]:
        """Build the augmentations."""
        augment = AUGMENTATIONS.build(self.augmentation)
        disturb = AUGMENTATIONS.build(self.each_frame)

        def make(rows: Rows) -> Tensor:
            keys = rows.device_keys
            times = film_times(rows)
            decoded = times.shape[1]
            stored = rows.once("video", lambda: rows.pictures("video", decoded, VIDEO))
            chosen = self._chosen(keys, times)
            clips = stored[rows.places[:, None], chosen]
            stream, count = STREAM + self.stream, chosen.shape[1]
            frames = disturb(pixels(clips.flatten(0, 1)), part_keys(keys, count).flatten(), stream)
            frames = augment(frames, keys.repeat_interleave(count), stream)
            return normalise(frames).view(len(keys), count, *frames.shape[1:])

        return make
