"""Documents of texts and images in order, such as OBELICS (Laurençon et al., 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from pipelines.core import Config
from pipelines.decode.errors import SampleError
from pipelines.decode.image import decode_image_into
from pipelines.decode.text import load_json

MARKER = "<image>"
_ESCAPED = "< image>"

Part = tuple[bool, str]  # whether an image, and its name or else the text


class DocumentConfig(Config):
    """An interleaved document.

    Attributes:
        member: Extension of the JSON member.
        images: How many images are kept, from the beginning.
        size: Side of the square images, in pixels.
        join: What stands between the parts of the text.
    """

    member: str = "json"
    images: int = Field(default=4, ge=1, le=1024)
    size: int = Field(default=64, ge=1)
    join: str = "\n"

    @field_validator("join")
    @classmethod
    def _cannot_make_a_marker(cls, join: str) -> str:
        if "<" in join or ">" in join:
            raise ValueError("must have neither '<' nor '>', of which image markers are made")
        return join


def decode_document(
    members: Mapping[str, bytes],
    config: DocumentConfig,
    images: npt.NDArray[np.uint8],
    count: npt.NDArray[np.int32],
) -> str:
    """Decode a document.

    The member is either a list of ``{"text": ...}`` and ``{"image": ...}``, or
    ``{"texts": [...], "images": [...]}`` in parallel, with null where the other
    has something. An image is named by the extension of its member and by
    nothing else.

    Args:
        members: Bytes by extension.
        config: What is kept.
        images: Where images go; zeros follow the last. [I, S, S, 3] uint8
        count: Where their number goes. [1] int32

    Returns:
        The texts in order, with ``<image>`` for every image that is kept. A
        text that says ``<image>`` is changed to say ``< image>``.

    Raises:
        ValueError: Not such a document, or an image is missing or damaged.
    """
    parts = list(_parts(load_json(members, config.member), config.member))
    names = [part for is_image, part in parts if is_image]
    for name in names:
        if name not in members:
            raise SampleError(f"no member '{name}', which '{config.member}' names")
    kept = names[: config.images]
    images[len(kept) :] = 0
    count[0] = len(kept)
    for name, out in zip(kept, images, strict=False):
        _image(name, members[name], out)
    return compose(parts, config)


def compose(parts: list[Part], config: DocumentConfig) -> str:
    """Join parts to one text.

    Args:
        parts: Whether each is an image, and the text of the others.
        config: How many images are kept, and what joins.

    Returns:
        The text; ``<image>`` stands in it where an image is kept and nowhere else.
    """
    seen = 0
    kept: list[Part] = []
    for is_image, part in parts:
        seen += is_image
        if not is_image or seen <= config.images:
            kept.append((is_image, part))
    runs: list[str] = []
    for is_image, run in groupby(kept, key=lambda part: part[0]):
        texts = [text for _, text in run]
        # Neighbours are joined first: together they might say what neither says alone.
        runs += (
            [MARKER] * len(texts)
            if is_image
            else [config.join.join(texts).replace(MARKER, _ESCAPED)]
        )
    return config.join.join(runs)


def _image(name: str, data: bytes, out: npt.NDArray[np.uint8]) -> None:
    try:
        decode_image_into(data, out)
    except ValueError as error:
        raise SampleError(f"{name}: {error}") from None


def _parts(document: Any, member: str) -> Iterator[Part]:
    for text, image in _pairs(document, member):
        if text is not None and image is not None:
            raise SampleError(f"member '{member}' has a part that is both a text and an image")
        if not all(part is None or isinstance(part, str) for part in (text, image)):
            raise SampleError(f"member '{member}' has a part that is not a string")
        if image is not None:
            yield True, image
        elif text:
            yield False, _legal(text, member)


def _pairs(document: Any, member: str) -> Iterator[tuple[Any, Any]]:
    """(text, image) of every part."""
    if isinstance(document, list) and all(isinstance(part, dict) for part in document):
        for part in document:
            if not {"text", "image"} & part.keys():
                raise SampleError(f"member '{member}' has a part without a text or an image")
            yield part.get("text"), part.get("image")
        return
    if isinstance(document, dict):
        texts, images = document.get("texts"), document.get("images")
        if isinstance(texts, list) and isinstance(images, list) and len(texts) == len(images):
            yield from zip(texts, images, strict=True)
            return
    raise SampleError(f"member '{member}' is not a document of texts and images")


def _legal(text: str, member: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair is legal JSON and no legal text
        raise SampleError(f"member '{member}' is not valid (UnicodeEncodeError)") from None
    return text
