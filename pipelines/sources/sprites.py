"""Films with sound of emoji that fall, slide, bounce and collide, at any size, from a seed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipelines import core
from pipelines.core import Family
from pipelines.core.recent import Recent
from pipelines.core.source import Fault, Part, RawSample, Source
from pipelines.shards.url import Url
from pipelines.sprites.cast import Cast, draw_cast
from pipelines.sprites.cutouts import Cutout, cut_out
from pipelines.sprites.draw import draw_frames, draw_ground, plant_keyframes
from pipelines.sprites.encode import Codec, encode_clip, encode_sound
from pipelines.sprites.physics import simulate, steps_a_frame
from pipelines.sprites.sound import make_sound
from pipelines.sprites.words import caption, labels
from pipelines.sprites.world import Motion

_TRIES = 64  # pictures drawn for one sprite
_TOGETHER = 256  # films whose motion is simulated at once, at most
_STEPS = 1 << 19  # of all sprites of films that are simulated together: 32 bytes each

# Of the process and not of a source, which every read task unpickles anew.
_CUTOUTS: Recent[Cutout | None] = Recent(64 << 20, lambda c: c.pixels.nbytes if c else 64)


@dataclass(frozen=True)
class _Film:
    """A film of which it is drawn who plays in it, from a generator that draws the rest."""

    key: str
    random: np.random.Generator
    cast: Cast
    sprites: list[Cutout | None]


class Sprites:
    """Films with sound: emoji that fall, slide, bounce and collide, at any size, from a seed."""

    class Config(core.Config):
        """How many films, of what, from which seed.

        Attributes:
            samples: How many films.
            seed: From which, and a sample's number, all of a sample follows.
            frames: Frames of a film.
            fps: Frames a second.
            size: Side of the square frames, in pixels.
            rate: Samples of sound a second.
            sprites: The most that enter a film; every film has two unless it is 1.
            pictures: Tars of pictures on white, with captions, to cut sprites from.
            tracks: ``pictures`` alone are the same film without its sound; ``sound`` alone is a
                WAV of the same sound, for which no picture is drawn.
            codec: ``raw`` loses nothing; ``mjpeg`` is a fifth of its size and slower to read.
                Neither tells the order of frames: each is coded by itself, at one quality.
            planted: ``keyframes`` blurs frames the more the longer ago the last of every
                32nd is: a cue to the direction of time that no motion is needed for,
                by which a test of shortcuts can be tested.
        """

        samples: int = Field(default=1024, ge=1)
        seed: int = Field(default=0, ge=0)
        frames: int = Field(default=32, ge=1, le=10_000)
        fps: int = Field(default=16, ge=1, le=240)
        size: int = Field(default=64, ge=16, le=1024)
        rate: int = Field(default=8000, ge=1000, le=192_000)
        sprites: int = Field(default=4, ge=1, le=12)
        pictures: Url = "eagleray://emoji/emoji-train-*.tar"
        tracks: Literal["both", "pictures", "sound"] = "both"
        codec: Codec = "raw"
        planted: Literal["none", "keyframes"] = "none"

    def __init__(self, config: Config, **options: Any):
        """Open the pictures; ``options`` are those of a source of tars."""
        self._config = config
        sources = Family("pipelines.sources")  # by name: members do not import one another
        tars = sources.parse({"kind": "webdataset", "url": config.pictures})
        self._pictures: Source = sources.build(tars, **options)
        self._count = sum(part.size for part in self._pictures.parts)

    @property
    def digest(self) -> str:
        """The config and the pictures are the content, wherever the pictures are."""
        # Films have the digest that they had before there was one track alone.
        usual = {"tracks"} if self._config.tracks == "both" else set()
        config = self._config.model_dump_json(exclude={"pictures", *usual})
        return f"sprites2-{config}-{self._pictures.digest}"

    @property
    def parts(self) -> Sequence[Part]:
        """All of it is one part."""
        return (Part(self._config.samples),)

    @property
    def shards(self) -> int:
        """No file holds it."""
        return 0

    @property
    def faults(self) -> Sequence[Fault]:
        """What is damaged among the pictures."""
        return self._pictures.faults

    def read(self, samples: npt.NDArray[np.int64]) -> Iterator[RawSample]:
        """Make samples by number."""
        numbers = iter(samples.tolist())
        while some := list(itertools.islice(numbers, self._together)):
            yield from self._make(some)

    @property
    def _together(self) -> int:
        """Films whose motion is simulated at once: what 16 MB hold."""
        config = self._config
        steps = config.frames * steps_a_frame(config.fps) * config.sprites
        return max(1, min(_TOGETHER, _STEPS // steps))

    def _make(self, samples: list[int]) -> Iterator[RawSample]:
        films = [self._begin(sample) for sample in samples]
        worlds = [(film.cast.scene, film.cast.bodies) for film in films]
        motions = simulate(worlds, self._config.frames, self._config.fps)
        for film, motion in zip(films, motions, strict=True):
            yield self._finish(film, motion)

    def _begin(self, sample: int) -> _Film:
        random = np.random.default_rng((self._config.seed, sample))
        seconds = self._config.frames / self._config.fps
        cast = draw_cast(random, seconds, self._config.sprites)
        return _Film(f"{sample:08d}", random, cast, [self._sprite(random) for _ in cast.bodies])

    def _finish(self, film: _Film, motion: Motion) -> RawSample:
        config, random, cast = self._config, film.random, film.cast
        found = [sprite for sprite in film.sprites if sprite is not None]
        if len(found) < len(film.sprites):
            reason = f"no sprite in {_TRIES} pictures of {config.pictures}; they must be on white"
            return RawSample("sprites", film.key, {}, reason)
        radii = [body.radius for body in cast.bodies]
        # Also for sound alone: its noise is drawn after the ground's.
        ground = draw_ground(random, config.size)
        texts = {
            "txt": caption(cast, found, motion).encode(),
            "json": json.dumps(labels(cast, found, motion)).encode(),
        }
        sound = None
        if config.tracks != "pictures":
            sound = make_sound(random, motion, radii, config.fps, config.rate)
        if sound is not None and config.tracks == "sound":
            return RawSample("sprites", film.key, {"wav": encode_sound(sound, config.rate)} | texts)
        frames = draw_frames(ground, [sprite.pixels for sprite in found], radii, motion.shown)
        if config.planted == "keyframes":
            plant_keyframes(frames)
        film_bytes = encode_clip(frames, sound, config.fps, config.rate, config.codec)
        return RawSample("sprites", film.key, {"mov": film_bytes} | texts)

    def _sprite(self, random: np.random.Generator) -> Cutout | None:
        """Draw pictures until one of them has a sprite."""
        drawn = (int(random.integers(self._count)) for _ in range(_TRIES))
        cutouts = (self._cutout(number) for number in drawn)
        return next((cutout for cutout in cutouts if cutout is not None), None)

    def _cutout(self, number: int) -> Cutout | None:
        def load() -> Cutout | None:
            (raw,) = self._pictures.read(np.array([number]))
            return cut_out(raw.members)

        return _CUTOUTS.get((self._pictures.digest, number), load)
