"""Own reader of tar headers: finds every member's byte range without trusting the file.

Understands ustar, GNU long names and pax paths and sizes. Links, folders,
devices and sparse members are skipped; nothing is ever extracted, and a
name is a label, never a path.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

BLOCK = 512
_READ = 1 << 20
_ZEROS = 1 << 20  # bytes that follow an end mark at most: tars are filled up to a record
LARGEST = 1 << 30  # bytes of a sample, headers included; one that claims more is never read
_HEADER_LIMIT = 1 << 20  # a longer name or pax record is damage, not a name
_REGULAR = (b"0", b"\0", b"7")
_HEADER_ONLY = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders: no data follows


class TarFault(ValueError):
    """The rest of the tar cannot be read; what came before it stands."""


@dataclass(frozen=True)
class TarMember:
    """A regular file in a tar.

    Attributes:
        name: Its name, as written.
        offset: Where its bytes start, from the beginning of the tar.
        size: How many bytes it has.
        start: Where its first header starts.
    """

    name: str
    offset: int
    size: int
    start: int = field(default=0, compare=False)

    @property
    def stop(self) -> int:
        """Where its padding ends."""
        return self.offset + -(-self.size // BLOCK) * BLOCK

    @property
    def key(self) -> str:
        """WebDataset key: the name up to the first dot of its last part."""
        return split_name(self.name)[0]

    @property
    def extension(self) -> str:
        """Everything after that dot, in lower case; none for a hidden file (``._a.jpg``)."""
        return split_name(self.name)[1]


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a member's name."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower() if stem else ""


class TarScanner:
    """Iterates over the members of one tar, hashing all of it on the way.

    After the iteration ``digest`` is the SHA-256 of the file, ``size`` its
    length and ``fault`` the reason why it stopped early, or None.
    """

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0
        self.fault: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of what has been read."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[TarMember]:
        try:
            yield from self._members()
        except TarFault as fault:
            self.fault = str(fault)
        rest = self._rest()
        self.fault = self.fault or rest

    def _rest(self) -> str | None:
        """Read to the end, which the digest covers; says what is wrong with what follows."""
        start, empty = self.size, True
        while data := self._take(_READ):
            empty = empty and data.count(0) == len(data)
        if not empty:
            return "more follows its end mark, as where tars were put together"
        if self.size - start > _ZEROS:
            return f"it ends in {self.size - start} zeros, as where a download was cut off"
        return None

    def _members(self) -> Iterator[TarMember]:
        long_name: str | None = None
        records: dict[str, str] = {}
        start: int | None = None
        while True:
            start = self.size if start is None else start
            header = self._take(BLOCK)
            if not header or header == bytes(BLOCK):
                return
            if len(header) < BLOCK:
                raise TarFault("truncated in a header")
            size = _checked_size(header)
            kind = header[156:157]
            if kind in (b"L", b"x", b"g", b"K"):
                payload = self._take_padded(size, _HEADER_LIMIT)
                if kind == b"L":
                    long_name = payload.rstrip(b"\0").decode("utf-8", "replace")
                elif kind == b"x":
                    records = _pax(payload)
                continue
            size = _number(records["size"]) if "size" in records else size
            name = records.get("path") or long_name or _name(header)
            sparse = kind == b"S" or any(key.startswith("GNU.sparse") for key in records)
            long_name, records = None, {}
            if kind == b"S":
                self._skip_sparse_map(header)
            offset = self.size
            self._skip_padded(0 if kind in _HEADER_ONLY else size)
            if kind in _REGULAR and not sparse:
                yield TarMember(name, offset, size, start)
            start = None

    def _take(self, count: int) -> bytes:
        data = self._stream.read(count)
        self._hash.update(data)
        self.size += len(data)
        return data

    def _take_padded(self, size: int, limit: int) -> bytes:
        if size > limit:
            raise TarFault(f"an extended header claims {size} bytes")
        padded = -(-size // BLOCK) * BLOCK
        data = self._take(padded)
        if len(data) < size:
            raise TarFault("truncated in an extended header")
        return data[:size]

    def _skip_sparse_map(self, header: bytes) -> None:
        more = header[482]  # GNU: further blocks of the map stand before the data
        while more:
            block = self._take(BLOCK)
            if len(block) < BLOCK:
                raise TarFault("truncated in a sparse map")
            more = block[504]

    def _skip_padded(self, size: int) -> None:
        left = -(-size // BLOCK) * BLOCK
        while left:
            got = len(self._take(min(left, _READ)))
            if not got:
                raise TarFault("truncated in a member")
            left -= got


def unpack(data: bytes | memoryview) -> tuple[str, dict[str, bytes]]:
    """Take one sample apart that was cut out of a tar from its first header to its last padding.

    Returns:
        Its key, and its members' bytes by extension.

    Raises:
        TarFault: These are not the members of one sample.
    """
    key, found, at = None, {}, 0
    while at < len(data):
        header = bytes(data[at : at + BLOCK])
        if header[257:262] != b"ustar" or header[156] != 0x30 or header[345]:
            return _unpack_any(bytes(data))  # long names, links and the like
        try:
            name = header[:100].split(b"\0", 1)[0].decode()
            size = int(header[124:135], 8)
        except ValueError:
            return _unpack_any(bytes(data))
        if size < 0:
            return _unpack_any(bytes(data))
        own, extension = split_name(name)
        at += BLOCK
        if extension:
            if (key is not None and key != own) or extension in found:
                raise TarFault("not one sample")
            key = own
            found[extension] = bytes(data[at : at + size])
        at += -(-size // BLOCK) * BLOCK
    if key is None or at != len(data):
        raise TarFault("not one sample")
    return key, found


def _unpack_any(data: bytes) -> tuple[str, dict[str, bytes]]:
    scanner = TarScanner(io.BytesIO(data))
    members = [member for member in scanner if member.extension]
    found = {m.extension: data[m.offset : m.offset + m.size] for m in members}
    if scanner.fault or len(found) != len(members) or len({m.key for m in members}) != 1:
        raise TarFault(scanner.fault or "not one sample")
    return members[0].key, found


def _checked_size(header: bytes) -> int:
    stored = _octal(header[148:156])
    if stored != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise TarFault("not a tar header (checksum)")
    field = header[124:136]
    size = int.from_bytes(field[1:], "big") if field[0] & 0x80 else _octal(field)
    if size > 1 << 50:
        raise TarFault(f"a member claims {size} bytes")
    return size


def _octal(field: bytes) -> int:
    digits = field.split(b"\0")[0].strip() or b"0"
    if digits.strip(b"01234567"):  # int() would take signs, underscores and prefixes
        raise TarFault("not a tar header (number)")
    return int(digits, 8)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise TarFault("a pax size is not a number")
    return int(text)


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0")[0].decode("utf-8", "replace")
    prefix = header[345:500].split(b"\0")[0].decode("utf-8", "replace")
    # GNU's own format ("ustar  ") keeps times where ustar has the prefix.
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _pax(payload: bytes) -> dict[str, str]:
    records: dict[str, str] = {}
    start = 0
    while start < len(payload):
        length, space, _ = payload[start : start + 9].partition(b" ")
        stop = start + int(length) if space and length.isdigit() else 0
        if not start + len(length) < stop <= len(payload):
            raise TarFault("a pax header is damaged")
        record = payload[start + len(length) + 1 : stop]
        key, _, value = record.rstrip(b"\n").partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        start = stop
    return records
