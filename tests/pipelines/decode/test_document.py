from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.decode.document import MARKER, DocumentConfig, compose, decode_document
from pipelines.decode.errors import SampleError
from pipelines.decode.image import decode_image

CONFIG = DocumentConfig(images=3, size=8)


def decode(document, config=CONFIG, **members: bytes):
    named = {name.replace("_", "."): data for name, data in members.items()}
    if document is not None:
        named[config.member] = json.dumps(document).encode()
    images = np.full((config.images, config.size, config.size, 3), 7, np.uint8)
    count = np.full(1, 7, np.int32)
    text = decode_document(named, config, images, count)
    return text, images, int(count[0])


@pytest.mark.parametrize(
    "document",
    [
        [{"text": "a ray"}, {"image": "0.png"}, {"text": "and"}, {"image": "1.png"}],
        {"texts": ["a ray", None, "and", None], "images": [None, "0.png", None, "1.png"]},
    ],
    ids=["parts", "obelics"],
)
def test_a_document_has_its_texts_and_images_in_order(picture, document):
    first, second = picture(1), picture(2, width=30)
    text, images, count = decode(document, **{"0_png": first, "1_png": second})
    assert text == "a ray\n<image>\nand\n<image>"
    assert count == 2
    assert np.array_equal(images[0], decode_image(first, 8))
    assert np.array_equal(images[1], decode_image(second, 8))
    assert not images[2].any()


def test_images_over_the_limit_go_with_their_markers(picture):
    names = ["1.png", "0.png", "1.png"]
    document = [part for name in names for part in ({"image": name}, {"text": f"after {name}"})]
    members = {"0_png": picture(0), "1_png": picture(1)}
    config = DocumentConfig(images=2, size=8)
    text, images, count = decode(document, config, **members)
    assert text == "<image>\nafter 1.png\n<image>\nafter 0.png\nafter 1.png"
    assert count == 2
    assert np.array_equal(images[0], decode_image(picture(1), 8))
    assert np.array_equal(images[1], decode_image(picture(0), 8))


def test_a_text_without_images_is_a_document():
    text, images, count = decode([{"text": "a ray"}, {"text": ""}, {"text": "swims"}])
    assert (text, count) == ("a ray\nswims", 0)
    assert not images.any()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([{"image": "2.png"}], "no member '2.png', which 'json' names"),
        ([{"image": "0.png"}] * 3 + [{"image": "9.png"}], "no member '9.png', which 'json' names"),
        ([{"image": "a\nb"}], "no member 'a b', which 'json' names"),
        ([{"image": "../0.png"}], "no member '../0.png', which 'json' names"),
        ([{"image": "/etc/hostname"}], "no member '/etc/hostname', which 'json' names"),
        ([{"image": "json"}], "json: not a readable image (UnidentifiedImageError)"),
        ([{"image": 3}], "member 'json' has a part that is not a string"),
        ([{"text": ["a"]}], "member 'json' has a part that is not a string"),
        ([{"image": []}], "member 'json' has a part that is not a string"),
        ([{"image": {}}], "member 'json' has a part that is not a string"),
        ([{"text": 0}], "member 'json' has a part that is not a string"),
        ({"texts": [None], "images": [[]]}, "member 'json' has a part that is not a string"),
        ([{"text": "a", "image": "0.png"}], "member 'json' has a part that is both"),
        ([{"caption": "a"}], "member 'json' has a part without a text or an image"),
        (["a"], "member 'json' is not a document of texts and images"),
        ("a", "member 'json' is not a document of texts and images"),
        ({"texts": ["a"], "images": []}, "member 'json' is not a document of texts and images"),
        ({"texts": ["a"]}, "member 'json' is not a document of texts and images"),
        ([{"text": "\ud83e"}], "member 'json' is not valid (UnicodeEncodeError)"),
        (None, "no member 'json', has 0.png"),
    ],
)
def test_a_document_that_is_none_says_why(picture, document, reason):
    with pytest.raises(SampleError) as caught:
        decode(document, **{"0_png": picture()})
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    "texts",
    [
        ["say <image> now"],
        ["<image>"],
        ["<im<image>age>"],
        ["<im", "age>"],
        ["<ima", "", "ge>"],
        ["<<image>image>"],
        ["<", "image", ">"],
    ],
)
@pytest.mark.parametrize("join", ["", "\n", " "])
def test_a_text_cannot_pass_for_an_image(texts, join):
    config = DocumentConfig(join=join)
    between = compose([(False, text) for text in texts], config)
    assert MARKER not in between
    parts = [(True, "0.png"), *((False, text) for text in texts), (True, "0.png")]
    assert compose(parts, config) == join.join([MARKER, between, MARKER])


PARTS = st.lists(
    st.tuples(st.just(True), st.just("0.png"))
    | st.tuples(st.just(False), st.text("<image> g", min_size=1, max_size=12)),
    max_size=8,
)


@given(PARTS, st.sampled_from(["", " ", "image", "ge"]), st.integers(1, 4))
def test_there_are_as_many_markers_as_images(parts, join, images):
    text = compose(parts, DocumentConfig(images=images, join=join))
    wanted = min(images, sum(is_image for is_image, _ in parts))
    assert text.count(MARKER) == wanted


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("0.png"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "image", "texts", "images"]), inner)
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_a_document_or_a_sample_error(picture, document):
    try:
        text, _, count = decode(document, **{"0_png": picture()})
    except SampleError:
        return
    assert text.count(MARKER) == count
    pa.array([text], pa.string())


@given(st.binary(max_size=40), st.sampled_from([b"", b"[", b'[{"text":']))
def test_any_bytes_are_a_document_or_a_sample_error(data, head):
    images, count = np.empty((3, 8, 8, 3), np.uint8), np.full(1, 7, np.int32)
    try:
        decode_document({"json": head + data}, CONFIG, images, count)
    except SampleError:
        return
    assert count[0] == 0


@pytest.mark.parametrize("options", [{"join": "<"}, {"join": "a>"}, {"images": 0}, {"size": 0}])
def test_a_document_that_cannot_be_is_refused(options):
    with pytest.raises(ValidationError):
        DocumentConfig(**options)
