"""A raw sample to the arrays and strings that a recipe asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipelines.core import Config
from pipelines.core.source import RawSample
from pipelines.decode.image import EXTENSIONS, decode_image
from pipelines.decode.text import decode_text


class SampleError(ValueError):
    """A sample that cannot be decoded: it goes to the quarantine with this reason."""


class DecoderConfig(Config):
    """What to decode.

    Attributes:
        size: Side of the square image, in pixels; None for no image.
        text: Text fields by name: ``{"caption": "txt", "tags": "json.tags"}``.
    """

    size: int | None = Field(default=64, ge=1)
    text: Mapping[str, str] = {}


@dataclass(frozen=True)
class Sample:
    """A decoded sample: image [H, W, 3] uint8 or None, and its text fields."""

    image: npt.NDArray[np.uint8] | None
    texts: Mapping[str, str]


class Decoder:
    """Decodes samples one at a time; holds no state."""

    def __init__(self, config: DecoderConfig):
        self.config = config

    def __call__(self, raw: RawSample) -> Sample:
        """Decode a sample.

        Raises:
            SampleError: With the reason, one line.
        """
        try:
            texts = {name: decode_text(raw.members, spec) for name, spec in self._fields()}
            return Sample(self._image(raw), texts)
        except ValueError as error:
            raise SampleError(str(error)) from None

    def _fields(self) -> list[tuple[str, str]]:
        return sorted(self.config.text.items())

    def _image(self, raw: RawSample) -> npt.NDArray[np.uint8] | None:
        if self.config.size is None:
            return None
        data = next((raw.members[ext] for ext in EXTENSIONS if ext in raw.members), None)
        if data is None:
            raise ValueError(f"no image member, has {', '.join(sorted(raw.members)) or 'none'}")
        return decode_image(data, self.config.size)
