"""Find the sound that belongs to a clip and to its time."""

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
from pipelines.views import AudioPresentView, AudioView, ClipView, FilmFramesView
from trainers.core.collective import world
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.losses.gather import gather
from trainers.losses.precision import product, wide
from trainers.models import TOWERS
from trainers.models.frame_transformer import FrameTransformer
from trainers.models.mel_transformer import MelTransformer

_SHIFT, _PARTNER = 2, 3
_ABSENT = -1e4  # logit of a sound that is not there


class AudioVideoAlignment(ComparingObjective):
    """The sound of a clip's time, against that of another time and of all other clips.

    The negatives are those of Korbar et al., 2018 (arXiv:1807.00230): another time of the
    same video, and other videos. Clip and sound are compared moment by moment, as Chung and
    Zisserman, 2016, do (Out of time): of features without time one could hardly tell when
    something happens. When a sound is heard has the same distribution for both. Both are cut
    before the film's end, where a picture that stands still would tell of silence. Videos
    without a track and films too short for both are left out.
    """

    repeats = True

    class Config(core.Config):
        """The towers, what they see and how they are compared.

        Attributes:
            video: Video tower, which must have features over time.
            audio: Audio tower, which must have such too.
            augmentation: One draw a clip.
            frames: Of a clip; the sound is as long. As many moments are compared.
            shift: Smallest distance of a shifted sound, in seconds.
            projection: Dimensions of a moment's projection.
            temperature: Of the mean cosine over all moments.
        """

        video: Annotated[core.Config, TOWERS] = FrameTransformer.Config()
        audio: Annotated[core.Config, TOWERS] = MelTransformer.Config()
        augmentation: Annotated[core.Config, AUGMENTATIONS] = CropColour.Config()
        frames: int = Field(default=16, ge=1)
        shift: float = Field(default=0.25, gt=0)
        projection: int = 128
        temperature: float = Field(default=0.025, gt=0)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self._clip = ClipView(augmentation=config.augmentation, frames=config.frames, inside=True)
        self._clip.check(surroundings.frames)
        self._decoded = surroundings.frames
        self._least = max(1, math.ceil(config.shift * surroundings.frame_rate))
        _check(config, surroundings, self._least)
        self._frames, self._temperature = config.frames, config.temperature
        self._per_frame = surroundings.sound_rate / surroundings.frame_rate
        self._length = int(config.frames * self._per_frame)
        self.views = {
            "clip": self._clip,
            "film": FilmFramesView(),
            "sound": AudioView(),
            "present": AudioPresentView(),
        }
        self.video = TOWERS.build(config.video, surroundings)
        self.audio = TOWERS.build(config.audio, surroundings)
        self.look = _projection("video", self.video, config.projection)
        self.listen = _projection("audio", self.audio, config.projection)
        self.chance = 1 / 3

    def encode(self, batch: Batch) -> Rows:
        """Projections of every clip, of its sound, and of the sound of another time. [B, D]."""
        places = self._places_of(batch.keys, batch.views["film"])
        heard = torch.cat([self._heard(batch, first) for first in places])
        sound, other = self._moments(self.listen, self.audio.over_time(heard)).chunk(2)
        clip = self._moments(self.look, self.video.over_time(batch.views["clip"]))
        return {"clip": clip, "sound": sound, "shifted": other}

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Find every clip's sound among all sounds of the global batch.

        Other sounds of the same video are negatives like the shifted one, if they are as far
        away. The accuracy is of choosing among its own, the shifted one and that of one other
        video.
        """
        film, keys, samples = gather(batch.views["film"]), gather(batch.keys), gather(batch.samples)
        present = gather(batch.views["present"].long()).bool() & self._fits(film)
        partners, found = others(present, keys, samples)
        sounds = torch.cat([gather(rows["sound"]), gather(rows["shifted"])])
        mine = torch.arange(len(batch), device=sounds.device) + world()[0] * len(batch)
        seen, moved = self._places_of(keys, film)
        away = torch.cat([seen, moved]) - seen[mine, None]
        near = (batch.samples[:, None] == samples.repeat(2)) & (away.abs() < self._least)
        hidden = near.scatter(1, mine[:, None], False) | ~present.repeat(2)
        logits = product(rows["clip"], sounds.T) / self._temperature
        logits = logits.masked_fill(hidden, _ABSENT)
        usable = (present & found)[mine].to(logits.dtype)
        # Of all workers, so that the mean of their means is that of all usable samples.
        share = gather(usable.mean().view(1)).mean().clamp(min=1 / len(present))
        wrong = torch.stack([mine + len(present), partners[mine]], 1)
        best = logits.detach().gather(1, wrong).amax(1, keepdim=True)
        # Whoever cannot tell them apart (silence, a collapsed tower) has not found it.
        right = (logits.detach().gather(1, mine[:, None]) > best)[:, 0].to(logits.dtype)
        losses = F.cross_entropy(logits, mine, reduction="none")
        metrics = {"accuracy": (right * usable).mean() / share, "usable": usable.mean()}
        return LossOutput((losses * usable).mean() / share, metrics)

    def encoders(self) -> Mapping[str, nn.Module]:
        """Both towers."""
        return {"video": self.video, "audio": self.audio}

    def _fits(self, film: Tensor) -> Tensor:
        """Whether films of so many frames have both places. [B] -> [B] bool."""
        return film - self._frames + 1 >= 2 * self._least

    def _places_of(self, keys: Tensor, film: Tensor) -> tuple[Tensor, Tensor]:
        """First frames of every clip, and of its shifted sound. [B], [B] -> [B] each."""
        seen = self._clip.places(keys, self._decoded, film)[:, 0]
        # A film too short for both counts for nothing: any place that was decoded will do.
        places = (film - self._frames + 1).clamp(min=2 * self._least)
        return seen, shifted(keys, seen, places, self._least)

    def _heard(self, batch: Batch, places: Tensor) -> Tensor:
        """Sound as long as the clip, from a frame's time on. [B, S], [B] -> [B, length]."""
        along = torch.arange(self._length, device=places.device)
        first = (places * self._per_frame).long()
        return batch.views["sound"].gather(1, first[:, None] + along)

    def _moments(self, project: nn.Module, features: Tensor) -> Tensor:
        """Unit vectors of as many moments as a clip has frames, in one. [B, T, D] -> [B, D']."""
        even = F.interpolate(features.transpose(1, 2), self._frames, mode="linear")
        moments = F.normalize(wide(project(even.transpose(1, 2))), dim=2)
        return moments.flatten(1) / math.sqrt(self._frames)


def _projection(name: str, tower: nn.Module, width: int) -> nn.Module:
    """What makes projections of a tower's moments. [..., D] -> [..., width]."""
    inputs = getattr(tower, "time_width", None)
    if not isinstance(inputs, int):
        raise ConfigError(f"objective.{name}: {type(tower).__name__} has no features over time")
    return nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width))


def shifted(keys: Tensor, seen: Tensor, places: Tensor, least: int) -> Tensor:
    """Draw other places, on a circle: where places are even, so are these.

    Args:
        keys: Keys of the samples. [B] int64
        seen: Places. [B] int64
        places: How many each has, at least twice the distance. [B] int64
        least: Smallest distance.

    Returns:
        At least so far away, the short way around too. [B] int64
    """
    return (seen + least + integers(keys, _SHIFT, places - 2 * least + 1)) % places


def others(present: Tensor, keys: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Draw for each row one of another sample that has sound.

    Args:
        present: Which rows of the global batch have sound. [G] bool
        keys: Keys of the rows. [G] int64
        samples: Equal numbers for rows of the same sample. [G] int64

    Returns:
        Numbers of rows, all equally often for one that has sound itself. [G] int64
        Whether there was another one. [G] bool
    """
    sounding = present.nonzero()[:, 0]
    if not len(sounding):
        return torch.zeros_like(keys), torch.zeros_like(present)
    values, order = samples[sounding].sort(stable=True)
    first, after = (torch.searchsorted(values, samples, right=right) for right in (False, True))
    rest = len(sounding) - (after - first)
    drawn = integers(keys, _PARTNER, rest.clamp(min=1))
    return sounding[order][(after + drawn) % len(sounding)], rest > 0


def _check(config: AudioVideoAlignment.Config, surroundings: Surroundings, least: int) -> None:
    if not surroundings.sound:
        raise ConfigError("this objective needs sound: set data.decode.audio")
    if surroundings.frames - config.frames + 1 < 2 * least:
        raise ConfigError(
            f"clips of {config.frames} frames leave no place for a shift of {config.shift} s:"
            f" raise data.decode.video.frames to {config.frames - 1 + 2 * least}"
        )
    seconds = surroundings.frames / surroundings.frame_rate
    if surroundings.sound < int(seconds * surroundings.sound_rate):
        raise ConfigError(
            f"sound must last as long as clips: set data.decode.audio.seconds to {seconds:g}"
        )
