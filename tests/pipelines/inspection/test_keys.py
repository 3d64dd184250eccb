from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from pipelines.inspection import keys
from pipelines.inspection.keys import Keys
from pipelines.shards.entries import SCHEMA as ENTRIES
from pipelines.shards.index import Index
from pipelines.shards.index_table import SCHEMA


def index_of(*shards: list[str]) -> Index:
    held = {}
    rows = []
    for number, names in enumerate(shards):
        zeros = [0] * len(names)
        lists = [[]] * len(names)
        held[number] = pa.table([names, zeros, zeros, lists, lists, lists], schema=ENTRIES)
        row = {"url": f"s{number}.tar", "stamp": "", "size": 1, "sha256": "", "skipped": 0}
        rows.append({**row, "samples": len(names), "fault": "", "entries": ""})
    return Index(pa.Table.from_pylist(rows, schema=SCHEMA), held)


def count(index: Index) -> dict:
    found = Keys(index)
    for part in range(found.parts):
        for shard in range(index.shards.num_rows):
            found.add(shard, index.entries(shard), part)
        found.settle()
    return found.summary()


def test_keys_are_found_within_and_across_shards() -> None:
    assert count(index_of(["a", "b", "a"], [], ["c", "b", "a", "d"])) == {
        "keys": 2,
        "samples": 3,
        "within_shards": 1,
        "across_shards": 2,
        "examples": [
            {"key": "a", "samples": 3, "shards": ["s0.tar", "s2.tar"]},
            {"key": "b", "samples": 2, "shards": ["s0.tar", "s2.tar"]},
        ],
    }


def test_equal_hashes_of_different_keys_are_no_repetition(monkeypatch) -> None:
    monkeypatch.setattr(keys, "hash", len, raising=False)
    found = count(index_of(["a", "b", "cc", "a"], ["dd"]))
    assert (found["keys"], found["samples"]) == (1, 1)
    assert [example["key"] for example in found["examples"]] == ["a"]


@pytest.mark.parametrize(("together", "confirmed"), [(1 << 24, 1 << 20), (64, 16), (7, 1)])
def test_parts_give_what_one_pass_gives(monkeypatch, together: int, confirmed: int) -> None:
    monkeypatch.setattr(keys, "_TOGETHER", together)
    monkeypatch.setattr(keys, "_CONFIRMED", confirmed)
    random = np.random.default_rng(0)
    shards = [[str(n) for n in random.integers(0, 300, 100)] for _ in range(5)]
    counts = Counter(key for shard in shards for key in shard)
    within = sum(100 - len(set(shard)) for shard in shards)
    index = index_of(*shards)
    assert Keys(index).parts == {1 << 24: 1, 64: 8, 7: 128}[together]
    found = count(index)
    assert found["keys"] == sum(n > 1 for n in counts.values())
    assert found["samples"] == 500 - len(counts)
    assert found["within_shards"] == within
    assert found["across_shards"] == 500 - len(counts) - within
    order = list(dict.fromkeys(key for shard in shards for key in shard if counts[key] > 1))
    assert [(e["key"], e["samples"]) for e in found["examples"]] == [
        (key, counts[key]) for key in order[:10]
    ]


def test_of_a_key_that_is_everywhere_the_first_shards_are_named() -> None:
    found = count(index_of(*[["x"]] * 9))
    assert (found["keys"], found["samples"], found["within_shards"]) == (1, 8, 0)
    assert found["examples"][0]["shards"] == [f"s{n}.tar" for n in range(5)]
