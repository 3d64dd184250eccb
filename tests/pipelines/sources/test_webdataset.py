from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import fsspec
import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core import DataError
from pipelines.shards import storage
from pipelines.sources.webdataset import WebDataset, merge

SPANS = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 60)).map(lambda s: (s[0], s[0] + s[1])),
    max_size=30,
).map(lambda spans: sorted(set(spans)))


@pytest.fixture
def content() -> list[tuple[str, dict[str, bytes]]]:
    random = np.random.default_rng(0)
    return [
        (
            f"{number:03d}",
            {"txt": b"text %d" % number, "bin": random.bytes(int(random.integers(0, 3000)))},
        )
        for number in range(25)
    ]


@pytest.fixture
def url(tmp_path: Path, make_tar, content) -> str:
    for shard, start in enumerate(range(0, 25, 10)):
        make_tar(tmp_path / f"s-{shard}.tar", dict(content[start : start + 10]))
    return f"{tmp_path}/s-{{0..2}}.tar"


def open_source(url: str) -> WebDataset:
    return WebDataset(WebDataset.Config(url=url))


def test_samples_come_in_the_order_asked(url, content):
    source = open_source(url)
    asked = np.random.default_rng(1).integers(0, 25, 60)  # repeats included
    raws = list(source.read(asked))
    assert [(raw.key, dict(raw.members)) for raw in raws] == [content[i] for i in asked]
    assert [Path(raw.shard).name for raw in raws] == [f"s-{i // 10}.tar" for i in asked]


@pytest.mark.parametrize("asked", [[], [24], [0], list(range(25)), [3, 3, 3], [24, 0, 10, 9]])
def test_any_selection_can_be_read(url, content, asked):
    raws = list(open_source(url).read(np.array(asked, dtype=np.int64)))
    assert [(raw.key, dict(raw.members)) for raw in raws] == [content[i] for i in asked]


@pytest.mark.parametrize("gap", [0, 1000, 1 << 30])
def test_joining_ranges_changes_requests_and_not_content(url, content, monkeypatch, gap):
    monkeypatch.setattr(merge, "__defaults__", (gap,))
    asked = np.random.default_rng(2).permutation(25)
    raws = list(open_source(url).read(asked))
    assert [(raw.key, dict(raw.members)) for raw in raws] == [content[i] for i in asked]


def test_neighbours_are_one_request(url, monkeypatch):
    source = open_source(url)
    requests: list[int] = []
    read = storage.read_ranges

    def counted(url, ranges):
        requests.append(len(ranges))
        return read(url, ranges)

    monkeypatch.setattr(storage, "read_ranges", counted)
    list(source.read(np.arange(25)))
    assert requests == [1, 1, 1]


def test_an_object_store_gives_the_same(memory, url, content):
    filesystem = fsspec.filesystem("memory")
    for place in storage.expand(url):
        filesystem.pipe_file(f"/bucket/{Path(place).name}", Path(place).read_bytes())
    here, there = open_source(url), open_source(f"{memory}/s-*.tar")
    assert there.digest == here.digest
    asked = np.array([24, 3, 11])
    got = [(raw.key, dict(raw.members)) for raw in there.read(asked)]
    assert got == [content[i] for i in asked]


def test_shards_of_webdatasets_own_writer_read_back(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        for number in range(4):
            writer.write({"__key__": f"k{number}", "txt": f"t{number}", "json": {"n": number}})
    raws = list(open_source(f"{tmp_path}/w.tar").read(np.array([2, 0])))
    assert [raw.key for raw in raws] == ["k2", "k0"]
    assert raws[0].members["txt"] == b"t2"
    assert set(raws[0].members) == {"txt", "json"}


def test_chunks_stay_inside_shards(url):
    assert open_source(url).chunks(4).tolist() == [4, 4, 2, 4, 4, 2, 4, 1]


def test_an_opened_source_pickles(url, content):
    source = pickle.loads(pickle.dumps(open_source(url)))
    (raw,) = source.read(np.array([7]))
    assert (raw.key, dict(raw.members)) == content[7]


def test_a_shard_that_became_shorter_is_an_error(url, tmp_path, monkeypatch):
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    source = open_source(url)
    file = tmp_path / "s-0.tar"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(storage.StorageError, match="shorter than its index says"):
        list(source.read(np.array([9])))


def test_no_sample_is_an_error(tmp_path, make_tar):
    make_tar(tmp_path / "empty.tar", {})
    with pytest.raises(DataError, match="no sample in it"):
        open_source(f"{tmp_path}/empty.tar")


@given(SPANS, st.integers(0, 100))
def test_merged_ranges_cover_every_span_and_little_else(spans, gap):
    merged = merge(spans, gap)
    for start, stop in spans:
        assert sum(a <= start and stop <= b for a, b in merged) == 1
    assert merged == sorted(merged)
    assert all(after[0] - before[1] > gap for before, after in pairwise(merged))
    # Every merged range begins and ends with a span, and has no hole wider than the gap.
    covered = {byte for start, stop in spans for byte in range(start, max(stop, start + 1))}
    for start, stop in merged:
        assert start in {a for a, _ in spans}
        assert stop in {b for _, b in spans}
        hole = 0
        for byte in range(start, stop):
            hole = 0 if byte in covered else hole + 1
            assert hole <= gap
