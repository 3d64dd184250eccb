from __future__ import annotations

import os
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
from pipelines.core.source import Part
from pipelines.shards import storage
from pipelines.shards.quarantine import write_quarantine
from pipelines.sources import webdataset as module
from pipelines.sources.webdataset import WebDataset, merge

SPANS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 500), st.integers(0, 60)).map(
        lambda s: (s[0], s[1], s[1] + s[2])
    ),
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


def test_it_is_one_part_in_several_shards(url):
    source = open_source(url)
    assert list(source.parts) == [Part(25)]
    assert source.shards == 3
    assert list(source.faults) == []


@pytest.mark.parametrize("together", [1, 3000, 20_000])
def test_fetching_in_groups_changes_nothing(url, content, monkeypatch, together):
    monkeypatch.setattr(module, "_TOGETHER", together)
    asked = np.random.default_rng(3).integers(0, 25, 60)
    raws = list(open_source(url).read(asked))
    assert [(raw.key, dict(raw.members)) for raw in raws] == [content[i] for i in asked]


def test_a_sample_too_large_to_hold_is_refused_and_the_others_are_read(url, content, monkeypatch):
    source = open_source(url)
    sizes = [len(members["bin"]) for _, members in content]
    monkeypatch.setattr(module, "LARGEST", 3072)  # headers, padding and a text take 1.5 KiB
    raws = list(source.read(np.arange(25)))
    for raw, size, (key, members) in zip(raws, sizes, content, strict=True):
        assert raw.key == key
        if -(-size // 512) * 512 + 1536 <= 3072:
            assert (dict(raw.members), raw.fault) == (members, "")
        else:
            assert dict(raw.members) == {}
            assert raw.fault.endswith("bytes is too large")
    assert {bool(raw.fault) for raw in raws} == {True, False}


def test_a_shard_that_changed_in_place_costs_its_samples_and_gives_no_wrong_bytes(
    url, tmp_path, make_tar, content
):
    source = open_source(url)
    file = tmp_path / "s-1.tar"
    size = file.stat().st_size
    make_tar(file, {f"other-{n}": {"txt": b"x" * 700} for n in range(40)})
    file.write_bytes(file.read_bytes()[:size].ljust(size, b"\0"))
    raws = list(source.read(np.arange(25)))
    for number, raw in enumerate(raws):
        if 10 <= number < 20:
            assert "is not what was indexed" in raw.fault
            assert not raw.members
            assert raw.key == content[number][0]
        else:
            assert (raw.key, dict(raw.members)) == content[number]


def test_samples_of_the_same_length_are_not_taken_for_those_that_were_there(tmp_path, make_tar):
    file = tmp_path / "a.tar"
    make_tar(file, {f"{n}": {"txt": b"old %d" % n} for n in range(6)})
    source = open_source(str(file))
    make_tar(file, {f"{n}": {"txt": b"new %d" % n} for n in reversed(range(6))})
    raws = list(source.read(np.arange(6)))
    assert [raw.fault for raw in raws] == [
        f"the shard is not what was indexed ({n} is in its place)" for n in reversed(range(6))
    ]
    assert [raw.key for raw in raws] == [str(n) for n in range(6)]


def test_a_file_that_was_touched_or_copied_is_the_same(tmp_path, make_tar):
    file = tmp_path / "a.tar"
    make_tar(file, {f"{n}": {"txt": b"old %d" % n} for n in range(6)})
    source = open_source(str(file))
    os.utime(file, (1, 1))
    assert [raw.fault for raw in source.read(np.arange(6))] == [""] * 6


def test_every_unreadable_sample_has_its_own_place_in_the_quarantine(url, tmp_path, monkeypatch):
    source = open_source(url)
    for number in (0, 2):
        file = tmp_path / f"s-{number}.tar"
        file.write_bytes(bytes(file.stat().st_size))
    looked: list[int] = []
    keys = source.index.keys
    monkeypatch.setattr(source.index, "keys", lambda shard: looked.append(shard) or keys(shard))
    raws = list(source.read(np.random.default_rng(4).permutation(25)))
    faults = [{"shard": r.shard, "key": r.key, "reason": r.fault} for r in raws if r.fault]
    place = f"{tmp_path}/quarantine.parquet"
    rest_of_a_shard = {"shard": f"{tmp_path}/s-0.tar", "key": "", "reason": "truncated in a header"}
    assert write_quarantine(place, [rest_of_a_shard]) == 1
    assert write_quarantine(place, faults) == 1 + 15
    assert sorted(looked) == [0, 0, 2, 2]  # twice each, however many samples


@pytest.mark.parametrize("where", ["disk", "memory"])
@pytest.mark.parametrize(
    ("pattern", "shards"),
    [("{en,de,en}", ["en", "de", "en"]), ("{?n,d*,*}", ["en", "de", "de", "en"])],
)
def test_a_shard_that_is_named_twice_is_read_twice_and_no_other_in_its_place(
    memory, tmp_path, make_tar, where, pattern, shards
):
    for name in ("en", "de"):  # of one size: bytes of another one would be read as samples
        texts = {f"{number}": {"txt": b"%s %d" % (name.encode(), number)} for number in range(3)}
        file = make_tar(tmp_path / f"{name}.tar", texts)
        storage.write_atomic(f"{memory}/{name}.tar", file.read_bytes())
    source = open_source(f"{tmp_path if where == 'disk' else memory}/{pattern}.tar")
    asked = np.random.default_rng(5).permutation(len(shards) * 3)
    raws = list(source.read(asked))
    expected = [(shards[number // 3], number % 3) for number in asked]
    assert [Path(raw.shard).stem for raw in raws] == [name for name, _ in expected]
    assert [raw.members["txt"].decode() for raw in raws] == [f"{n} {k}" for n, k in expected]


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 100))
def test_groups_are_bounded_and_follow_one_another(sizes, limit):
    groups = module._groups(np.array(sizes, dtype=np.int64), limit)
    assert [n for g in groups for n in sizes[g]] == sizes
    for group in groups:
        assert sum(sizes[group]) <= limit or len(sizes[group]) == 1


def test_an_opened_source_pickles(url, content):
    source = pickle.loads(pickle.dumps(open_source(url)))
    (raw,) = source.read(np.array([7]))
    assert (raw.key, dict(raw.members)) == content[7]


def test_a_shard_that_became_shorter_is_an_error(url, tmp_path):
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
    for shard, start, stop in spans:
        assert sum(s == shard and a <= start and stop <= b for s, a, b in merged) == 1
    assert merged == sorted(merged)
    assert all(
        before[0] != after[0] or after[1] - before[2] > gap for before, after in pairwise(merged)
    )
    # Every merged range begins and ends with a span, and has no hole wider than the gap.
    covered = {(s, byte) for s, start, stop in spans for byte in range(start, max(stop, start + 1))}
    for shard, start, stop in merged:
        assert (shard, start) in {(s, a) for s, a, _ in spans}
        assert (shard, stop) in {(s, b) for s, _, b in spans}
        hole = 0
        for byte in range(start, stop):
            hole = 0 if (shard, byte) in covered else hole + 1
            assert hole <= gap
