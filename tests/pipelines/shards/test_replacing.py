from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.core import StorageError
from pipelines.shards import storage
from pipelines.shards.index import open_index
from pipelines.shards.writer import Bounds, write_shards
from tests.s3.server import S3Server

pytest_plugins = ["tests.s3.fixtures"]

ONE = Bounds(count=1)
Given = list[tuple[str, dict[str, bytes]]]


def samples(text: bytes, count: int) -> Given:
    return [(f"{number}", {"txt": text}) for number in range(count)]


def pack(dest: str, text: bytes, count: int) -> None:
    write_shards(samples(text, count), dest, "t", ONE, overwrite=True)


def texts(dest: str) -> list[bytes]:
    """What each shard of the folder holds."""
    urls = [url for url, _ in storage.listing(f"{dest}/t-*.tar")]
    return [storage.read_bytes(url)[512:515] for url in urls]


@pytest.fixture(params=["disk", "memory", "s3"])
def dest(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return f"{tmp_path}/d"
    if request.param == "memory":
        return f"{request.getfixturevalue('memory')}/d"
    server: S3Server = request.getfixturevalue("s3")
    if not storage.exists("s3://replacing"):
        server.make_bucket("replacing")
    storage.remove_folder("s3://replacing/d")
    return "s3://replacing/d"


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_set_takes_the_place_of_a_shorter_or_longer_one(dest, count):
    pack(dest, b"old", 3)
    storage.write_atomic(f"{dest}/t-000007.tar", b"of the same name")
    storage.write_atomic(f"{dest}/other-00000.tar", b"of another one")
    assert len(open_index(f"{dest}/t-0000?.tar")) == 3
    pack(dest, b"new", count)
    expected = [f"t-{number:05d}.tar" for number in range(count)]
    assert storage.names(dest) == ["_eagleray", "other-00000.tar", *expected]
    assert texts(dest) == [b"new"] * count
    assert len(open_index(f"{dest}/t-0000?.tar")) == count


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_the_old_set_and_nothing_else(dest, error):
    def broken() -> Iterator[tuple[str, dict[str, bytes]]]:
        for sample in samples(b"new", 5):
            assert texts(dest) == [b"old"] * 3
            assert len(storage.expand(f"{dest}/**/*.tar")) == 3
            yield sample
        raise error

    pack(dest, b"old", 3)
    with pytest.raises(type(error)):
        write_shards(broken(), dest, "t", ONE, overwrite=True)
    assert texts(dest) == [b"old"] * 3
    assert storage.names(dest) == [f"t-{number:05d}.tar" for number in range(3)]


def test_a_place_that_is_full_keeps_the_old_set(dest, monkeypatch):
    move = storage.move_in

    def refuse(source: Path, url: str) -> None:
        if url.endswith("2"):
            raise StorageError(f"{url}: the disk is full")
        move(source, url)

    pack(dest, b"old", 3)
    monkeypatch.setattr(storage, "move_in", refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        pack(dest, b"new", 5)
    assert texts(dest) == [b"old"] * 3
    assert len(storage.names(dest)) == 3


def test_an_interrupt_while_shards_are_replaced_waits_until_all_are(dest, monkeypatch):
    put = storage.replace

    def interrupt(source: str, url: str) -> None:
        if url.endswith("00000.tar"):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        threading.Event().wait(0.05)
        put(source, url)

    pack(dest, b"old", 30)
    monkeypatch.setattr(storage, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(dest, b"new", 20)
    assert texts(dest) == [b"new"] * 20
    assert len(storage.names(dest)) == 20


def test_a_shard_that_cannot_be_replaced_is_kept_and_the_next_run_clears_up(dest, monkeypatch):
    put = storage.replace

    def refuse(source: str, url: str) -> None:
        if url.endswith("1.tar"):
            raise StorageError(f"{url}: access refused")
        put(source, url)

    pack(dest, b"old", 3)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "replace", refuse)
        with pytest.raises(StorageError, match=r"t-00001\.tar: access refused; the new") as caught:
            pack(dest, b"new", 3)
    assert texts(dest) == [b"new", b"old", b"new"]
    (folder,) = [name for name in storage.names(dest) if name.startswith(".t.")]
    assert f"are in {dest}/{folder}: put it right" in str(caught.value)
    assert storage.read_bytes(f"{dest}/{folder}/00001")[512:515] == b"new"
    with pytest.raises(OSError, match="gone"):
        write_shards(fails(), dest, "t", ONE, overwrite=True)
    assert folder in storage.names(dest)
    pack(dest, b"end", 3)
    assert texts(dest) == [b"end"] * 3
    assert len(storage.names(dest)) == 3


def fails() -> Iterator[tuple[str, dict[str, bytes]]]:
    yield from samples(b"new", 2)
    raise OSError("gone")


def test_folders_of_other_names_are_left_alone(dest):
    pack(dest, b"old", 1)
    for folder in (".t.0123abcd", ".tt.0123abcd", ".t.mine"):
        storage.write_atomic(f"{dest}/{folder}/00000", b"x")
    pack(dest, b"new", 1)
    assert storage.names(dest) == [".t.mine", ".tt.0123abcd", "t-00000.tar"]


def test_a_file_takes_the_place_of_another(dest):
    storage.write_atomic(f"{dest}/a", b"old")
    storage.write_atomic(f"{dest}/deep/b", b"new!")
    for target in ("a", "c"):
        storage.write_atomic(f"{dest}/deep/b", b"new!")
        storage.replace(f"{dest}/deep/b", f"{dest}/{target}")
        assert storage.read_bytes(f"{dest}/{target}") == b"new!"
    with pytest.raises(StorageError, match="does not exist"):
        storage.replace(f"{dest}/none", f"{dest}/a")
    assert storage.read_bytes(f"{dest}/a") == b"new!"


def test_a_filesystem_that_cannot_copy_copies_by_way_of_this_machine(memory, monkeypatch):
    def none(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.cp_file", none)
    pack(f"{memory}/d", b"old", 2)
    pack(f"{memory}/d", b"new", 2)
    assert texts(f"{memory}/d") == [b"new"] * 2
