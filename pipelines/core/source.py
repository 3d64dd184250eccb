"""Contract of sources: where samples come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """

    shard: str
    key: str
    members: Mapping[str, bytes]


class Source(Protocol):
    """An opened data set; a file in ``pipelines/sources``. Must pickle."""

    @property
    def digest(self) -> str:
        """Digest of its content: another one means another data set."""
        ...

    def chunks(self, size: int) -> npt.NDArray[np.int64]:
        """Sample counts of its chunks, at most ``size`` each, in storage order."""
        ...

    def read(self, samples: npt.NDArray[np.int64]) -> Iterator[RawSample]:
        """Read samples by number, in the order asked.

        Raises:
            StorageError: A shard cannot be read.
        """
        ...
