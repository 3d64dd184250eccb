"""A sample made small enough to be shown on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipelines.core.source import RawSample
from pipelines.decode.errors import SampleError
from pipelines.inspection.columns import readable
from pipelines.inspection.survey import spread
from pipelines.inspection.texts import read_texts, text_fields
from pipelines.inspection.thumbnails import Thumbnail, Wave, film_frames, picture_thumbnail, wave
from pipelines.inspection.trial import FILM, PICTURE, SOUND, attempt, kind_of
from pipelines.sources.webdataset import WebDataset

PICTURES = 4  # of a sample with several
_CAPTION = 280  # characters
_CAPTIONS = 4
_KEY = 200
_NAMED = 12  # members
_CLASS = 64  # bytes of a class label


@dataclass(frozen=True)
class Preview:
    """A sample as a page shows it.

    Attributes:
        shard: Where it is.
        key: Its name there.
        reason: Why it cannot be decoded; empty where it can.
        members: Extension and bytes of its members, the first few.
        pictures: Of its picture members, the first few.
        frames: Of its video, from the beginning to the end.
        wave: Of its sound, or of its video's.
        texts: Field and text, cut where they are long.
    """

    shard: str
    key: str
    reason: str
    members: Sequence[tuple[str, int]] = ()
    pictures: Sequence[Thumbnail] = ()
    frames: Sequence[Thumbnail] = ()
    wave: Wave | None = None
    texts: Sequence[tuple[str, str]] = ()


def previews(
    source: WebDataset, numbers: npt.NDArray[np.int64], text: Sequence[str]
) -> Iterator[Preview]:
    """Read samples and make them small.

    Args:
        source: The data set.
        numbers: Which samples. [K] int64
        text: Text fields; none for those that are found.
    """
    for number, raw in zip(numbers.tolist(), source.read(numbers), strict=True):
        yield preview(raw, number, text)


def chosen(shown: int, looked_at: int, total: int) -> npt.NDArray[np.int64]:
    """Samples to show: spread evenly over those that were looked at. [K] int64."""
    places = spread(np.arange(min(shown, looked_at)), min(shown, looked_at), looked_at)
    return spread(places, looked_at, total)


def preview(raw: RawSample, key: int, text: Sequence[str]) -> Preview:
    """Make a sample small; of one that cannot be decoded only the names and texts are kept.

    Args:
        raw: The sample.
        key: 64-bit key, from which follows where it is decoded for trial.
        text: Text fields; none for those that are found.
    """
    members = [(readable(name), len(data)) for name, data in raw.members.items()]
    plain = Preview(
        shard=raw.shard,
        key=readable(raw.key, _KEY),
        reason=readable(attempt(raw, key), _CAPTION),
        members=members[:_NAMED],
        texts=list(_texts(raw.members, text)),
    )
    if plain.reason:
        return plain
    try:
        return replace(
            plain,
            pictures=[picture_thumbnail(data) for data in _some(raw.members, PICTURE, PICTURES)],
            frames=[frame for data in _some(raw.members, FILM, 1) for frame in film_frames(data)],
            wave=_wave(raw.members),
        )
    except SampleError as error:  # training decodes less of it than is shown here
        return replace(plain, reason=f"readable in training, but not as a whole: {error}")


def _some(members: Mapping[str, bytes], kind: str, most: int) -> list[bytes]:
    return [data for name, data in members.items() if kind_of(name) == kind][:most]


def _wave(members: Mapping[str, bytes]) -> Wave | None:
    sounds = _some(members, SOUND, 1) or _some(members, FILM, 1)
    return wave(sounds[0]) if sounds else None


def _texts(members: Mapping[str, bytes], asked: Sequence[str]) -> Iterator[tuple[str, str]]:
    for field in asked or text_fields(members):
        for text in (read_texts(members, field) or [])[:_CAPTIONS]:
            yield field, readable(text, _CAPTION)
    if len(members.get("cls", b"?" * (_CLASS + 1))) <= _CLASS:
        for text in read_texts(members, "cls") or []:
            yield "cls", text
