"""Which members the samples of a data set have, and of how many bytes: from the index alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.inspection.columns import NAMES, Column, readable


class Fields:
    """Members by extension, over all samples.

    Names with dots make extensions of what was meant as a key, a new one for
    every sample; so at most ``NAMES`` are told apart, and the rest is counted.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, Column] = {}
        self._others = 0
        self._first_other = ""

    def add(self, entries: pa.Table) -> None:
        """Add the entries of a shard."""
        names = entries["extensions"].combine_chunks().flatten().dictionary_encode()
        sizes = entries["sizes"].combine_chunks().flatten().to_numpy()
        codes = names.indices.to_numpy()
        # Sorted by name, so that each name's sizes are one slice.
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(names.dictionary)))
        sizes, start = sizes[order], 0
        for name, end in zip(names.dictionary.to_pylist(), ends.tolist(), strict=True):
            if name in self._sizes or len(self._sizes) < NAMES:
                self._sizes.setdefault(name, Column()).extend(sizes[start:end])
            else:
                self._first_other = self._first_other or name
                self._others += end - start
            start = end

    def summary(self, samples: int) -> dict[str, Any]:
        """``named``: one a name, the most frequent first; ``others``: members of further names.

        Args:
            samples: How many samples there are.
        """
        ordered = sorted(self._sizes.items(), key=lambda item: (-item[1].count, item[0]))
        named = [
            {
                "extension": readable(name),
                "samples": sizes.count,
                "share": sizes.count / samples,
                "bytes": sizes.summary(),
            }
            for name, sizes in ordered
        ]
        others = {"members": self._others, "example": readable(self._first_other)}
        return {"named": named, "others": others if self._others else None}
