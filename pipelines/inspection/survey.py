"""What a WebDataset data set holds, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.core.permutation import hashes, ranks
from pipelines.core.source import RawSample
from pipelines.inspection.columns import Column, Tally, readable
from pipelines.inspection.fields import Fields
from pipelines.inspection.headers import film_header, picture_header, sound_header
from pipelines.inspection.keys import Keys
from pipelines.inspection.media import Films, Pictures, Sounds
from pipelines.inspection.texts import Captions, Documents
from pipelines.inspection.trial import FILM, PICTURE, SOUND, attempt, kind_of
from pipelines.shards.index import Index
from pipelines.sources.webdataset import WebDataset

_STREAM = 7  # of the hashes that choose samples
_TOGETHER = 8192  # samples asked for at once
_LISTED = 100  # unreadable samples and damaged shards that are named

Numbers = npt.NDArray[np.int64]
Watch = Callable[[int, int], object]


def spread(places: Numbers, count: int, total: int) -> Numbers:
    """Samples that are spread evenly, the same in every run.

    One lies in each of ``count`` equal parts of the data set, anywhere in it:
    equal distances would see one class of classes that take turns.

    Args:
        places: Which of the chosen samples, each in [0, count). [K] int64
        count: How many are chosen, at most ``total``.
        total: How many samples there are.

    Returns:
        Their numbers, ascending with their places. [K] int64
    """
    starts = ranks(places, total, count)
    room = (ranks(places + 1, total, count) - starts).astype(np.uint64)
    return starts + (hashes((_STREAM,), places) % room).astype(np.int64)


def measure_index(index: Index, watch: Watch) -> dict[str, Any]:
    """Measure what an index tells of all samples; no shard is read.

    Args:
        index: Of the data set.
        watch: Called with (shards read, of how many).

    Returns:
        Counts, ``fields``, and ``repeated_keys``.
    """
    fields, keys = Fields(), Keys(index)
    shards = index.shards.num_rows
    total = keys.parts * shards
    for part in range(keys.parts):
        for shard in range(shards):
            entries = index.entries(shard)
            keys.add(shard, entries, part)
            if part == 0:
                fields.add(entries)
            watch(part * shards + shard + 1, total)
        keys.settle()
    return {
        **_counts(index),
        "fields": fields.summary(len(index)),
        "repeated_keys": keys.summary(),
    }


def _counts(index: Index) -> dict[str, Any]:
    held, sizes = Column(), Column()
    held.extend(index.shards["samples"].to_numpy())
    sizes.extend(index.shards["size"].to_numpy())
    faults = index.faults
    return {
        "digest": index.digest,
        "shards": index.shards.num_rows,
        "samples": len(index),
        "bytes": int(np.sum(index.shards["size"].to_numpy())),
        "skipped_members": int(np.sum(index.shards["skipped"].to_numpy())),
        "samples_per_shard": held.summary(),
        "shard_bytes": sizes.summary(),
        "damaged_shards": len(faults),
        "damaged": [{"shard": f.shard, "reason": f.reason} for f in faults[:_LISTED]],
    }


def look_at(source: WebDataset, count: int, text: Sequence[str], watch: Watch) -> dict[str, Any]:
    """Read some samples, measure them and decode them for trial.

    Args:
        source: The data set.
        count: How many, at most as many as there are.
        text: Text fields, as a recipe writes them; none for those that are found.
        watch: Called with (samples looked at, of how many).

    Returns:
        ``looked_at``, ``pictures``, ``videos``, ``audio``, ``json``,
        ``captions`` and ``unreadable``.

    Raises:
        StorageError: A shard cannot be read.
    """
    looks = _Looks(text)
    for start in range(0, count, _TOGETHER):
        places = np.arange(start, min(start + _TOGETHER, count))
        numbers = spread(places, count, len(source.index))
        for number, raw in zip(numbers.tolist(), source.read(numbers), strict=True):
            looks.add(number, raw)
            watch(looks.count, count)
    return looks.summary()


class _Looks:
    def __init__(self, text: Sequence[str]):
        self.count = 0
        self._pictures, self._films, self._sounds = Pictures(), Films(), Sounds()
        self._captions, self._documents = Captions(text), Documents()
        self._unreadable: list[dict[str, Any]] = []
        self._reasons = Tally()
        self._failed = 0

    def add(self, number: int, raw: RawSample) -> None:
        self.count += 1
        self._captions.add(raw.members)
        self._documents.add(raw.members)
        for extension, data in raw.members.items():
            self._head(kind_of(extension), data)
        reason = attempt(raw, number)
        if reason:
            self._failed += 1
            self._reasons.add(reason)
            if len(self._unreadable) < _LISTED:
                row = {"sample": number, "shard": raw.shard, "key": raw.key}
                self._unreadable.append({**row, "reason": readable(reason, 300)})

    def _head(self, kind: str | None, data: bytes) -> None:
        if kind == PICTURE and (picture := picture_header(data)):
            self._pictures.add(picture)
        elif kind == FILM and (film := film_header(data)):
            self._films.add(film)
        elif kind == SOUND and (sound := sound_header(data)):
            self._sounds.add(sound)

    def summary(self) -> dict[str, Any]:
        return {
            "looked_at": self.count,
            "pictures": self._pictures.summary(),
            "videos": self._films.summary(),
            "audio": self._sounds.summary(),
            "json": self._documents.summary(),
            "captions": self._captions.summary(),
            "unreadable": {
                "samples": self._failed,
                "looked_at": self.count,
                "reasons": self._reasons.summary(),
                "examples": self._unreadable,
            },
        }
