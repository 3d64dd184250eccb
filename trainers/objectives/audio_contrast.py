"""Two pieces of a sound attract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers
from pipelines.views import AudioPresentView, AudioView
from pipelines.views.audio import ends
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.heads import row_mlp
from trainers.losses.contrastive import nt_xent
from trainers.losses.precision import wide
from trainers.models import TOWERS
from trainers.models.mel_transformer import MelTransformer

_FIRST, _SECOND = 1, 2  # streams


class AudioContrast(ComparingObjective):
    """Two pieces of a sound attract, all others of the global batch repel.

    COLA (Saeed et al., 2021, arXiv:2010.10915) with the loss of SimCLR (arXiv:2002.05709): cosines
    and both directions in place of a bilinear form and one. Samples without a track, or with a
    sound shorter than a piece, are left out.
    """

    repeats = True

    class Config(core.Config):
        """The tower, what it hears, and the projection head.

        Attributes:
            audio: Audio tower.
            seconds: Length of a piece; the two may overlap.
            hidden: Width of the head's hidden layer.
            projection: Dimensions of the projections.
            temperature: Of the loss.
        """

        audio: Annotated[core.Config, TOWERS] = MelTransformer.Config()
        seconds: float = Field(default=0.96, gt=0)
        hidden: int = 512
        projection: int = 128
        temperature: float = Field(default=0.1, gt=0)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self._length = max(1, round(config.seconds * surroundings.sound_rate))
        if not surroundings.sound:
            raise ConfigError("this objective needs sound: set data.decode.audio")
        if surroundings.sound <= self._length:
            raise ConfigError(
                f"two pieces of {config.seconds} s need longer sound: raise"
                " data.decode.audio.seconds, or lower objective.seconds"
            )
        self.views = {"sound": AudioView(), "present": AudioPresentView()}
        self.tower = TOWERS.build(config.audio, surroundings)
        self.head = row_mlp(self.tower.width, config.hidden, config.projection)
        self._temperature = config.temperature

    def encode(self, batch: Batch) -> Rows:
        """Projections of both pieces. [B, projection] each."""
        places = self._places(batch).clamp(min=1)
        return {
            "first": wide(self._project(batch, _FIRST, places)),
            "second": wide(self._project(batch, _SECOND, places)),
        }

    def _places(self, batch: Batch) -> Tensor:
        """At how many places a piece may begin; none (0 or less) in what is too short. [B]."""
        return ends(batch.views["sound"]) - self._length + 1

    def _project(self, batch: Batch, stream: int, places: Tensor) -> Tensor:
        """Projection of a piece of each sound. [B, projection]."""
        start = integers(batch.keys, stream, places)
        along = torch.arange(self._length, device=start.device)
        pieces = batch.views["sound"].gather(1, start[:, None] + along)
        projected: Tensor = self.head(self.tower(pieces))
        return projected

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Find the other piece of each sound among all of the global batch."""
        # Pieces of silence are alike, of whatever sample: none is to be told from another.
        counts = batch.views["present"] & (self._places(batch) > 0)
        loss, found, chance = nt_xent(
            rows["first"], rows["second"], self._temperature, batch.samples, counts
        )
        usable = counts.to(loss.dtype).mean()
        metrics = {
            "accuracy": found,
            "chance": chance,
            "answers": 2 * usable,
            "usable": usable,
        }
        return LossOutput(loss, metrics)

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower; the head is thrown away."""
        return {"audio": self.tower}
