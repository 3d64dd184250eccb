from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.decode import text as module
from pipelines.decode.text import decode_text

LABEL = {
    "group": "animals",
    "tags": ["bird", "sea"],
    "deep": {"er": {"name": "ray"}},
    "count": 3,
    "none": None,
    "empty": [],
    "flag": True,
}
MEMBERS = {"txt": "  an eagle ray 🦅\n".encode(), "json": json.dumps(LABEL).encode()}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("txt", "an eagle ray 🦅"),
        ("json.group", "animals"),
        ("json.tags", "bird, sea"),
        ("json.deep.er.name", "ray"),
        ("json.count", "3"),
        ("json.empty", ""),
        ("json", json.dumps(LABEL)),
    ],
)
def test_a_field_is_a_member_or_a_value_inside_one(field, text):
    assert decode_text(MEMBERS, field) == text


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("caption", "no member 'caption', has json, txt"),
        ("json.nothing", "member 'json' has no value 'nothing'"),
        ("json.group.name", "member 'json' has no value 'group.name'"),
        ("json.tags.0", "member 'json' has no value 'tags.0'"),
        ("json.none", "member 'json' has no value 'none'"),
        ("json.deep", "member 'json' has no value 'deep'"),
        ("txt.a", r"member 'txt' is not valid \(JSONDecodeError\)"),
    ],
)
def test_a_missing_value_is_named(field, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        decode_text(MEMBERS, field)


def test_a_sample_without_members_says_so():
    with pytest.raises(ValueError, match="no member 'txt', has none"):
        decode_text({}, "txt")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"\xff\xfe", "txt"),
        (b"{", "txt.a"),
        (b"[" * 100_000, "txt.a"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "txt.a"),
        (rb'{"a": "\ud83e"}', "txt.a"),  # half a surrogate pair: legal JSON, no legal text
        (rb'{"a": ["ok", "\udc00"]}', "txt.a"),
    ],
    ids=["utf8", "json", "depth", "digits", "surrogate", "surrogate in a list"],
)
def test_damaged_text_is_a_value_error(data, field):
    with pytest.raises(ValueError, match=r".+"):
        decode_text({"txt": data}, field)


def test_too_long_a_text_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    assert decode_text({"txt": b"1234567890"}, "txt") == "1234567890"
    with pytest.raises(ValueError, match="11 bytes, too many"):
        decode_text({"txt": b"12345678901"}, "txt")


@given(st.binary(max_size=60), st.sampled_from(["txt", "txt.a", "txt.a.b"]))
def test_any_bytes_give_a_text_for_arrow_or_a_value_error(data, field):
    try:
        text = decode_text({"txt": data}, field)
    except ValueError:
        return
    pa.array([text], pa.string())


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_json_value_gives_a_text_for_arrow_or_a_value_error(value):
    try:
        text = decode_text({"json": json.dumps({"a": value}).encode()}, "json.a")
    except ValueError:
        return
    pa.array([text], pa.string())
