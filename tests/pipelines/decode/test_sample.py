from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.core.source import RawSample
from pipelines.decode import (
    AudioConfig,
    Decoder,
    DecoderConfig,
    DocumentConfig,
    SampleError,
    VideoConfig,
)


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


EVERYTHING = DecoderConfig(
    size=8,
    text={"caption": "txt", "captions": "txt[]"},
    video=VideoConfig(frames=2, rate=8.0, size=16),
    audio=AudioConfig(rate=8000, seconds=0.25),
    document=DocumentConfig(images=2, size=8),
)


@pytest.fixture(scope="module")
def everything(film, noise, picture):
    """A sample that has every modality."""
    video = film([n / 25 for n in range(40)], samples=noise(1.6, 16_000))
    parts = json.dumps([{"text": "see"}, {"image": "0.png"}]).encode()
    return RawSample(
        "a.tar",
        "key",
        {
            "png": picture(1),
            "txt": b"a ray\nan eagle ray",
            "mp4": video,
            "json": parts,
            "0.png": picture(2),
        },
    )


def test_every_modality_has_its_columns(everything):
    decode = Decoder(EVERYTHING)
    sample = decode(everything, key=5)
    assert {n: (a.shape, a.dtype) for n, a in sample.arrays.items()} == decode.shapes
    assert sorted(sample.arrays) == [
        "audio",
        "audio.present",
        "audio.start",
        "document.count",
        "document.images",
        "image",
        "video",
        "video.audio",
        "video.times",
    ]
    assert sample.texts == {
        "caption": "a ray\nan eagle ray",
        "captions": ["a ray", "an eagle ray"],
        "document": "see\n<image>",
    }
    assert sample.arrays["document.count"].tolist() == [1]
    assert sample.arrays["audio.start"][0] == sample.arrays["video.times"][0]


def test_every_row_of_a_batch_is_filled_to_its_last_byte(everything):
    """A batch is not cleared between uses: what a sample leaves out must not show the last one."""
    decode = Decoder(EVERYTHING)
    batches = []
    for junk in (0, 255):
        batch = {n: np.empty((3, *shape), dtype) for n, (shape, dtype) in decode.shapes.items()}
        for array in batch.values():
            array.view(np.uint8)[:] = junk
        rows = {name: array[1] for name, array in batch.items()}
        assert decode.fill(everything, rows, key=5)["document"] == "see\n<image>"
        batches.append(batch)
        for array in batch.values():
            assert (array[[0, 2]].view(np.uint8) == junk).all()
    for name, row in decode(everything, key=5).arrays.items():
        assert np.array_equal(batches[0][name][1], row)
        assert np.array_equal(batches[1][name][1], row)


def test_random_choices_follow_the_key(everything):
    decode = Decoder(EVERYTHING)
    starts = {float(decode(everything, key).arrays["video.times"][0]) for key in (1, 2, 3, -4)}
    assert len(starts) > 1
    for key in (1, -4):
        first, second = decode(everything, key), pickle.loads(pickle.dumps(decode))(everything, key)
        assert all(np.array_equal(first.arrays[n], second.arrays[n]) for n in first.arrays)


def test_a_sample_that_its_source_could_not_read_keeps_the_reason(picture):
    with pytest.raises(SampleError, match=r"^the shard ends within it$"):
        Decoder(DecoderConfig(size=8))(
            RawSample("a.tar", "key", {"png": picture()}, "the shard ends within it")
        )


def test_a_member_that_is_too_large_is_not_decoded(picture):
    data = picture()
    Decoder(DecoderConfig(size=8, max_bytes=len(data)))(raw(png=data))
    with pytest.raises(SampleError, match=f"^member 'png' has {len(data)} bytes, more than 9$"):
        Decoder(DecoderConfig(size=8, max_bytes=9))(raw(png=data))


def test_a_field_cannot_be_called_like_the_document():
    assert "document" in DecoderConfig(text={"document": "txt"}).text
    with pytest.raises(ValidationError, match="interleaved document"):
        DecoderConfig(text={"document": "txt"}, document=DocumentConfig())


def test_decoding_pictures_does_not_load_ffmpeg():
    code = "import sys, pipelines.decode; print('av' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout.split() == ["False", "False"]
