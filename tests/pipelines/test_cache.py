from __future__ import annotations

import itertools
import sys

import numpy as np
import pyarrow as pa

from pipelines.cache import SampleCache


def test_lists_and_letters_beyond_ascii_take_what_they_take():
    cache = SampleCache(40)
    texts = ["a long description of what is there " * 9 + "\N{BIRD}"] * 40
    tags = [[f"{row} {number}" for number in range(20)] for row in range(40)]
    columns = {"fault": [""] * 40, "key": list(map(str, range(40))), "t": texts, "tags": tags}
    cache.put(np.arange(40), pa.table(columns))
    kept = cache.table(np.zeros(40), np.arange(40)).to_pydict()
    strings = [*kept["key"], *kept["t"], *itertools.chain(*kept["tags"])]
    least = sum(map(sys.getsizeof, [*strings, *kept["tags"]]))
    assert least <= cache.projected <= 1.1 * least
