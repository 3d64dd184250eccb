from __future__ import annotations

import json

from pipelines.inspection import texts
from pipelines.inspection.texts import Captions, Documents, read_texts, text_fields


def members(document, **others: bytes) -> dict[str, bytes]:
    return {"json": json.dumps(document).encode(), **others}


def test_fields_are_found_by_their_names() -> None:
    found = text_fields(members({"caption": "a", "captions": ["b"], "title": "c"}, txt=b"d"))
    assert found == ["txt", "json.caption", "json.captions[]"]
    assert text_fields({"json": b"{"}) == text_fields(members(["caption"])) == []


def test_texts_are_read_as_training_reads_them() -> None:
    assert read_texts({"txt": b" a b \n"}, "txt") == ["a b"]
    assert read_texts(members({"captions": ["a", "", "b"]}), "json.captions[]") == ["a", "b"]
    assert read_texts({"txt": b"\xff"}, "txt") is None
    assert read_texts({}, "txt") is None


def test_captions_are_measured() -> None:
    captions = Captions([])
    for text in [b"one two", b"one two", b"", "ü".encode()]:
        captions.add({"txt": text})
    captions.add({})
    captions.add({"txt": b"\xff"})
    (facts,) = captions.summary()
    assert facts["field"] == "txt"
    assert (facts["samples"], facts["missing"], facts["texts"]) == (4, 2, 4)
    assert (facts["empty"], facts["empty_share"], facts["repeated_share"]) == (1, 0.25, 0.25)
    assert facts["characters"]["max"] == 7
    assert facts["characters"]["total"] == 15
    assert facts["words"]["total"] == 5


def test_fields_that_are_asked_for_replace_those_that_are_found() -> None:
    captions = Captions(["json.title", "json.nothing"])
    captions.add(members({"title": "x"}, txt=b"y"))
    title, nothing = captions.summary()
    assert (title["field"], title["texts"], title["missing"]) == ("json.title", 1, 0)
    assert (nothing["texts"], nothing["missing"], nothing["words"]) == (0, 1, None)


def test_keys_of_documents_have_types() -> None:
    documents = Documents()
    documents.add({**members({"a": 1, "b": None, "c": [], "d": {}}), "meta.json": b'"text"'})
    documents.add(members({"a": 1.5, "b": True}))
    documents.add({"json": b"{", "txt": b"{}"})
    assert documents.summary() == {
        "keys": [
            {"extension": "json", "key": "a", "samples": 2, "types": {"integer": 1, "number": 1}},
            {"extension": "json", "key": "b", "samples": 2, "types": {"boolean": 1, "null": 1}},
            {"extension": "json", "key": "c", "samples": 1, "types": {"array": 1}},
            {"extension": "json", "key": "d", "samples": 1, "types": {"object": 1}},
            {"extension": "meta.json", "key": None, "samples": 1, "types": {"string": 1}},
        ],
        "others": 0,
    }


def test_keys_that_differ_in_every_sample_do_not_fill_the_memory(monkeypatch) -> None:
    monkeypatch.setattr(texts, "NAMES", 2)
    documents = Documents()
    documents.add(members({str(n): n for n in range(10)}))
    documents.add(members({"1": "x"}))
    facts = documents.summary()
    assert [(row["key"], row["samples"]) for row in facts["keys"]] == [("0", 1), ("1", 2)]
    assert facts["others"] == 8


def test_a_key_that_is_no_text_can_be_written() -> None:
    documents = Documents()
    documents.add({"json": b'{"\\ud800": 1}'})
    assert documents.summary()["keys"][0]["key"] == "?"
