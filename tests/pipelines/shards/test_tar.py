from __future__ import annotations

import hashlib
import io
import random
import tarfile
import tracemalloc
from itertools import pairwise

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from pipelines.shards.tar import BLOCK, TarMember, TarScanner

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
SMALL = [("a.txt", b"first"), ("b/c.jpg", b"x" * 700), ("d.json", b""), ("e.txt", b"y" * 512)]


def scan(data: bytes) -> tuple[list[TarMember], TarScanner]:
    scanner = TarScanner(io.BytesIO(data))
    return list(scanner), scanner


def by_tarfile(data: bytes) -> list[TarMember]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        regular = [m for m in tar if m.type in (tarfile.REGTYPE, tarfile.AREGTYPE)]
        return [TarMember(m.name, m.offset_data, m.size) for m in regular if not m.sparse]


def with_checksum(block: bytes) -> bytes:
    cleared = block[:148] + b" " * 8 + block[156:BLOCK]
    return cleared[:148] + b"%06o\0 " % sum(cleared) + cleared[156:] + block[BLOCK:]


def header(name: bytes = b"a.txt", kind: bytes = b"0", size: bytes = b"00000000005\0") -> bytes:
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    return with_checksum(bytes(block))


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "names",
    [
        ["a.txt", "b.jpg", "sub/c.jpg", "./d.jpg"],
        ["folder/" * 20 + "name.jpg"],  # ustar: prefix; fits in 155 + 100
        ["x" * 98 + ".j", "plain.txt"],
        ["a" * 100, "b" * 99, "c/" + "d" * 98],
        ["naïve/日本語.jpg", "emoji-🦅.txt"],
    ],
)
def test_members_are_those_that_tarfile_finds(tar_bytes, format, names):
    data = tar_bytes([(name, name.encode() * 3) for name in names], format)
    members, scanner = scan(data)
    assert members == by_tarfile(data)
    assert [member.name for member in members] == names
    for member in members:
        assert data[member.offset :][: member.size] == member.name.encode() * 3
    assert scanner.fault is None


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_and_script_are_whole(tar_bytes, format):
    names = [
        "n" * 101,
        "d/" * 200 + "deep.tar.jpg",
        "長" * 90 + ".jpg",
        "é" * 300 + ".txt",
        "x.txt",
    ]
    data = tar_bytes([(name, b"1") for name in names], format)
    assert [member.name for member in scan(data)[0]] == names
    assert scan(data)[0] == by_tarfile(data)


@given(
    st.lists(
        st.tuples(
            st.text(
                st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1
            ).map(lambda part: "k" + part + ".txt"),
            st.binary(max_size=1500),
        ),
        max_size=6,
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_tar_that_tarfile_writes_reads_the_same(tar_bytes, files, format):
    data = tar_bytes(files, format)
    members, scanner = scan(data)
    assert [(m.name, data[m.offset : m.offset + m.size]) for m in members] == files
    assert scanner.fault is None
    assert (scanner.size, scanner.digest) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_pax_size_wins_over_the_header(tar_bytes):
    record = b"12 size=600\n"
    data = header(b"./pax", b"x", b"%011o\0" % len(record)) + padded(record)
    data += header(size=b"00000000000\0") + padded(b"z" * 600) + bytes(2 * BLOCK)
    assert scan(data)[0] == [TarMember("a.txt", 3 * BLOCK, 600)]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "kind",
    [
        tarfile.LNKTYPE,
        tarfile.SYMTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
    ],
)
@pytest.mark.parametrize("claimed", [0, 4096])
def test_links_folders_and_devices_are_skipped(format, kind, claimed):
    # Their size field says nothing about data: some writers fill it in.
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=format) as tar:
        special = tarfile.TarInfo("special.txt")
        special.type, special.linkname, special.size = kind, "/etc/passwd", claimed
        tar.addfile(special)
        after = tarfile.TarInfo("after.txt")
        after.size = 3
        tar.addfile(after, io.BytesIO(b"abc"))
    members, scanner = scan(sink.getvalue())
    assert [member.name for member in members] == ["after.txt"]
    assert scanner.fault is None
    assert members == by_tarfile(sink.getvalue())


def test_a_gnu_sparse_member_with_a_long_map_is_skipped_whole():
    # Old GNU format: 4 map entries in the header, then blocks of 21 while the flag is set.
    first = bytearray(header(b"holes.bin", b"S", b"%011o\0" % 700))
    first[482] = 1
    more, last = bytearray(BLOCK), bytearray(BLOCK)
    more[504] = 1
    data = with_checksum(bytes(first)) + bytes(more) + bytes(last) + padded(b"h" * 700)
    data += header() + padded(b"after") + bytes(2 * BLOCK)
    members, scanner = scan(data)
    assert [member.name for member in members] == ["a.txt"]
    assert data[members[0].offset :][:5] == b"after"
    assert scanner.fault is None


@pytest.mark.parametrize("record", [b"GNU.sparse.major=1", b"GNU.sparse.size=9"])
def test_a_pax_sparse_member_is_skipped(record):
    line = b"%d %s\n" % (len(record) + 4, record)
    data = header(b"./pax", b"x", b"%011o\0" % len(line)) + padded(line)
    data += header(b"holes.bin") + padded(b"12345")
    data += header(b"after.txt") + padded(b"after") + bytes(2 * BLOCK)
    assert [member.name for member in scan(data)[0]] == ["after.txt"]


def test_gnu_headers_hold_times_where_ustar_has_the_prefix():
    # As GNU tar --listed-incremental writes them.
    block = bytearray(header())
    block[257:265] = b"ustar  \0"
    block[345:357] = b"15301173325\0"
    data = with_checksum(bytes(block)) + padded(b"hello") + bytes(2 * BLOCK)
    assert scan(data)[0] == [TarMember("a.txt", BLOCK, 5)]


def test_global_pax_headers_and_old_regular_types_are_read_through():
    record = b"17 comment=hello\n"
    data = header(b"g", b"g", b"%011o\0" % len(record)) + padded(record)
    for name, kind in [(b"v7", b"\0"), (b"ustar", b"0"), (b"contiguous", b"7")]:
        data += header(name, kind) + padded(b"12345")
    names = [member.name for member in scan(data + bytes(2 * BLOCK))[0]]
    assert names == ["v7", "ustar", "contiguous"]


def test_a_name_from_an_extended_header_serves_one_member():
    long = b"n" * 120 + b"\0"
    data = header(b"././@LongLink", b"L", b"%011o\0" % len(long)) + padded(long)
    data += header(b"short") + padded(b"12345") + header(b"next") + padded(b"12345")
    assert [member.name for member in scan(data)[0]] == ["n" * 120, "next"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_tar_cut_at_any_byte_gives_a_prefix_of_its_members(tar_bytes, format):
    files = [*SMALL, ("é" * 60 + ".txt", b"long")] if format != tarfile.USTAR_FORMAT else SMALL
    data = tar_bytes(files, format)
    whole = by_tarfile(data)
    end = whole[-1].offset + BLOCK + 2 * BLOCK
    assert len(data) >= end
    for cut in range(end):
        members, scanner = scan(data[:cut])
        assert members == whole[: len(members)], cut
        assert all(member.offset + member.size <= cut for member in members), cut
        assert scanner.size == cut
    assert scanner.fault is None


def test_a_cut_inside_a_member_or_header_is_reported(tar_bytes):
    data = tar_bytes(SMALL)
    whole = by_tarfile(data)
    starts = {0, *(member.offset - BLOCK for member in whole)}
    end = whole[-1].offset + BLOCK
    for cut in range(end):
        # Where one member ends and no other follows, nothing shows that there were more.
        assert (scan(data[:cut])[1].fault is None) == (cut in starts), cut


@given(st.data())
def test_damaged_bytes_never_raise_and_never_reach_outside_the_file(tar_bytes, data):
    format = data.draw(st.sampled_from(FORMATS))
    tar = bytearray(tar_bytes(SMALL, format)[: 6 * 2 * BLOCK])
    for _ in range(data.draw(st.integers(1, 5))):
        tar[data.draw(st.integers(0, len(tar) - 1))] = data.draw(st.integers(0, 255))
    check_sound(bytes(tar))


@given(
    st.binary(min_size=12, max_size=12),
    st.sampled_from([b"0", b"L", b"x", b"g", b"K", b"S", b"5", b"\0", b"?"]),
    st.binary(max_size=3 * BLOCK),
)
def test_a_header_with_any_size_field_and_a_right_checksum_is_harmless(size, kind, rest):
    check_sound(header(kind=kind, size=size) + rest)


@given(st.binary(max_size=600), st.sampled_from([b"x", b"L"]))
def test_any_extended_header_is_harmless(payload, kind):
    data = header(kind=kind, size=b"%011o\0" % len(payload)) + padded(payload)
    check_sound(data + header() + padded(b"12345") + bytes(2 * BLOCK))


@given(st.binary(max_size=4 * BLOCK))
def test_garbage_is_harmless(data):
    check_sound(data)


def check_sound(data: bytes) -> None:
    members, scanner = scan(data)
    assert scanner.size == len(data)
    assert scanner.digest == hashlib.sha256(data).hexdigest()
    for member in members:
        assert member.size >= 0
        assert BLOCK <= member.offset <= member.offset + member.size <= len(data)
        member.name.encode()  # no half surrogates: names go into an Arrow column
    assert all(a.offset + a.size <= b.offset for a, b in pairwise(members))


@pytest.mark.parametrize(
    "size",
    [b"-0000000010\0", b"+0000000005\0", b"0000_000005\0", b"0o000000005\0", b"00000000008\0"],
)
def test_a_size_that_is_not_plain_octal_is_a_fault(size):
    members, scanner = scan(header(size=size) + padded(b"12345"))
    assert members == []
    assert scanner.fault == "not a tar header (number)"


@pytest.mark.parametrize("kind", [b"0", b"x", b"L"])
@pytest.mark.parametrize(
    "size",
    [
        b"77777777777\0",  # 8 GiB
        b"\x80" + (1 << 49).to_bytes(11, "big"),
        b"\x80" + (1 << 60).to_bytes(11, "big"),
        b"\xff" * 12,  # a negative number
    ],
)
def test_a_huge_claim_takes_no_memory(tmp_path, kind, size):
    # A real file: its read(n) sets n bytes aside before it looks how many there are.
    file = tmp_path / "x.tar"
    file.write_bytes(header(kind=kind, size=size) + bytes(4 * BLOCK))
    tracemalloc.start()
    try:
        with file.open("rb") as stream:
            scanner = TarScanner(stream)
            members = list(scanner)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert members == []
    assert scanner.fault is not None
    assert peak < 8 << 20


@pytest.mark.parametrize(
    "payload",
    [
        b"9" * 5000 + b" a=b\n",  # int() itself refuses that many digits
        b"0 a=b\n",
        b"1 a=b\n",
        b"2 a=b\n",
        b"99 a=b\n",
        b"a=b\n",
        b"-6 a=b\n",
        b" \n",
        b"\xff\xfe",
        b"22 size=notanumber99\n",
        b"22 size=-00000000005\n",
        b"33 size=99999999999999999999999\n",
    ],
)
def test_a_damaged_pax_record_is_a_fault(payload):
    data = header(kind=b"x", size=b"%011o\0" % len(payload)) + padded(payload)
    members, scanner = scan(data + header() + padded(b"12345"))
    assert members == []
    assert "pax" in (scanner.fault or "")


def test_a_pax_header_of_very_many_records_is_read_in_linear_time(monkeypatch):
    # A quadratic reader would copy about 10^11 bytes here: the test's time limit would tell.
    payload = b"4 =\n" * (1 << 18)
    data = header(kind=b"x", size=b"%011o\0" % len(payload)) + payload
    data += header() + padded(b"12345")
    assert [member.name for member in scan(data)[0]] == ["a.txt"]


def test_what_is_not_a_tar_says_so():
    members, scanner = scan(random.Random(0).randbytes(5000))
    assert members == []
    assert (scanner.fault or "").startswith("not a tar header")


def test_an_empty_file_has_no_members_and_no_fault():
    assert scan(b"")[0] == []
    assert scan(b"")[1].fault is None


def test_the_digest_covers_what_follows_the_end_mark(tar_bytes):
    data = tar_bytes(SMALL) + b"trailing"
    _, scanner = scan(data)
    assert scanner.digest == hashlib.sha256(data).hexdigest()


class Trickle(io.BytesIO):
    """Gives at most 100 bytes of a member at a time, as a network stream may."""

    def read(self, count: int | None = -1) -> bytes:
        whole = count is not None and 0 <= count <= BLOCK
        return super().read(count if whole else 100)


def test_short_reads_inside_members_are_put_together(tar_bytes):
    data = tar_bytes([("a.bin", b"x" * 5000), ("b.txt", b"y")])
    assert list(TarScanner(Trickle(data))) == by_tarfile(data)


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [
        ("a.jpg", "a", "jpg"),
        ("a.JPG", "a", "jpg"),
        ("a.seg.png", "a", "seg.png"),
        ("dir/a.jpg", "dir/a", "jpg"),
        ("dir.v1/a.jpg", "dir.v1/a", "jpg"),
        ("./a.jpg", "./a", "jpg"),
        ("a", "a", ""),
        ("a.", "a", ""),
        ("dir.v1/a", "dir.v1/a", ""),
        (".DS_Store", "", ""),
        ("dir/._a.jpg", "dir/", ""),
        ("/a.jpg", "/a", "jpg"),
    ],
)
def test_key_and_extension_follow_the_first_dot_of_the_last_part(name, key, extension):
    member = TarMember(name, 0, 0)
    assert (member.key, member.extension) == (key, extension)


def test_a_tar_of_webdatasets_own_writer_reads_the_same(tmp_path):
    file = tmp_path / "shard.tar"
    with webdataset.TarWriter(str(file)) as writer:
        for number in range(3):
            writer.write({"__key__": f"s/{number:03d}", "txt": f"text {number}", "cls": number})
    data = file.read_bytes()
    members, scanner = scan(data)
    assert members == by_tarfile(data)
    assert scanner.fault is None
    assert {m.key for m in members} == {"s/000", "s/001", "s/002"}
    texts = [data[m.offset :][: m.size].decode() for m in members if m.extension == "txt"]
    assert texts == ["text 0", "text 1", "text 2"]
