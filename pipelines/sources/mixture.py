"""Several data sets in fixed proportions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from pipelines import core
from pipelines.core import ConfigError, Family
from pipelines.core.source import Fault, Part, RawSample, Source

_SOURCES = Family("pipelines.sources")
# Weights count in these parts of their sum, the finer ones where the others would be too far off:
# whole numbers divide exactly.
_UNITS = (10_000, 1_000_000)
_OFF = 0.05  # share of a weight that it may be rounded by


class Weighted(core.Config):
    """A data set of a mixture.

    Attributes:
        source: Where its samples come from.
        weight: Its share of every batch, relative to the others' weights.
    """

    source: Annotated[core.Config, _SOURCES]
    weight: float = Field(gt=0, allow_inf_nan=False)

    @field_validator("source")
    @classmethod
    def _flat(cls, source: core.Config) -> core.Config:
        if _SOURCES.kind_of(source) == "mixture":
            raise ValueError("a mixture in a mixture; list its data sets in the outer one")
        return source


class Mixture:
    """Several sources, each in its own epochs, whose shares of any batch are exact."""

    class Config(core.Config):
        """The data sets, with their weights."""

        of: tuple[Weighted, ...] = Field(min_length=2)

    def __init__(self, config: Config, **options: Any):
        """Open all sources; ``options`` are handed on to each."""
        self._sources: list[Source] = [
            _SOURCES.build(weighted.source, **options) for weighted in config.of
        ]
        self._shares = shares([weighted.weight for weighted in config.of])
        sizes = [part.size for part in self.parts]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @property
    def digest(self) -> str:
        """Digest over all sources, in order; weights are the recipe's business."""
        digests = [source.digest for source in self._sources]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def parts(self) -> Sequence[Part]:
        """One for each source."""
        sizes = [sum(part.size for part in source.parts) for source in self._sources]
        return [Part(size, share) for size, share in zip(sizes, self._shares, strict=True)]

    @property
    def shards(self) -> int:
        """Files of all sources."""
        return sum(source.shards for source in self._sources)

    @property
    def faults(self) -> Sequence[Fault]:
        """What is damaged in any source."""
        return [fault for source in self._sources for fault in source.faults]

    def read(self, samples: npt.NDArray[np.int64]) -> Iterator[RawSample]:
        """Read samples in the order asked, from whichever source each one is in."""
        which = np.searchsorted(self._starts, samples, side="right") - 1
        streams = {
            number: iter(self._sources[number].read(samples[which == number] - start))
            for number, start in enumerate(self._starts[:-1])
            if (which == number).any()
        }
        for number in which.tolist():
            yield next(streams[number])


def shares(weights: Sequence[float]) -> list[int]:
    """Weights as whole numbers.

    Raises:
        ConfigError: One is so small beside the others that it would become another one.
    """
    total = sum(weights)
    for unit in _UNITS:
        exact = [unit * weight / total for weight in weights]
        if all(abs(round(share) - share) <= _OFF * share for share in exact):
            return [round(share) for share in exact]
    raise ConfigError(
        f"mixture: a weight of {min(weights):g} beside {total:g} in all is too small to be kept; "
        f"give it {10 * total / _UNITS[-1]:.3g} or more, or leave its data set out"
    )
