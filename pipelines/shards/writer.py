"""Writes WebDataset tars: equal samples give equal bytes, and a shard is whole or absent.

A shard is ustar; a member whose name is not ASCII or too long for it gets a
pax header. Times and owners are zero, the mode is 0644, the members of a
sample stand in the order of their extensions.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tarfile
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from pipelines.core import DataError, UserError
from pipelines.shards import storage
from pipelines.shards.replacing import left_over, take_over, waiting_folder
from pipelines.shards.storage_faults import temporary
from pipelines.shards.tar import BLOCK

_END = bytes(2 * BLOCK)
_KEY_BYTES = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SHARD = re.compile(r"(.+)-(\d{5,})\.tar")
_EXTENSION = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_META = re.compile(r"__[^/]*__/")  # webdataset passes over what stands in such a folder

Samples = Iterable[tuple[str, Mapping[str, bytes]]]


@dataclass(frozen=True)
class Bounds:
    """Most that a shard holds; a sample larger than ``size`` gets a shard of its own.

    Attributes:
        size: Bytes of the tar, headers included.
        count: Samples.
    """

    size: int = 256 << 20
    count: int = 10_000

    def __post_init__(self) -> None:
        if self.size < 1 or self.count < 1:
            raise UserError("a shard must hold at least one byte and one sample")


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is in its place: where, how many samples, how many bytes."""

    url: str
    samples: int
    size: int


def write_shards(
    samples: Samples, dest: str, name: str, bounds: Bounds | None = None, overwrite: bool = False
) -> list[WrittenShard]:
    """Write samples as ``DEST/NAME-00000.tar`` and so on, holding one sample in memory.

    Shards are filled in a temporary file on this machine and moved in when
    they are whole. Should the samples or the writing fail, the shards
    already there are taken back: a set is never shorter than its source.
    Those that are replaced stay until all new ones are whole, so that
    ``dest`` needs room for both.

    Args:
        samples: (key, bytes by extension) of each sample, in the order to write.
        dest: URL of a folder.
        name: What the shards' names begin with.
        bounds: Most that a shard holds.
        overwrite: Replace the shards of that name.

    Returns:
        The shards in order; none where there is no sample.

    Raises:
        DataError: A key or extension is not valid, or a key comes twice.
        StorageError: ``dest`` cannot be written.
        UserError: ``dest`` holds shards of that name, or of one that a glob would confuse with it.
    """
    old = check_place(dest, name, overwrite)
    bounds = bounds or Bounds()

    def place(number: int) -> str:
        return storage.join(dest, f"{name}-{number:05d}.tar")

    if not old:
        return _write(samples, bounds, place)
    folder, left = waiting_folder(dest, name), left_over(dest, name)
    try:
        new = _write(samples, bounds, lambda number: storage.join(folder, f"{number:05d}"))
    except BaseException:
        storage.remove_folder(folder)
        raise
    moves = {shard.url: place(number) for number, shard in enumerate(new)}
    if moves:
        take_over(moves, old, [folder, *left])
    return [replace(shard, url=moves[shard.url]) for shard in new]


def _write(samples: Samples, bounds: Bounds, place: Callable[[int], str]) -> list[WrittenShard]:
    """Write all shards, each to the place of its number, or none."""
    written: list[WrittenShard] = []
    with tempfile.TemporaryDirectory(prefix="eagleray-") as folder:
        file = Path(folder) / "shard.tar"
        try:
            for count in _fill(samples, file, bounds):
                url = place(len(written))
                written.append(WrittenShard(url, count, file.stat().st_size))
                storage.move_in(file, url)
        except BaseException:
            for shard in written:
                storage.remove(shard.url)
            raise
    return written


def check_place(dest: str, name: str, overwrite: bool) -> list[str]:
    """Check that shards can be written, before any work is done.

    Returns:
        URLs of the shards that would be replaced.

    Raises:
        UserError: They cannot; the message says what to do.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' is no name for shards: use letters, digits, '_' and '-'")
    if set(dest) & set("*?[]{}"):
        raise UserError(f"{dest}: a folder is needed, not a pattern")
    old = []
    for file in storage.names(dest):
        match = _SHARD.fullmatch(file)
        if match and match[1] == name:
            old.append(storage.join(dest, file))
            continue
        takes_it_in = file.startswith(f"{name}-") and file.endswith(".tar")
        if takes_it_in or (match and name.startswith(f"{match[1]}-")):
            short = name if takes_it_in or not match else match[1]
            raise UserError(f"{dest}: has {file}; '{short}-*.tar' would mix both, use another name")
    if old and not overwrite:
        raise UserError(
            f"{dest}: already has {len(old)} shards named {name}-*.tar; "
            "--overwrite replaces them, --name writes beside them"
        )
    return old


def key_fault(key: str) -> str | None:
    """Say why a key cannot name a sample, or None.

    WebDataset cuts a member's name at the first dot of its last part, so
    that part of a key has none; folders may. Nothing may look like a path
    that leaves where the tar is unpacked.
    """
    *folders, last = key.split("/")
    if not last or any(part in ("", ".", "..") for part in folders):
        return "an empty or relative part in its name"
    if "." in last:
        return "a dot in the last part of its name"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in key):
        return "a control character or half a character in its name"
    if len(key.encode("utf-8")) > _KEY_BYTES:
        return f"a name of more than {_KEY_BYTES} bytes"
    return "a first folder named __x__, which readers skip" if _META.match(key) else None


def tar_bytes(key: str, members: Mapping[str, bytes]) -> int:
    """Bytes that a sample takes in a tar, headers and padding included."""
    records = (_record(f"{key}.{extension}", data) for extension, data in members.items())
    return sum(len(part) for record in records for part in record)


def _fill(samples: Samples, file: Path, bounds: Bounds) -> Iterator[int]:
    """Fill the file again and again; yields its number of samples when it is whole."""
    seen: set[bytes] = set()
    stream, size, count = file.open("wb"), len(_END), 0
    try:
        for key, members in samples:
            _admit(key, members, seen)
            records = [_record(f"{key}.{ext}", members[ext]) for ext in sorted(members)]
            grown = sum(len(part) for record in records for part in record)
            if count and (size + grown > bounds.size or count == bounds.count):
                _end(stream, file)
                yield count
                stream, size, count = file.open("wb"), len(_END), 0
            with temporary(file):
                for record in records:
                    stream.writelines(record)
            size, count = size + grown, count + 1
        if count:
            _end(stream, file)
            yield count
    finally:
        # Where writing failed, what is left to write would fail once more.
        with contextlib.suppress(OSError):
            stream.close()


def _end(stream: IO[bytes], file: Path) -> None:
    with temporary(file):
        stream.write(_END)
        stream.close()


def _admit(key: str, members: Mapping[str, bytes], seen: set[bytes]) -> None:
    fault = key_fault(key)
    if fault:
        raise DataError(f"{key!r}: {fault}")
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    if digest in seen:
        raise DataError(f"{key}: two samples have this key")
    seen.add(digest)
    bad = [extension for extension in members if not _EXTENSION.fullmatch(extension)]
    if bad or not members:
        what = f"'{bad[0]}' is no extension" if bad else "no member"
        raise DataError(f"{key}: {what}; lower-case letters and digits are needed")


def _record(name: str, data: bytes) -> Sequence[bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    try:
        header = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError:  # the name or, from 8 GiB on, the size does not fit
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    return header, data, bytes(-len(data) % BLOCK)
