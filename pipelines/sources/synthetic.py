"""Drawn shapes with captions: the source that tests use, at any size, from a seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipelines import core
from pipelines.core.source import Fault, Part, RawSample

_COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 220)}
_SHAPES = ("circle", "square", "triangle")


class Synthetic:
    """Coloured shapes at random places, with captions such as "red circle"."""

    class Config(core.Config):
        """How many pictures, how large, from which seed."""

        samples: int = Field(default=256, ge=1)
        size: int = Field(default=64, ge=16)
        seed: int = 0

    def __init__(self, config: Config, **_: Any):
        """Nothing is opened; other sources' options are accepted and not needed."""
        self._config = config

    @property
    def digest(self) -> str:
        """The config is the content."""
        return f"synthetic-{self._config.model_dump_json()}"

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
        """Nothing of it can be damaged."""
        return ()

    def read(self, samples: npt.NDArray[np.int64]) -> Iterator[RawSample]:
        """Draw samples by number."""
        return (self._draw(int(sample)) for sample in samples)

    def _draw(self, sample: int) -> RawSample:
        size = self._config.size
        random = np.random.default_rng((self._config.seed, sample))
        colour = sorted(_COLOURS)[sample % 3]
        shape = _SHAPES[sample // 3 % 3]
        image = np.full((size, size, 3), random.integers(180, 256), dtype=np.uint8)
        x, y = (int(v) for v in random.integers(size // 4, 3 * size // 4, 2))
        radius = int(random.integers(size // 8, size // 4))
        if shape == "circle":
            cv2.circle(image, (x, y), radius, _COLOURS[colour], -1)
        elif shape == "square":
            corners = (x - radius, y - radius), (x + radius, y + radius)
            cv2.rectangle(image, *corners, _COLOURS[colour], -1)
        else:
            points = [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)]
            cv2.fillPoly(image, [np.array(points)], _COLOURS[colour])
        data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        caption = f"{colour} {shape}"
        label = json.dumps({"group": colour, "tags": [shape]})
        members = {"png": data, "txt": caption.encode(), "json": label.encode()}
        return RawSample("synthetic", f"{sample:08d}", members)
