from __future__ import annotations

import io

import av
import numpy as np
import pytest

from pipelines.packers import PACKERS, open_tree

FORMATS = {
    "mp4": ("mp4", "mpeg4"),
    "mov": ("mov", "mpeg4"),
    "mkv": ("matroska", "mpeg4"),
    "webm": ("webm", "libvpx"),
    "avi": ("avi", "mpeg4"),
    "mpg": ("mpeg", "mpeg1video"),
}


def film(extension: str) -> bytes:
    container, codec = FORMATS[extension]
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for level in (0, 80, 160):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return sink.getvalue()


@pytest.mark.parametrize("extension", FORMATS)
def test_a_real_film_is_known_by_its_content_and_copied(tmp_path, put, outcome, extension):
    data = film(extension)
    samples, reasons = outcome("video", put(tmp_path, {"clips/one.bin": data}))
    assert samples == {"clips/one": {extension: data}}
    assert reasons == {}


def test_texts_go_with_their_film(memory, put, outcome):
    data = film("mp4")
    files = {"a.v1.mp4": data, "a.v1.txt": b"a bird flies", "b.mp4": data, "b.json": b"{}"}
    samples, reasons = outcome("video", put(memory, files))
    assert samples == {
        "a%2Ev1": {"mp4": data, "txt": b"a bird flies"},
        "b": {"mp4": data, "json": b"{}"},
    }
    assert reasons == {}


def test_what_is_no_film_has_a_reason(tmp_path, put, outcome, picture):
    files = {
        "photo.mp4": picture(),
        "empty.mp4": b"",
        "still.mp4": b"\0\0\0\x1cftypheic\0\0\0\0",
        "x.txt": b"alone",
    }
    assert outcome("video", put(tmp_path, files)) == (
        {},
        {
            "photo.mp4": "no video; MP4, MOV, WebM, MKV, AVI or MPEG is needed",
            "still.mp4": "no video; MP4, MOV, WebM, MKV, AVI or MPEG is needed",
            "empty.mp4": "empty",
            "x.txt": "a text with nothing of its name",
        },
    )


@pytest.mark.parametrize(
    ("names", "fitting"), [(["a.MP4"], True), (["d/a.webm", "x"], True), (["a.jpg"], False)]
)
def test_which_folders_look_like_videos(tmp_path, put, names, fitting):
    tree = open_tree(put(tmp_path, dict.fromkeys(names, b"x")))
    assert PACKERS.build(PACKERS.parse({"kind": "video"})).fits(tree) is fitting
