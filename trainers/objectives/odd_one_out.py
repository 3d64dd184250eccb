"""Find the piece of a video whose frames are in a wrong order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.augment.none import Nothing
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers, uniform
from pipelines.views import ClipView, LongEnoughView
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.heads import row_mlp
from trainers.losses.classes import class_loss
from trainers.losses.precision import wide
from trainers.models import TOWERS
from trainers.models.frame_transformer import FrameTransformer

_WHICH, _ORDER = 1, 2


class OddOneOut(ComparingObjective):
    """Which of several pieces is shuffled (Fernando et al., 2017, arXiv:1611.06646).

    Pieces follow one another in the clip. Each is judged by what the tower makes of it
    and by the mean over all: where a piece stands tells nothing. Films too short for all
    pieces are left out.
    """

    repeats = True

    class Config(core.Config):
        """The tower, what it sees and the head.

        Attributes:
            video: Video tower.
            augmentation: One draw for all pieces.
            guard: Drawn anew for each frame.
            pieces: How many; all but one are in order.
            frames: Of a piece.
            hidden: Width of the head's hidden layer.
        """

        video: Annotated[core.Config, TOWERS] = FrameTransformer.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        guard: Annotated[core.Config, AUGMENTATIONS] = Nothing.Config()
        pieces: int = Field(default=4, ge=2)
        frames: int = Field(default=6, ge=3)
        hidden: int = 512

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        clip = ClipView(
            augmentation=config.augmentation,
            each_frame=config.guard,
            ordered=True,
            frames=config.pieces * config.frames,
        )
        clip.check(surroundings.frames)
        needed = clip.needed(surroundings.frames)
        self.views = {"clip": clip, "long": LongEnoughView(frames=needed)}
        self._pieces = config.pieces
        self.tower = TOWERS.build(config.video, surroundings)
        self.head = row_mlp(2 * self.tower.width, config.hidden, 1)
        self.chance = 1 / config.pieces

    def encode(self, batch: Batch) -> Rows:
        """Shuffle one piece of each clip by its key's draws and judge all. [B, pieces]."""
        whole = batch.views["clip"]
        clips = whole.view(len(batch), self._pieces, -1, *whole.shape[2:])
        odd = self._odd(batch)
        order = torch.arange(clips.shape[2], device=odd.device).repeat(*clips.shape[:2], 1)
        rows = torch.arange(len(batch), device=odd.device)
        order[rows, odd] = wrong_orders(batch.keys, clips.shape[2])
        places = torch.arange(self._pieces, device=odd.device)[None, :, None]
        shown = clips[rows[:, None, None], places, order]
        features = self.tower(shown.flatten(0, 1)).view(len(batch), self._pieces, -1)
        mean = features.mean(1, keepdim=True).expand_as(features)
        return {"logits": wide(self.head(torch.cat([features, mean], 2))[:, :, 0])}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Find the shuffled pieces."""
        return class_loss(rows["logits"], self._odd(batch), batch.views["long"])

    def _odd(self, batch: Batch) -> Tensor:
        """Numbers of the shuffled pieces. [B]."""
        return integers(batch.keys, _WHICH, self._pieces)

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower."""
        return {"video": self.tower}


def wrong_orders(keys: Tensor, frames: int) -> Tensor:
    """Draw an order for each key; the right one is turned around. [B] int64 -> [B, frames] int64.

    The reverse is thus twice as likely as any other.
    """
    drawn = uniform(keys, _ORDER, frames).argsort(dim=1, stable=True)
    right = (drawn == torch.arange(frames, device=keys.device)).all(1, keepdim=True)
    return torch.where(right, drawn.flip(1), drawn)
