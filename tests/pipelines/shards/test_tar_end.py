"""What follows a tar's end mark."""

from __future__ import annotations

import pytest

from pipelines.shards.tar import BLOCK
from tests.pipelines.shards.test_tar import scan


def test_tars_put_together_are_not_taken_for_the_first(tar_bytes):
    first, second = tar_bytes([("a.txt", b"a")]), tar_bytes([("b.txt", b"b")])
    members, scanner = scan(first + second)
    assert [member.name for member in members] == ["a.txt"]
    assert scanner.fault == "more follows its end mark, as where tars were put together"
    assert scanner.size == len(first + second)


@pytest.mark.parametrize(("zeros", "whole"), [(1 << 20, True), ((1 << 20) + 1, False)])
def test_a_download_that_was_cut_off_is_not_taken_for_a_whole_tar(tar_bytes, zeros, whole):
    data = tar_bytes([("a.txt", b"a")])
    ends = data.rstrip(b"\0")
    start = -(-len(ends) // BLOCK) * BLOCK
    _, scanner = scan(data[:start] + bytes(BLOCK) + bytes(zeros))
    assert (scanner.fault is None) is whole
    assert whole or "zeros, as where a download was cut off" in scanner.fault
