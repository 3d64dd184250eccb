"""Data sets that must not share samples: what is asked, and what is learned from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.core import Config, DataError
from pipelines.reader import SOURCES
from pipelines.shards import storage


def check_apart(data: str | Config, reference: str | Config) -> None:
    """Refuse data that are learned from as well, however the patterns of both are written.

    Args:
        data: URL pattern of tars, or the config of a source.
        reference: The same of what is learned from.

    Raises:
        DataError: A shard is in both.
        StorageError: A pattern names no file.
    """
    mine, others = _shards(data), _shards(reference)
    shared = next((shard for shard in mine if shard in others), None)
    if shared is not None:
        raise DataError(
            f"{shared} is in both {mine[shared]} and {others[shared]}: what is asked of its "
            "samples would be known; take it out of one of them"
        )


def _shards(data: str | Config) -> dict[str, str]:
    """Shards of a source, each with the pattern that names it; of a local file the path itself."""
    return {
        str(Path(url).resolve()) if storage.is_local(storage.locate(url)[0]) else url: pattern
        for pattern in _patterns(data)
        for url in storage.expand(pattern)
    }


def _patterns(data: str | Config) -> Iterator[str]:
    """Patterns of the tars that samples are read from: not of those that films are made of."""
    if isinstance(data, str):
        yield data
    elif SOURCES.kind_of(data) == "webdataset":
        yield from _patterns(getattr(data, "url", ""))
    for part in getattr(data, "of", ()):  # of a mixture
        yield from _patterns(part.source)
