"""Ways to damage a tar: of its bytes, its headers and its contents."""

from __future__ import annotations

import io
import pickle
import random
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from pipelines.shards.tar import BLOCK

Mutation = Callable[[random.Random, bytearray, list[int]], None]
"""Damages a tar in place, given where its headers are."""


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path):
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self._marker, "executed")


def trap(marker: Path) -> bytes:
    """A pickle that must never be loaded."""
    return pickle.dumps(Trap(marker))


def bomb(side: int = 60_000) -> bytes:
    """A PNG of few bytes that claims, and unpacks to, gigabytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tar_of(files: list[tuple[str, bytes]]) -> tuple[bytearray, list[int]]:
    """A tar, and where its members' headers are."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = sink.getvalue()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return bytearray(data), [member.offset for member in tar.getmembers()]


def _sign(data: bytearray, at: int) -> None:
    """Give a header the checksum of what it says, so that it is believed."""
    header = data[at : at + BLOCK]
    if len(header) == BLOCK:
        header[148:156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(header)


def _put(data: bytearray, at: int, field: slice, value: bytes) -> None:
    width = field.stop - field.start
    data[at + field.start : at + field.stop] = value[:width].ljust(width, b"\0")
    _sign(data, at)


def flip_bytes(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """Some bytes anywhere."""
    for _ in range(chance.choice((1, 1, 4, 64))):
        data[chance.randrange(len(data))] = chance.randrange(256)


def flip_in_a_header(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """A byte of a header that is signed again."""
    at = chance.choice(headers)
    data[at + chance.randrange(BLOCK)] = chance.randrange(256)
    _sign(data, at)


def cut(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """The end, anywhere."""
    del data[chance.randrange(len(data)) :]


def drop_blocks(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """Whole blocks, which moves all that follows."""
    at = BLOCK * chance.randrange(len(data) // BLOCK)
    del data[at : at + BLOCK * chance.choice((1, 2, 5))]


def repeat_blocks(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """Blocks again: keys come twice."""
    at, count = chance.choice(headers), BLOCK * chance.randrange(1, 8)
    data[at:at] = data[at : at + count]


def insert_garbage(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """Bytes between others."""
    at = chance.randrange(len(data))
    data[at:at] = chance.randbytes(chance.choice((1, 100, 512, 5000)))


def swap_blocks(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """Two blocks in each other's place."""
    a, b = (BLOCK * chance.randrange(len(data) // BLOCK) for _ in range(2))
    data[a : a + BLOCK], data[b : b + BLOCK] = data[b : b + BLOCK], data[a : a + BLOCK]


def claim_a_size(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """Sizes that are not true, up to gigabytes and beyond what can be."""
    sizes = (b"%011o\0" % chance.randrange(1 << chance.randrange(1, 33)), b"77777777777\0")
    binary = b"\x80" + bytes(3) + chance.randrange(1 << 62).to_bytes(8, "big")
    negative = b"\xff" * 12
    odd = chance.choice((b"-1\0", b" 12 34", b"0x10", b"1_0", b"", b"9999"))
    _put(
        data,
        chance.choice(headers),
        slice(124, 136),
        chance.choice((*sizes, binary, negative, odd)),
    )


def change_the_kind(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """Links, devices, sparse members, long names, pax headers: with whatever follows."""
    kind = chance.choice(
        (b"1", b"2", b"3", b"5", b"6", b"7", b"S", b"L", b"K", b"x", b"g", b"V", b"\0")
    )
    _put(data, chance.choice(headers), slice(156, 157), kind)


def change_the_name(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """Names that climb, that are none, or another sample's."""
    name = chance.choice(
        (
            b"../../../../tmp/climbed.txt",
            b"/etc/passwd.txt",
            b"..",
            b".txt",
            b"",
            b"a/../b.jpg",
            b"\xff\xfe.jpg",
            b"x" * 100,
            b"000.txt",
            b"con.\n.txt",
            b"<script>.png",
        )
    )
    _put(data, chance.choice(headers), slice(0, 100), name)


def claim_by_pax(chance: random.Random, data: bytearray, headers: list[int]) -> None:
    """A pax header that renames or resizes what follows."""
    record = chance.choice(
        (
            b"path=../../climbed.txt",
            b"size=99999999999999",
            b"size=-5",
            b"size=x",
            b"GNU.sparse.size=1",
            b"path=" + b"y" * 3000 + b".txt",
        )
    )
    length = len(record) + 5
    payload = chance.choice((b"%d %s\n" % (length, record), b"9999999 " + record, record))
    block, _ = tar_of([("pax", payload)])
    _put(block, 0, slice(156, 157), b"x")
    at = chance.choice(headers)
    data[at:at] = block[: BLOCK + -(-len(payload) // BLOCK) * BLOCK]


MUTATIONS: tuple[Mutation, ...] = (
    flip_bytes,
    flip_in_a_header,
    cut,
    drop_blocks,
    repeat_blocks,
    insert_garbage,
    swap_blocks,
    claim_a_size,
    change_the_kind,
    change_the_name,
    claim_by_pax,
)
