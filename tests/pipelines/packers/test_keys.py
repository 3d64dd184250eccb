from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.packers import safe_key
from pipelines.packers._keys import printable
from pipelines.shards.writer import key_fault

# What a file can be called: any bytes but a slash and zero.
PARTS = st.one_of(
    st.text(st.sampled_from(".%_a\\x/é\n").filter(lambda c: c != "/"), min_size=1, max_size=8),
    st.binary(min_size=1, max_size=8).map(
        lambda b: os.fsdecode(b.replace(b"/", b"_").replace(b"\0", b"_"))
    ),
).filter(lambda part: part not in (".", ".."))
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@given(NAMES)
def test_any_path_becomes_a_key_that_a_shard_can_hold(name):
    assert key_fault(safe_key(name)) is None


@given(NAMES, NAMES)
def test_different_paths_have_different_keys(one, other):
    assert (safe_key(one) == safe_key(other)) is (one == other)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("plain/name_1", "plain/name_1"),
        ("v1.2/a.b", "v1.2/a%2Eb"),
        ("日本/é", "日本/é"),
        ("100%", "100%25"),
        ("a\tb", "a%09b"),
        ("a\x85", "a%C2%85"),
        (os.fsdecode(b"\xff"), "%FF"),
        ("__meta__/a", "%5F_meta__/a"),
        ("a/__meta__", "a/__meta__"),
    ],
)
def test_a_key_stays_as_near_to_the_path_as_it_can(name, key):
    assert safe_key(name) == key


@pytest.mark.parametrize(
    ("name", "shown"),
    [("é b", "é b"), ("\x1b[31m", "\\x1b[31m"), ("a\nb", "a\\nb"), ("\udcff", "\\udcff")],
)
def test_a_name_cannot_speak_to_the_terminal(name, shown):
    assert printable(name) == shown
    printable(name).encode()
