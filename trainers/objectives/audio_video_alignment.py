"""Predict whether sound belongs to a clip and to its time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.augment import AUGMENTATIONS
from pipelines.augment.crop_colour import CropColour
from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import integers
from pipelines.views import AudioPresentView, AudioView, ClipView
from trainers.core.collective import world
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.heads import row_mlp
from trainers.losses.gather import gather
from trainers.losses.precision import wide
from trainers.models import TOWERS
from trainers.models.frame_transformer import FrameTransformer
from trainers.models.mel_transformer import MelTransformer

_CLASS, _SHIFT, _PARTNER = 1, 2, 3
_SHIFTED, _OTHER = 1, 2


class AudioVideoAlignment(ComparingObjective):
    """Sound of the same time, of another time, or of another video.

    Owens and Efros, 2018 (arXiv:1804.03641) tell the first two apart, Korbar et al., 2018
    (arXiv:1807.00230) the last one too. When a sound is heard has the same distribution in
    each class. Videos without a track are left out.
    """

    class Config(core.Config):
        """The towers, what they see and the head.

        Attributes:
            video: Video tower.
            audio: Audio tower.
            augmentation: One draw a clip.
            frames: Of a clip; the sound is as long.
            shift: Smallest distance of a shifted sound, in seconds.
            hidden: Width of the head's hidden layer.
        """

        video: Annotated[core.Config, TOWERS] = FrameTransformer.Config()
        audio: Annotated[core.Config, TOWERS] = MelTransformer.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        frames: int = Field(default=16, ge=1)
        shift: float = Field(default=0.25, gt=0)
        hidden: int = 512

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self._clip = ClipView(augmentation=config.augmentation, frames=config.frames)
        self._clip.check(surroundings.frames)
        self._decoded = surroundings.frames
        self._places = surroundings.frames - config.frames + 1
        self._least = max(1, math.ceil(config.shift * surroundings.frame_rate))
        _check(config, surroundings, self._places, self._least)
        self._per_frame = surroundings.sound_rate / surroundings.frame_rate
        self._length = int(config.frames * self._per_frame)
        self.views = {"clip": self._clip, "sound": AudioView(), "present": AudioPresentView()}
        self.video = TOWERS.build(config.video, surroundings)
        self.audio = TOWERS.build(config.audio, surroundings)
        self.head = row_mlp(self.video.width + self.audio.width, config.hidden, 3)
        self.chance = 1 / 3

    def encode(self, batch: Batch) -> Rows:
        """Features of every clip, and of the sound that may be heard with it."""
        sound = self._heard(batch, integers(batch.keys, _CLASS, 3))
        return {"sound": wide(self.audio(sound)), "clip": wide(self.video(batch.views["clip"]))}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Pair every clip with a sound by its key's draws and tell what it was."""
        kinds = integers(batch.keys, _CLASS, 3)
        present = gather(batch.views["present"].long()).bool()
        partners, found = others(present, gather(batch.keys))
        mine = slice(world()[0] * len(batch), (world()[0] + 1) * len(batch))
        itself = torch.arange(len(present), device=kinds.device)[mine]
        sounds = gather(rows["sound"])
        chosen = torch.where(kinds == _OTHER, partners[mine], itself)
        both = torch.cat([rows["clip"], sounds[chosen]], 1)
        logits = self.head(both)
        usable = (present[mine] & ((kinds != _OTHER) | found)).to(logits.dtype)
        # Of all workers, so that the mean of their means is that of all usable samples.
        share = gather(usable.mean().view(1)).mean().clamp(min=1 / len(present))
        right = (logits.detach().argmax(1) == kinds).to(logits.dtype)
        losses = F.cross_entropy(logits, kinds, reduction="none")
        metrics = {"accuracy": (right * usable).mean() / share, "usable": usable.mean()}
        return LossOutput((losses * usable).mean() / share, metrics)

    def encoders(self) -> Mapping[str, nn.Module]:
        """Both towers."""
        return {"video": self.video, "audio": self.audio}

    def _heard(self, batch: Batch, kinds: Tensor) -> Tensor:
        """Sound as long as the clip: of its time, or of another one. [B, S] -> [B, length]."""
        seen = self._clip.places(batch.keys, self._decoded)[:, 0]
        other = shifted(batch.keys, seen, self._places, self._least)
        first = torch.where(kinds == _SHIFTED, other, seen) * self._per_frame
        along = torch.arange(self._length, device=first.device)
        return batch.views["sound"].gather(1, first.long()[:, None] + along)


def shifted(keys: Tensor, seen: Tensor, places: int, least: int) -> Tensor:
    """Draw other places, on a circle: where places are even, so are these.

    Args:
        keys: Keys of the samples. [B] int64
        seen: Places. [B] int64
        places: How many there are.
        least: Smallest distance.

    Returns:
        At least so far away, the short way around too. [B] int64
    """
    return (seen + least + integers(keys, _SHIFT, places - 2 * least + 1)) % places


def others(present: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Draw for each sample another one that has sound.

    Args:
        present: Which samples of the global batch have sound. [G] bool
        keys: Keys of the samples. [G] int64

    Returns:
        Numbers of samples, all equally often for one that has sound itself. [G] int64
        Whether there was another one. []
    """
    sounding = present.nonzero()[:, 0]
    count = len(sounding)
    if count < 2:
        return torch.zeros_like(keys), torch.zeros_like(present[0])
    place = present.long().cumsum(0) - 1
    drawn = integers(keys, _PARTNER, count - 1)
    return sounding[(place + 1 + drawn) % count], torch.ones_like(present[0])


def _check(
    config: AudioVideoAlignment.Config, surroundings: Surroundings, places: int, least: int
) -> None:
    if not surroundings.sound:
        raise ConfigError("this objective needs sound: set data.decode.audio")
    if places < 2 * least:
        raise ConfigError(
            f"clips of {config.frames} frames leave no place for a shift of {config.shift} s:"
            f" raise data.decode.video.frames to {config.frames - 1 + 2 * least}"
        )
    seconds = surroundings.frames / surroundings.frame_rate
    if surroundings.sound < int(seconds * surroundings.sound_rate):
        raise ConfigError(
            f"sound must last as long as clips: set data.decode.audio.seconds to {seconds:g}"
        )
