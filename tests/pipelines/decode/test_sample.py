from __future__ import annotations

import numpy as np
import pytest

from pipelines.core.source import RawSample
from pipelines.decode import Decoder, DecoderConfig, SampleError


def raw(**members: bytes) -> RawSample:
    return RawSample("a.tar", "key", members)


def test_a_sample_has_its_image_and_its_texts(picture):
    decode = Decoder(DecoderConfig(size=8, text={"caption": "txt", "group": "json.group"}))
    sample = decode(raw(png=picture(width=20), txt=b"a ray", json=b'{"group": "sea"}'))
    assert sample.image.shape == (8, 8, 3)
    assert dict(sample.texts) == {"caption": "a ray", "group": "sea"}


def test_without_a_size_no_image_is_decoded():
    sample = Decoder(DecoderConfig(size=None, text={"caption": "txt"}))(raw(txt=b"x", jpg=b"bad"))
    assert sample.image is None


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "webp"])
def test_every_image_extension_is_found(picture, extension):
    format = {"jpg": "JPEG", "jpeg": "JPEG"}.get(extension, extension.upper())
    sample = Decoder(DecoderConfig(size=16))(raw(**{extension: picture(format=format)}))
    assert sample.image.dtype == np.uint8


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"txt": b"x"}, "no image member, has txt"),
        ({"png": b"bad", "txt": b"x"}, "not a readable image"),
        ({"png": b""}, "no member 'txt', has png"),
        ({"txt": b"\xff"}, "member 'txt' is not valid (UnicodeDecodeError)"),
    ],
)
def test_a_sample_that_cannot_be_decoded_says_why_in_one_line(members, reason):
    with pytest.raises(SampleError) as caught:
        Decoder(DecoderConfig(size=8, text={"caption": "txt"}))(raw(**members))
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


def test_decoding_keeps_no_state(picture):
    decode = Decoder(DecoderConfig(size=8))
    first = decode(raw(png=picture(seed=1))).image
    decode(raw(png=picture(seed=2)))
    assert np.array_equal(decode(raw(png=picture(seed=1))).image, first)
