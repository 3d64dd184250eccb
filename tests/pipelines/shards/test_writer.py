from __future__ import annotations

import errno
import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core import DataError, StorageError, UserError
from pipelines.shards import storage
from pipelines.shards.tar import BLOCK, TarScanner
from pipelines.shards.writer import Bounds, key_fault, write_shards

LETTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/.")
PARTS = st.text(LETTERS, min_size=1, max_size=120)
KEYS = st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(lambda k: not key_fault(k))
EXTENSIONS = st.from_regex(r"[a-z0-9]{1,4}(\.[a-z0-9]{1,3})?", fullmatch=True)
SAMPLES = st.dictionaries(
    KEYS, st.dictionaries(EXTENSIONS, st.binary(max_size=1500), min_size=1, max_size=3), max_size=8
)
SMALL = [(f"k{i}", {"txt": b"%d" % i}) for i in range(5)]


def shards(dest: str, name: str = "t") -> list[bytes]:
    urls = [file for file in storage.names(dest) if file.startswith(f"{name}-")]
    return [storage.read_bytes(storage.join(dest, url)) for url in urls]


def by_scanner(data: bytes) -> list[tuple[str, bytes]]:
    scanner = TarScanner(io.BytesIO(data))
    found = [(m.name, data[m.offset : m.offset + m.size]) for m in scanner]
    assert scanner.fault is None
    return found


def by_tarfile(data: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]


def by_webdataset(data: bytes) -> list[tuple[str, dict[str, bytes]]]:
    files = webdataset.tariterators.tar_file_iterator(io.BytesIO(data))
    named = ({**file, "__url__": "x"} for file in files)
    return [
        (s["__key__"], {k: v for k, v in s.items() if not k.startswith("__")})
        for s in webdataset.tariterators.group_by_keys(named)
    ]


@given(SAMPLES, st.builds(Bounds, size=st.integers(1, 12_000), count=st.integers(1, 4)))
def test_what_is_written_is_read_by_all_and_within_the_bounds(tmp_path_factory, samples, bounds):
    given_ = list(samples.items())
    folder = tmp_path_factory.mktemp("w")
    written = write_shards(given_, str(folder), "t", bounds)
    data = shards(str(folder))
    files = [(f"{key}.{ext}", members[ext]) for key, members in given_ for ext in sorted(members)]
    assert [file for shard in data for file in by_scanner(shard)] == files
    assert [file for shard in data for file in by_tarfile(shard)] == files
    assert [sample for shard in data for sample in by_webdataset(shard)] == given_
    assert [shard.size for shard in written] == list(map(len, data))
    assert [shard.samples for shard in written] == [len(by_webdataset(shard)) for shard in data]
    for shard in written:
        assert 1 <= shard.samples <= bounds.count
        assert shard.size <= bounds.size or shard.samples == 1
    write_shards(iter(given_), str(folder), "again", bounds)
    assert shards(str(folder), "again") == data


def test_shards_are_as_full_as_the_bounds_allow(tmp_path):
    # A sample of one small member takes a header and a block; a tar ends with two blocks.
    bounds = Bounds(size=2 * BLOCK + 2 * 2 * BLOCK, count=100)
    assert [s.samples for s in write_shards(SMALL, str(tmp_path), "a", bounds)] == [2, 2, 1]
    bounds = Bounds(size=bounds.size - 1, count=100)
    assert [s.samples for s in write_shards(SMALL, str(tmp_path), "b", bounds)] == [1] * 5
    written = write_shards(SMALL, str(tmp_path), "c", Bounds(count=3))
    assert [s.samples for s in written] == [3, 2]
    assert [s.url for s in written] == [f"{tmp_path}/c-00000.tar", f"{tmp_path}/c-00001.tar"]


def test_a_sample_larger_than_the_bound_has_a_shard_of_its_own(tmp_path):
    samples = [("a", {"b": b"1"}), ("big", {"b": bytes(9000)}), ("c", {"b": b"2"})]
    written = write_shards(samples, str(tmp_path), "t", Bounds(size=4096))
    assert [(s.samples, s.size > 4096) for s in written] == [(1, False), (1, True), (1, False)]


def test_headers_say_nothing_of_who_wrote_them_and_when(tmp_path):
    write_shards([("a/é", {"txt": b"1"}), ("b", {"txt": b"2"})], str(tmp_path), "t")
    (data,) = shards(str(tmp_path))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert (member.uname, member.gname, member.type) == ("", "", tarfile.REGTYPE)


@pytest.mark.parametrize(
    ("key", "pax"),
    [
        ("plain", False),
        ("d" * 60 + "/" + "n" * 80, False),  # ustar splits it into prefix and name
        ("n" * 97, True),
        ("naïve", True),
    ],
)
def test_only_names_that_need_it_get_a_pax_header(tmp_path, key, pax):
    write_shards([(key, {"txt": b"1"})], str(tmp_path), "t")
    (data,) = shards(str(tmp_path))
    assert (data[156:157] == b"x") is pax
    assert data[257:265] == b"ustar\x0000"
    assert by_scanner(data) == by_tarfile(data) == [(f"{key}.txt", b"1")]


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("a.b", "a dot"),
        ("a/b.c", "a dot"),
        ("", "an empty"),
        ("a/", "an empty"),
        ("/a", "an empty"),
        ("a//b", "an empty"),
        ("../a", "an empty or relative"),
        ("a/./b", "an empty or relative"),
        ("a\nb", "a control character"),
        ("a\0", "a control character"),
        ("a\x85b", "a control character"),
        ("\udcff", "half a character"),
        ("x" * 4097, "more than 4096 bytes"),
        ("__meta__/a", "which readers skip"),
    ],
)
def test_a_key_that_readers_would_not_give_back_is_refused(tmp_path, key, fault):
    with pytest.raises(DataError, match=fault) as caught:
        write_shards([("good", {"txt": b""}), (key, {"txt": b""})], str(tmp_path), "t")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "key", ["a.b/c", "a b", "__x", "__x__", "a/__x__/b", "100%", "~", "x" * 4096]
)
def test_keys_that_only_look_odd_are_written(tmp_path, key):
    write_shards([(key, {"txt": b"1"})], str(tmp_path), "t")
    (data,) = shards(str(tmp_path))
    assert by_webdataset(data) == [(key, {"txt": b"1"})]


@pytest.mark.parametrize("extension", ["", "TXT", "a/b", ".a", "a.", "a..b", "x__", "é", "a b"])
def test_an_extension_that_readers_would_change_is_refused(tmp_path, extension):
    with pytest.raises(DataError, match="is no extension"):
        write_shards([("a", {extension: b""})], str(tmp_path), "t")


def test_a_sample_without_members_or_with_a_key_that_was_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="a: no member"):
        write_shards([("a", {})], str(tmp_path), "t")
    with pytest.raises(DataError, match="k0: two samples have this key"):
        write_shards([*SMALL, SMALL[0]], str(tmp_path), "t", Bounds(count=1))
    assert list(tmp_path.iterdir()) == []


def broken(error: BaseException) -> Iterator[tuple[str, dict[str, bytes]]]:
    yield from SMALL
    raise error


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_samples_that_break_off_leave_nothing(tmp_path, error):
    with pytest.raises(type(error)):
        write_shards(broken(error), str(tmp_path / "d"), "t", Bounds(count=2))
    assert storage.names(str(tmp_path / "d")) == []


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    move = storage.move_in

    def refuse(source: Path, url: str) -> None:
        if url.endswith("2.tar"):
            raise StorageError(f"{url}: the disk is full")
        move(source, url)

    monkeypatch.setattr(storage, "move_in", refuse)
    with pytest.raises(StorageError, match=r"t-00002\.tar: the disk is full"):
        write_shards(SMALL, str(tmp_path), "t", Bounds(count=2))
    assert list(tmp_path.iterdir()) == []


def test_shards_are_not_replaced_unless_asked_for_and_then_all_of_them(tmp_path):
    write_shards(SMALL, str(tmp_path), "t", Bounds(count=1))
    before = shards(str(tmp_path), "t")
    with pytest.raises(UserError, match=r"already has 5 shards named t-\*\.tar; --overwrite"):
        write_shards(SMALL, str(tmp_path), "t")
    assert shards(str(tmp_path), "t") == before
    write_shards(SMALL[:1], str(tmp_path), "t", overwrite=True)
    assert shards(str(tmp_path), "t") == before[:1]


def test_nothing_to_write_replaces_nothing(tmp_path):
    write_shards(SMALL, str(tmp_path), "t")
    assert write_shards([], str(tmp_path), "t", overwrite=True) == []
    with pytest.raises(OSError, match="at once"):
        write_shards(iter_fails(), str(tmp_path), "t", overwrite=True)
    assert len(shards(str(tmp_path), "t")) == 1


@pytest.mark.parametrize("other", ["train-0000.tar", "train-old.tar"])
def test_files_that_the_new_shards_pattern_would_take_in_are_refused(tmp_path, other):
    (tmp_path / other).touch()
    with pytest.raises(UserError, match=f"has {other}; 'train-\\*\\.tar' would mix both"):
        write_shards(SMALL, str(tmp_path), "train", overwrite=True)


def test_a_full_disk_of_temporary_files_is_named(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def writelines(self, lines):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with pytest.raises(StorageError, match=r"shard\.tar: the disk is full.*TMPDIR names another"):
        write_shards(SMALL, str(tmp_path), "t")
    assert storage.names(str(tmp_path)) == []


def iter_fails() -> Iterator[tuple[str, dict[str, bytes]]]:
    raise OSError("at once")
    yield from SMALL


@pytest.mark.parametrize(("name", "other"), [("train", "train-extra"), ("train-extra", "train")])
def test_names_that_a_glob_would_mix_are_refused(tmp_path, name, other):
    write_shards(SMALL, str(tmp_path), other)
    with pytest.raises(UserError, match=r"'train-\*\.tar' would mix both"):
        write_shards(SMALL, str(tmp_path), name, overwrite=True)
    write_shards(SMALL, str(tmp_path), "trainer")
    assert len(shards(str(tmp_path), "trainer")) == 1


@pytest.mark.parametrize("name", ["", "a/b", "*", "a.b", "-x", "{a}"])
def test_a_name_that_is_no_file_or_a_pattern_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="is no name for shards"):
        write_shards(SMALL, str(tmp_path), name)


def test_a_pattern_is_no_place(tmp_path):
    with pytest.raises(UserError, match="a folder is needed, not a pattern"):
        write_shards(SMALL, f"{tmp_path}/{{a,b}}", "t")


@pytest.mark.parametrize("bounds", [{"size": 0}, {"count": 0}])
def test_bounds_that_hold_nothing_are_refused(bounds):
    with pytest.raises(UserError, match="at least one"):
        Bounds(**bounds)


def test_shards_go_to_any_url(memory, tmp_path):
    write_shards(SMALL, f"{memory}/data", "t", Bounds(count=2))
    write_shards(SMALL, str(tmp_path), "t", Bounds(count=2))
    assert shards(f"{memory}/data", "t") == shards(str(tmp_path), "t")
    assert len(shards(str(tmp_path), "t")) == 3


def test_a_shard_is_not_held_in_memory(tmp_path):
    tracemalloc.start()
    samples = ((f"{i}", {"bin": bytes(1 << 20)}) for i in range(40))
    (shard,) = write_shards(samples, str(tmp_path), "t")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shard.size > 40 << 20
    assert peak < 8 << 20
