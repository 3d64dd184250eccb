from __future__ import annotations

import errno
import os
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.core import StorageError
from pipelines.shards import storage, storage_faults, storage_places


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr("time.sleep", taken.append)
    return taken


class Flaky(MemoryFileSystem):
    """Raises the planned faults, one a call, before it works."""

    faults: list[BaseException | None] = []  # noqa: RUF012
    calls = 0

    def cat_ranges(self, paths, starts, ends, *args, **kwargs):
        type(self).calls += 1
        if self.faults and (fault := self.faults.pop(0)):
            raise fault
        return super().cat_ranges(paths, starts, ends, *args, **kwargs)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch, memory: str) -> type[Flaky]:
    filesystem = Flaky()
    monkeypatch.setattr(storage_places, "_filesystem", lambda protocol: filesystem)
    monkeypatch.setattr(Flaky, "faults", [])
    monkeypatch.setattr(Flaky, "calls", 0)
    filesystem.pipe_file("/d/a.bin", bytes(range(100)))
    return Flaky


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("memory")


def files_under(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


# --- every helper, on a disk and on an object store ------------------------------------------


def test_what_is_written_is_read_back(folder):
    url = storage.join(folder, "deep", "er", "file.bin")
    assert not storage.exists(url)
    storage.write_atomic(url, b"one")
    storage.write_atomic(url, b"two!")
    assert storage.exists(url)
    assert storage.read_bytes(url) == b"two!"
    assert storage.read_ranges(url, [(1, 3), (0, 4), (4, 4)]) == [b"wo", b"two!", b""]
    with storage.open_read(url) as stream:
        assert stream.read(2) == b"tw"
    assert storage.names(storage.join(folder, "deep", "er")) == ["file.bin"]


def test_text_is_utf8(folder):
    url = storage.join(folder, "text.txt")
    storage.write_text(url, "naïve 🦅")
    assert storage.read_bytes(url) == "naïve 🦅".encode()
    assert storage.read_text(url) == "naïve 🦅"


def test_a_file_that_is_no_text_is_one_line(folder):
    url = storage.join(folder, "recipe.yaml")
    storage.write_atomic(url, "naïve".encode("latin-1"))
    for kind in (StorageError, ValueError):
        with pytest.raises(kind, match=r"recipe\.yaml: not UTF-8 text \(byte 2\); save it as"):
            storage.read_text(url)


def test_names_are_sorted_and_empty_without_a_folder(folder):
    for name in ("b.tar", "a.tar", "sub/c.tar"):
        storage.write_atomic(storage.join(folder, "x", name), b"1")
    assert storage.names(storage.join(folder, "x")) == ["a.tar", "b.tar", "sub"]
    assert storage.names(storage.join(folder, "none")) == []


def test_a_stamp_changes_with_the_content(folder):
    url = storage.join(folder, "a.tar")
    storage.write_atomic(url, b"123")
    before = storage.stamp(url)
    assert storage.stamp(url) == before
    storage.write_atomic(url, b"1234")
    assert storage.stamp(url) != before


def test_a_stamp_tells_apart_files_of_one_size(tmp_path):
    file = tmp_path / "a.tar"
    file.write_bytes(b"123")
    os.utime(file, (1, 1))
    before = storage.stamp(str(file))
    os.utime(file, (2, 2))
    assert storage.stamp(str(file)) != before


@pytest.mark.parametrize(
    "field", ["ETag", "etag", "mtime", "last_modified", "updated", "Last-Modified", "blob_id"]
)
def test_a_stamp_uses_what_each_store_calls_a_version(monkeypatch, memory, field):
    version = "1"
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_, **__: {"size": 3, field: version})
    before = storage.stamp("memory://a")
    version = "2"
    assert storage.stamp("memory://a") != before


def test_a_missing_file_names_its_nearest_neighbour(folder):
    storage.write_atomic(storage.join(folder, "train-000.tar"), b"1")
    for act in (storage.read_bytes, storage.stamp, storage.open_read):
        url = storage.join(folder, "train-00.tar")
        with pytest.raises(StorageError) as caught:
            act(url)
        assert str(caught.value) == f"{url}: does not exist; did you mean 'train-000.tar'?"
    with pytest.raises(StorageError, match=r"x\.tar: does not exist; valid: train-000\.tar"):
        storage.read_ranges(storage.join(folder, "x.tar"), [(0, 1)])
    with pytest.raises(StorageError, match="its folder does not exist either"):
        storage.read_bytes(storage.join(folder, "no", "where", "x.tar"))


def test_moving_in_takes_the_file_away(folder, tmp_path):
    source = tmp_path / "from" / "source.bin"
    source.parent.mkdir()
    source.write_bytes(b"content")
    url = storage.join(folder, "to", "target.bin")
    storage.move_in(source, url)
    assert storage.read_bytes(url) == b"content"
    assert storage.names(storage.join(folder, "to")) == ["target.bin"]
    assert not source.exists()


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "parts", "joined"),
    [
        ("a", ("b",), "a/b"),
        ("a/", ("b", "c"), "a/b/c"),
        ("/", ("b",), "/b"),
        ("s3://bucket/", ("x",), "s3://bucket/x"),
    ],
)
def test_join(url, parts, joined):
    assert storage.join(url, *parts) == joined


def test_braces_and_globs_expand_in_order(folder):
    for name in ("b-1.tar", "b-0.tar", "a-0.tar", "a-10.tar", "c.txt"):
        storage.write_atomic(storage.join(folder, name), b"1")

    def expand(pattern: str) -> list[str]:
        return [url.rpartition("/")[2] for url in storage.expand(storage.join(folder, pattern))]

    assert expand("b-{0..1}.tar") == ["b-0.tar", "b-1.tar"]
    assert expand("{b,a}-*.tar") == ["b-0.tar", "b-1.tar", "a-0.tar", "a-10.tar"]
    assert expand("*.tar") == ["a-0.tar", "a-10.tar", "b-0.tar", "b-1.tar"]
    assert expand("x-{08..10}.tar") == ["x-08.tar", "x-09.tar", "x-10.tar"]
    for url in storage.expand(storage.join(folder, "*.tar")):
        assert storage.exists(url)


def test_a_pattern_that_matches_nothing_names_the_nearest_file(folder):
    storage.write_atomic(storage.join(folder, "train-000.tar"), b"1")
    with pytest.raises(StorageError) as caught:
        storage.expand(storage.join(folder, "trian-*.tar"))
    assert "no file matches; did you mean 'train-000.tar'?" in str(caught.value)


@pytest.mark.parametrize("pattern", ["x-{0..3.tar", "x-{a,b", "x}.tar"])
def test_unbalanced_braces_are_refused(pattern):
    with pytest.raises(StorageError, match="its braces do not pair up"):
        storage.expand(pattern)


def test_an_unknown_protocol_is_refused():
    with pytest.raises(StorageError, match="unknown protocol 'memroy'; did you mean 'memory'"):
        storage.exists("memroy://x")


def test_the_shipped_data_set_has_a_name_of_its_own():
    inside = Path(storage.resolve("eagleray://emoji"))
    assert inside.parts[-3:] == ("pipelines", "datasets", "emoji")
    assert storage.exists("eagleray://emoji")
    assert storage.resolve("s3://emoji") == "s3://emoji"


# --- writes that are whole or absent ----------------------------------------------------------


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    url = str(tmp_path / "file.bin")
    monkeypatch.setattr(storage.os, "fsync", no_space)
    with pytest.raises(StorageError) as caught:
        storage.write_atomic(url, b"new")
    assert str(caught.value) == f"{url}: the disk is full; free some space and run again"
    assert files_under(tmp_path) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "file.bin"
    file.write_bytes(b"old")
    monkeypatch.setattr(storage.os, "fsync", no_space)
    with pytest.raises(StorageError):
        storage.write_atomic(str(file), b"new")
    assert file.read_bytes() == b"old"
    assert files_under(tmp_path) == ["file.bin"]


def test_a_reader_never_sees_a_part(tmp_path, monkeypatch):
    file = tmp_path / "file.bin"
    file.write_bytes(b"old")
    seen: list[bytes] = []
    monkeypatch.setattr(storage.os, "fsync", lambda _: seen.append(file.read_bytes()))
    storage.write_atomic(str(file), b"new content")
    assert seen == [b"old"]
    assert file.read_bytes() == b"new content"


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        storage.write_atomic(str(tmp_path / "file.bin"), b"new")
    assert files_under(tmp_path) == []


def test_a_move_that_fails_on_the_way_keeps_the_source(tmp_path, monkeypatch):
    source, target = tmp_path / "source.bin", tmp_path / "to" / "target.bin"
    source.write_bytes(b"content")

    def half_copied(_: Path, partial: Path) -> None:
        partial.write_bytes(b"con")
        no_space()

    monkeypatch.setattr(storage.shutil, "move", half_copied)
    with pytest.raises(StorageError, match="the disk is full"):
        storage.move_in(source, str(target))
    assert files_under(tmp_path) == ["source.bin"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "x"), "the disk is full; free some space and run again"),
        (OSError(errno.EDQUOT, "x"), "the disk is full; free some space and run again"),
        (PermissionError(errno.EACCES, "x"), "access refused; check permissions or credentials"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("odd"), "OSError"),
    ],
)
def test_errors_say_what_to_do_in_one_line(error, message):
    with pytest.raises(StorageError) as caught, storage.explained("s3://b/x"):
        raise error
    assert str(caught.value) == f"s3://b/x: {message}"


def test_a_file_in_the_way_of_a_folder_is_an_error_of_one_line(tmp_path):
    (tmp_path / "x").write_text("")
    for url in (f"{tmp_path}/x/y.json", f"{tmp_path}/x/y/z.json"):
        with pytest.raises(StorageError, match=f"{url}: what should be its folder is a file"):
            storage.write_text(url, "1")


def test_a_folder_in_the_way_is_an_error_of_one_line(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(StorageError, match="x: a folder; give a file"):
        storage.write_atomic(str(tmp_path / "x"), b"1")
    assert files_under(tmp_path) == []


# --- range reads ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, storage.RETRIES])
def test_passing_faults_are_retried(flaky, pauses, count):
    flaky.faults[:] = [ConnectionResetError("peer"), TimeoutError("slow"), OSError(5, "io")] * 3
    del flaky.faults[count:]
    ranges = [(0, 3), (50, 60)]
    expected = [bytes(range(3)), bytes(range(50, 60))]
    assert storage.read_ranges("memory://d/a.bin", ranges) == expected
    assert flaky.calls == count + 1
    assert len(pauses) == count


def test_pauses_between_tries_grow(flaky, pauses, monkeypatch):
    monkeypatch.setattr(storage_faults.random, "random", lambda: 0.5)
    flaky.faults[:] = [OSError("x")] * storage.RETRIES
    storage.read_ranges("memory://d/a.bin", [(0, 1)])
    assert pauses == sorted(set(pauses))
    assert 0.05 <= pauses[0] <= 1
    assert sum(pauses) < 10


def test_lasting_faults_become_an_error(flaky, pauses):
    flaky.faults[:] = [OSError(errno.EIO, "Input/output error")] * 100
    with pytest.raises(StorageError, match=r"^memory://d/a\.bin: Input/output error$"):
        storage.read_ranges("memory://d/a.bin", [(0, 1)])
    assert flaky.calls == storage.RETRIES + 1
    assert len(pauses) == storage.RETRIES


def test_a_file_shorter_than_its_index_is_an_error_and_not_short_data(flaky, pauses):
    with pytest.raises(StorageError, match="shorter than its index says; re-index it"):
        storage.read_ranges("memory://d/a.bin", [(0, 5), (95, 101)])
    assert flaky.calls == storage.RETRIES + 1


def test_a_read_cut_short_once_is_read_again(flaky, pauses, monkeypatch):
    whole = Flaky.cat_ranges
    cut = iter([True])

    def sometimes_short(self, *args, **kwargs):
        parts = whole(self, *args, **kwargs)
        return [part[:-1] for part in parts] if next(cut, False) else parts

    monkeypatch.setattr(Flaky, "cat_ranges", sometimes_short)
    assert storage.read_ranges("memory://d/a.bin", [(0, 3)]) == [b"\0\1\2"]
    assert len(pauses) == 1


def test_an_empty_range_is_not_asked_for(flaky, pauses, monkeypatch):
    # "bytes=7-6" is no range to S3, which then sends the whole file.
    asked: list[tuple[int, int]] = []
    whole = Flaky.cat_ranges

    def noted(self, paths, starts, ends, *args, **kwargs):
        asked.extend(zip(starts, ends, strict=True))
        return whole(self, paths, starts, ends, *args, **kwargs)

    monkeypatch.setattr(Flaky, "cat_ranges", noted)
    ranges = [(7, 7), (1, 3), (100, 100), (4, 5)]
    assert storage.read_ranges("memory://d/a.bin", ranges) == [b"", b"\1\2", b"", b"\4"]
    assert asked == [(1, 3), (4, 5)]
    assert storage.read_ranges("memory://d/a.bin", [(2, 2)]) == [b""]


def test_a_missing_file_is_not_retried(flaky, pauses):
    with pytest.raises(StorageError, match="does not exist"):
        storage.read_ranges("memory://d/b.bin", [(0, 3)])
    assert pauses == []


def test_local_and_remote_are_told_apart():
    assert storage.is_local(fsspec.filesystem("file"))
    assert not storage.is_local(fsspec.filesystem("memory"))


@pytest.mark.parametrize("call", ["expand", "exists", "names", "read_bytes", "stamp"])
def test_a_storage_clients_own_error_is_one_line(monkeypatch, call):
    """Clients of object stores let some errors through that are no ``OSError``."""
    error = type("NoCredentialsError", (Exception,), {"__module__": "botocore.exceptions"})

    class Refusing:
        protocol = "s3"
        async_impl = False

        @staticmethod
        def _strip_protocol(url):
            return "bucket/x-*.tar"

        def __getattr__(self, name):
            def refuse(*args, **kwargs):
                raise error("Unable to locate credentials\nin many places")

            return refuse

    monkeypatch.setattr(storage_places, "_filesystem", lambda protocol: Refusing())
    with pytest.raises(StorageError, match="Unable to locate credentials") as caught:
        getattr(storage, call)("s3://bucket/x-*.tar")
    assert "\n" not in str(caught.value)


def test_a_folder_goes_with_all_that_is_in_it(tmp_path):
    for url in (f"{tmp_path}/run", "memory://gone/run"):
        for name in ("a", "deep/b"):
            storage.write_text(f"{url}/{name}", "x")
        storage.remove_folder(url)
        assert not storage.exists(f"{url}/a")
        assert not storage.exists(f"{url}/deep/b")
        storage.remove_folder(url)
