"""Contract of sources: where samples come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RawSample:
    """A sample as stored: bytes by member extension.

    Attributes:
        shard: Where it is, for messages and the quarantine.
        key: Its name there.
        members: Bytes by extension, for example ``{"webp": ..., "txt": ...}``.
        fault: Why it could not be read; empty where it could.
    """

    shard: str
    key: str
    members: Mapping[str, bytes]
    fault: str = ""


@dataclass(frozen=True)
class Fault:
    """Something stored that cannot be read: a sample, or with an empty key the rest of a shard."""

    shard: str
    key: str
    reason: str


@dataclass(frozen=True)
class Part:
    """A data set that is shuffled by itself: how many samples, and its weight in a mixture."""

    size: int
    weight: int = 1


class Source(Protocol):
    """An opened data set; a file in ``pipelines/sources``. Must pickle."""

    @property
    def digest(self) -> str:
        """Digest of its content: another one means another data set."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """Its data sets: one, or those of a mixture. Sample numbers count through all of them."""
        ...

    @property
    def shards(self) -> int:
        """How many files hold it."""
        ...

    @property
    def faults(self) -> Sequence[Fault]:
        """What was found damaged when it was opened."""
        ...

    def read(self, samples: npt.NDArray[np.int64]) -> Iterator[RawSample]:
        """Read samples by number, in the order asked.

        Raises:
            StorageError: A shard cannot be read.
        """
        ...
