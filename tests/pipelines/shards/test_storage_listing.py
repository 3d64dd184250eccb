from __future__ import annotations

import os
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.core import OutageError, StorageError
from pipelines.shards import storage, storage_places
from tests.pipelines.shards.web import Web


class Counting(MemoryFileSystem):
    """Counts what is asked of the bucket: runs of earlier tests may still ask for their folders."""

    calls: Counter[str] = Counter()  # noqa: RUF012

    def _count(self, name, path):
        if "bucket" in path:
            self.calls[name] += 1

    def ls(self, path, detail=True, **kwargs):
        self._count("ls", path)
        return super().ls(path, detail=detail, **kwargs)

    def info(self, path, **kwargs):
        self._count("info", path)
        return super().info(path, **kwargs)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch, memory: str) -> Counting:
    filesystem = Counting()
    monkeypatch.setattr(storage_places, "_filesystem", lambda protocol: filesystem)
    monkeypatch.setattr(Counting, "calls", Counter())
    return filesystem


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("memory")


PATTERNS = [
    "*.tar",
    "b-{0..1}.tar",
    "{b,a}-*.tar",
    "{b,a}-1*.tar",
    "{b,c,a}-0.tar",
    "b-[01].tar",
    "b-?.tar",
    "{s,t}/*.tar",
    "?/x-*.tar",
    "**/x-*.tar",
    "{s,t}/x-{0..9}.tar",
    "{b-1,b-0,s/x-3,a-10}.tar",
    "{s/x-9,s/x-8,s/x-7,s/x-6,s/x-5,s/x-4,s/x-3,s/x-2,s/x-1,b-0}.tar",
    "s/x-*{9,8,7,6,5,4,3,2,1,0}.tar",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_listing_is_what_expands_with_the_stamp_of_each(folder, pattern):
    names = ["b-1", "b-0", "a-0", "a-10", "c-0"] + [f"{s}/x-{i}" for s in "st" for i in range(10)]
    for number, name in enumerate(names):
        storage.write_atomic(storage.join(folder, f"{name}.tar"), bytes(number))
    storage.write_atomic(storage.join(folder, "deep.tar", "c.txt"), b"a folder that looks right")
    urls = storage.expand(storage.join(folder, pattern))
    assert len(urls) > 1
    listed = storage.listing(storage.join(folder, pattern))
    assert listed == [(url, storage.stamp(url)) for url in urls]


def test_a_link_has_the_stamp_of_its_file(tmp_path):
    (tmp_path / "store").mkdir()
    real = tmp_path / "store" / "real.tar"
    real.write_bytes(b"123")
    os.utime(real, (1, 1))
    (tmp_path / "a.tar").symlink_to(real)
    assert storage.listing(f"{tmp_path}/*.tar") == [(f"{tmp_path}/a.tar", "3:1.0")]


@pytest.mark.parametrize("pattern", ["s-{00000..99999}.tar", "s-*.tar", "s-{0..9}*.tar"])
def test_requests_do_not_grow_with_the_number_of_shards(counting, pattern):
    with counting.open("/bucket/s-00000.tar", "wb") as one:
        one.write(b"1")
    for number in range(1, 100_000):
        counting.store[f"/bucket/s-{number:05d}.tar"] = counting.store["/bucket/s-00000.tar"]
    counting.calls.clear()
    listed = storage.listing(f"memory://bucket/{pattern}")
    assert len(listed) == 100_000
    assert listed[-1][0].endswith("bucket/s-99999.tar")
    assert counting.calls == {"ls": 1}


def test_each_folder_is_listed_once(counting):
    for folder in range(3):
        for number in range(20):
            counting.pipe_file(f"/bucket/{folder}/s-{number:02d}.tar", b"1")
    counting.calls.clear()
    assert len(storage.listing("memory://bucket/{0..2}/s-{00..19}.tar")) == 60
    assert counting.calls == {"ls": 3}


def test_a_few_names_are_asked_for_and_their_folder_is_not_listed(counting):
    for number in range(8):
        counting.pipe_file(f"/bucket/s-{number}.tar", b"1")
    counting.calls.clear()
    storage.listing("memory://bucket/s-{0..7}.tar")
    assert counting.calls == {"info": 8}


@pytest.mark.parametrize("last", [3, 30])
def test_a_missing_shard_names_its_nearest_neighbour(folder, last):
    for number in range(last):
        storage.write_atomic(storage.join(folder, f"train-{number:02d}.tar"), b"1")
    with pytest.raises(StorageError) as caught:
        storage.listing(storage.join(folder, f"train-{{00..{last:02d}}}.tar"))
    missing = storage.join(folder, f"train-{last:02d}.tar")
    assert str(caught.value).startswith(f"{missing}: does not exist; did you mean 'train-")


def test_stamps_of_a_folder_are_those_of_its_files(folder):
    assert storage.stamps(f"{folder}/none") == {}
    for name in ("b.json", "a.json", "inner/c.json"):
        storage.write_text(f"{folder}/{name}", name)
    found = storage.stamps(folder)
    assert found == {name: storage.stamp(f"{folder}/{name}") for name in ("a.json", "b.json")}


def test_it_is_known_when_a_file_was_written(folder):
    before = time.time()
    storage.write_text(storage.join(folder, "a"), "1")
    # S3 tells whole seconds, and a local file has the time of the kernel's last tick.
    assert before - 1.1 <= storage.changed(storage.join(folder, "a")) <= time.time()


@pytest.mark.parametrize(
    "said",
    [
        {"LastModified": datetime(2026, 1, 2, tzinfo=UTC)},
        {"last_modified": datetime(2026, 1, 2)},  # of no zone: UTC
        {"updated": "2026-01-02T00:00:00.000Z", "size": 1},
        {"mtime": 1767312000.0},
        {},
    ],
)
def test_filesystems_say_it_in_their_own_ways(counting, said):
    counting.info = lambda path, **_: {"name": path, "size": 1, "type": "file", **said}
    found = storage.changed("memory://bucket/a")
    assert found == (1767312000.0 if said else None)


def test_shards_of_no_folder_are_missing(folder):
    with pytest.raises(StorageError, match=r"s-00\.tar: does not exist; its folder does not exist"):
        storage.listing(storage.join(folder, "none", "s-{00..20}.tar"))


@pytest.mark.parametrize("call", [storage.listing, storage.expand])
def test_a_pattern_that_matches_nothing_names_the_nearest_file(folder, call):
    storage.write_atomic(storage.join(folder, "train-000.tar"), b"1")
    with pytest.raises(StorageError, match=r"no file matches; did you mean 'train-000\.tar'\?"):
        call(storage.join(folder, "trian-*.tar"))


def test_the_nearest_name_is_found_among_many(counting):
    for number in range(3000):
        counting.pipe_file(f"/bucket/{number:05d}-x.tar", b"1")
    with pytest.raises(StorageError, match=r"did you mean '02900-x\.tar'\?"):
        storage.read_bytes("memory://bucket/02900-xx.tar")


# --- web servers ---------------------------------------------------------------------------


def fill(web: Web, count: int) -> list[str]:
    """Files of different sizes; their URLs."""
    web.files |= {f"/d/s-{number:02d}.tar": bytes(number + 1) for number in range(count)}
    return [f"{web.url}{path}" for path in web.files]


@pytest.mark.parametrize("status", [403, 404, 500])
@pytest.mark.parametrize("count", [3, 30])
def test_a_web_server_that_shows_no_folder_is_asked_for_each_name_once(web, status, count):
    urls = fill(web, count)
    web.folder = status
    listed = storage.listing(f"{web.url}/d/s-{{00..{count - 1:02d}}}.tar")
    assert sorted(web.requests) == [("HEAD", path) for path in sorted(web.files)]
    assert listed == [(url, f"{number + 1}:") for number, url in enumerate(urls)]


def test_a_page_that_shows_some_files_hides_none_and_tells_no_sizes(web):
    urls = fill(web, 12)
    web.files["/d"] = b"".join(b'<a href="s-%02d.tar">' % number for number in (5, 3, 11))
    named = storage.listing(f"{web.url}/d/s-{{00..11}}.tar")
    assert named == [(url, storage.stamp(url)) for url in urls]
    shown = storage.listing(f"{web.url}/d/s-*.tar")
    assert shown == [named[number] for number in (3, 5, 11)]


@pytest.mark.parametrize("last", [3, 30])
def test_a_file_that_a_web_server_lacks_is_named(web, last):
    fill(web, last)
    with pytest.raises(StorageError) as caught:
        storage.listing(f"{web.url}/d/s-{{00..{last:02d}}}.tar")
    missing = f"{web.url}/d/s-{last:02d}.tar"
    assert str(caught.value) == f"{missing}: does not exist; its folder cannot be listed"


@pytest.mark.parametrize("act", [storage.stamp, storage.exists, storage.read_bytes])
def test_a_web_server_that_is_busy_is_asked_again(web, monkeypatch, act):
    monkeypatch.setattr("time.sleep", lambda _: None)
    web.files["/a.tar"] = b"123"
    web.busy = 3
    assert act(f"{web.url}/a.tar")
    assert len(web.requests) > 3


def test_a_web_server_that_stays_busy_is_told_as_such(web, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    web.busy = 1000
    with pytest.raises(OutageError, match="503"):
        storage.stamp(f"{web.url}/a.tar")


def test_a_file_that_a_web_server_has_written_anew_has_another_stamp(web):
    web.files["/a.tar"], web.modified = b"123", "Mon, 01 Nov 2026 10:00:00 GMT"
    before = storage.stamp(f"{web.url}/a.tar")
    assert storage.stamp(f"{web.url}/a.tar") == before
    web.modified = "Mon, 01 Nov 2026 10:00:01 GMT"
    assert storage.stamp(f"{web.url}/a.tar") != before
