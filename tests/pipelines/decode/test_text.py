from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.decode import text as module
from pipelines.decode.text import decode_field, decode_text, decode_texts, load_json

LABEL = {
    "group": "animals",
    "tags": ["bird", "sea"],
    "deep": {"er": {"name": "ray"}},
    "count": 3,
    "none": None,
    "missing": float("nan"),
    "some": ["a ray", float("inf")],
    "empty": [],
    "flag": True,
    "holes": ["a ray", None],
    "objects": ["a ray", {"b": 1}],
    "nested": ["a", ["ray", [2]]],
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
        ("json.nested", "a, ray, 2"),
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
        ("json.missing", "member 'json' has no value 'missing'"),
        ("json.some", "member 'json' has no value 'some'"),
        ("json.holes", "member 'json' has no value 'holes'"),
        ("json.objects", "member 'json' has no value 'objects'"),
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


CAPTIONS = {
    "captions": ["a ray", "  an eagle ray ", "", "fish"],
    "one": "a ray",
    "numbers": [1, 2.5],
    "empty": [],
    "blank": [" ", "\n"],
    "holes": ["a ray", None],
    "nested": [["a", "b"]],
    "dict": {"a": 1},
}
LISTS = {"txt": b"a ray\n\n an eagle ray \r\nfish\n", "json": json.dumps(CAPTIONS).encode()}


@pytest.mark.parametrize(
    ("field", "texts"),
    [
        ("txt[]", ["a ray", "an eagle ray", "fish"]),
        ("json.captions[]", ["a ray", "an eagle ray", "fish"]),
        ("json.one[]", ["a ray"]),
        ("json.numbers[]", ["1", "2.5"]),
        ("json.nested[]", ["a, b"]),
    ],
)
def test_a_field_in_brackets_is_a_list_of_texts(field, texts):
    assert decode_field(LISTS, field) == texts


def test_a_field_without_brackets_is_one_text():
    assert decode_field(LISTS, "json.numbers") == "1, 2.5"


@pytest.mark.parametrize("field", ["txt", "txt[]", "json.group", "json.captions[]", "json"])
def test_a_mark_before_a_text_changes_nothing(field):
    document = b'{"group": "fish", "captions": ["a", "b"]}'
    members = {"txt": b"a ray\nfish", "json": document}
    marked = {name: b"\xef\xbb\xbf" + data for name, data in members.items()}
    assert decode_field(marked, field) == decode_field(members, field)
    assert load_json(marked, "json") == load_json(members, "json")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("json.empty[]", r"no text in 'json\.empty'"),
        ("json.blank[]", r"no text in 'json\.blank'"),
        ("json.holes[]", "member 'json' has no value 'holes'"),
        ("json.dict[]", "member 'json' has no value 'dict'"),
        ("json.nothing[]", "member 'json' has no value 'nothing'"),
        ("caption[]", "no member 'caption', has json, txt"),
        ("txt.a[]", r"member 'txt' is not valid \(JSONDecodeError\)"),
    ],
)
def test_a_list_without_texts_says_so(field, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        decode_field(LISTS, field)


@given(st.binary(max_size=60), st.sampled_from(["txt", "txt.a"]))
def test_any_bytes_give_texts_for_arrow_or_a_value_error(data, field):
    try:
        texts = decode_texts({"txt": data}, field)
    except ValueError:
        return
    assert texts
    assert all(text == text.strip() != "" for text in texts)
    pa.array(texts, pa.string())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 10_000])
def test_damaged_json_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"^member 'json' is not valid \("):
        load_json({"json": data}, "json")


def test_too_long_json_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 4)
    assert load_json({"json": b"1234"}, "json") == 1234
    with pytest.raises(ValueError, match="5 bytes, too many"):
        load_json({"json": b"12345"}, "json")
