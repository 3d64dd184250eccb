"""A raw sample to the arrays and strings that a recipe asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipelines.core import Config
from pipelines.core.source import RawSample
from pipelines.decode.audio import AudioConfig
from pipelines.decode.clip import clip_shapes, decode_video_audio, find
from pipelines.decode.document import DocumentConfig, decode_document
from pipelines.decode.errors import SampleError
from pipelines.decode.image import EXTENSIONS, decode_image_into
from pipelines.decode.text import decode_field
from pipelines.decode.video import VideoConfig

__all__ = ["Decoder", "DecoderConfig", "Sample", "SampleError"]


class DecoderConfig(Config):
    """What to decode.

    Attributes:
        size: Side of the square image, in pixels; None for no image.
        text: Text fields by name: ``{"caption": "txt", "tags": "json.tags"}``;
            one that ends in ``[]`` is a list: ``{"captions": "json.captions[]"}``.
        video: Which frames of a video.
        audio: Which sound, of an audio file or of a video's track.
        document: An interleaved document; its text is the field ``document``.
        max_bytes: Size of a member from which on its sample is refused.
    """

    size: int | None = Field(default=64, ge=1)
    text: Mapping[str, str] = {}
    video: VideoConfig | None = None
    audio: AudioConfig | None = None
    document: DocumentConfig | None = None
    max_bytes: int = Field(default=256 << 20, ge=1)

    @model_validator(mode="after")
    def _one_document(self) -> DecoderConfig:
        if self.document is not None and "document" in self.text:
            raise ValueError("text.document: 'document' is the text of the interleaved document")
        return self


@dataclass(frozen=True)
class Sample:
    """A decoded sample.

    Attributes:
        arrays: Arrays by the name of their column, see ``Decoder.shapes``.
        texts: Text fields: a string, or a list of them.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    texts: Mapping[str, str | list[str]]

    @property
    def image(self) -> npt.NDArray[np.uint8] | None:
        """Image [S, S, 3] uint8, or None."""
        return self.arrays.get("image")


class Decoder:
    """Decodes samples one at a time; holds no state.

    Attributes:
        config: What to decode.
        shapes: Shape and type of every array, by the name of its column.
    """

    def __init__(self, config: DecoderConfig):
        self.config = config
        self.shapes: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]] = _shapes(config)

    @property
    def row_bytes(self) -> int:
        """Bytes of a sample's arrays."""
        return sum(dtype.itemsize * math.prod(shape) for shape, dtype in self.shapes.values())

    @property
    def steady(self) -> bool:
        """Whether a sample is decoded alike in every epoch: of films and sounds pieces are."""
        return self.config.video is None and self.config.audio is None

    def __call__(self, raw: RawSample, key: int = 0) -> Sample:
        """Decode a sample.

        Args:
            raw: The sample.
            key: 64-bit key, from which every random choice follows.

        Raises:
            SampleError: With the reason, one line.
        """
        rows = {name: np.empty(shape, dtype) for name, (shape, dtype) in self.shapes.items()}
        return Sample(rows, self.fill(raw, rows, key))

    def fill(
        self, raw: RawSample, rows: Mapping[str, npt.NDArray[Any]], key: int = 0
    ) -> Mapping[str, str | list[str]]:
        """Decode a sample into rows of a batch.

        Args:
            raw: The sample.
            rows: An array for every entry of ``shapes``, contiguous. Where the
                sample is refused, what they hold is undefined.
            key: 64-bit key, from which every random choice follows.

        Returns:
            Its text fields.

        Raises:
            SampleError: With the reason, one line.
        """
        try:
            return self._fill(raw, rows, key)
        except SampleError:
            raise
        except ValueError as error:
            raise SampleError(str(error)) from None

    def _fill(
        self, raw: RawSample, rows: Mapping[str, npt.NDArray[Any]], key: int
    ) -> Mapping[str, str | list[str]]:
        config, members = self.config, raw.members
        _check(raw, config.max_bytes)
        texts = {name: decode_field(members, spec) for name, spec in sorted(config.text.items())}
        if config.size is not None:
            data = find(members, EXTENSIONS)
            if data is None:
                raise SampleError(f"no image member, has {', '.join(sorted(members)) or 'none'}")
            decode_image_into(data, rows["image"])
        if config.video is not None or config.audio is not None:
            decode_video_audio(members, config.video, config.audio, key, rows)
        if config.document is not None:
            images, count = rows["document.images"], rows["document.count"]
            texts["document"] = decode_document(members, config.document, images, count)
        return texts


def _check(raw: RawSample, max_bytes: int) -> None:
    if raw.fault:
        raise SampleError(raw.fault)
    for extension, data in raw.members.items():
        if len(data) > max_bytes:
            raise SampleError(f"member '{extension}' has {len(data)} bytes, more than {max_bytes}")


def _shapes(config: DecoderConfig) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    shapes = clip_shapes(config.video, config.audio)
    if config.size is not None:
        shapes["image"] = (config.size, config.size, 3), np.dtype(np.uint8)
    if config.document is not None:
        side = config.document.size
        shapes["document.images"] = (config.document.images, side, side, 3), np.dtype(np.uint8)
        shapes["document.count"] = (1,), np.dtype(np.int32)
    return shapes
