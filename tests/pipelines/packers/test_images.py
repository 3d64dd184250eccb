from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pipelines.core import UserError
from pipelines.packers import PACKERS, open_tree


def fits(url: str) -> bool:
    return bool(PACKERS.build(PACKERS.parse({"kind": "images"})).fits(open_tree(url)))


def test_images_of_any_depth_with_the_texts_beside_them(tmp_path, put, outcome, picture):
    files = {
        "a.jpg": picture(0, format="JPEG"),
        "a.txt": b"a bird",
        "a.json": b'{"rank": 1}',
        "deep/down/b.png": picture(1),
        "deep/down/b.caption": "ein Vögel".encode(),
        "c.webp": picture(2, format="WEBP"),
    }
    samples, reasons = outcome("images", put(tmp_path, files))
    assert samples == {
        "a": {"jpg": files["a.jpg"], "txt": b"a bird", "json": b'{"rank": 1}'},
        "deep/down/b": {"png": files["deep/down/b.png"], "txt": "ein Vögel".encode()},
        "c": {"webp": files["c.webp"]},
    }
    assert reasons == {}


def test_an_object_store_gives_the_same(memory, tmp_path, put, outcome, picture):
    files = {"a.jpg": picture(0, format="JPEG"), "x/b.png": picture(1), "x/b.txt": b"b"}
    there = outcome("images", put(f"{memory}/photos", files))
    assert there == outcome("images", put(tmp_path, files))
    assert set(there[0]) == {"a", "x/b"}


def test_the_content_names_the_member_and_not_the_file(tmp_path, put, outcome, picture):
    files = {"a.png": picture(0, format="JPEG"), "B.JPEG": picture(1), "c": picture(2)}
    samples, _ = outcome("images", put(tmp_path, files))
    assert {key: list(members) for key, members in samples.items()} == {
        "a": ["jpg"],
        "B": ["png"],
        "c": ["png"],
    }


def test_dots_unicode_and_odd_names_give_keys_that_differ(tmp_path, put, outcome, picture):
    names = ["v1.2/x.y.jpg", "v1.2/x_y.jpg", "日本/鷲.png", "100%.png", "a b.png", "x%2Ey.png"]
    samples, reasons = outcome("images", put(tmp_path, {name: picture() for name in names}))
    assert list(samples) == [
        "100%25",
        "a b",
        "v1.2/x%2Ey",
        "v1.2/x_y",
        "x%252Ey",
        "日本/鷲",
    ]
    assert reasons == {}


def test_what_is_no_image_has_a_reason(tmp_path, put, outcome, picture):
    files = {
        "good.png": picture(),
        "empty.jpg": b"",
        "moving.gif": picture(format="GIF"),
        "page.jpg": b"<html>not found</html>",
        "new.avif": b"\0\0\0\x1cftypavif\0\0\0\0",
        "README.md": b"# read me",
        "lonely.txt": b"no image beside",
    }
    samples, reasons = outcome("images", put(tmp_path, files))
    assert list(samples) == ["good"]
    assert reasons == {
        "README.md": "no image; JPEG, PNG or WebP is needed",
        "empty.jpg": "empty",
        "lonely.txt": "a text with nothing of its name",
        "moving.gif": "a GIF; JPEG, PNG or WebP is needed",
        "new.avif": "an AVIF; JPEG, PNG or WebP is needed",
        "page.jpg": "no image; JPEG, PNG or WebP is needed",
    }


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.json", b"{", "the json beside it is not valid JSON"),
        ("a.json", b"[" * 100_000, "the json beside it is not valid JSON"),
        ("a.json", '{"x": 1}'.encode("utf-16"), "the json beside it is not valid JSON"),
        ("a.txt", b"\xff\xfe", "the txt beside it is not UTF-8"),
        ("a.txt", b"x" * (1 << 20) + b"x", "larger than 1 MiB"),
    ],
)
def test_an_image_whose_text_is_damaged_is_left_out(
    tmp_path, put, outcome, picture, name, data, reason
):
    url = put(tmp_path, {"a.png": picture(), name: data})
    assert outcome("images", url) == ({}, {"a.png": reason})


def test_a_text_loses_the_mark_that_windows_puts_before_it(tmp_path, put, outcome, picture):
    url = put(tmp_path, {"a.png": picture(), "a.txt": "\ufeffbird".encode()})
    assert outcome("images", url)[0]["a"]["txt"] == b"bird"


def test_of_two_captions_one_is_taken_and_the_other_reported(tmp_path, put, outcome, picture):
    url = put(tmp_path, {"a.png": picture(), "a.caption": b"second", "a.txt": b"first"})
    samples, reasons = outcome("images", url)
    assert samples["a"]["txt"] == b"first"
    assert reasons == {"a.caption": "another text is taken"}


def test_a_file_that_may_not_be_read_is_left_out(tmp_path, put, outcome, picture, monkeypatch):
    url = put(tmp_path, {"a.png": picture(), "b.png": picture()})
    from pipelines.shards import storage

    read = storage.open_read

    def refuse(place: str, hint: bool = True) -> object:
        if place.endswith("a.png"):
            raise PermissionError(13, "denied")
        return read(place, hint)

    monkeypatch.setattr(storage, "open_read", refuse)
    samples, reasons = outcome("images", url)
    assert list(samples) == ["b"]
    assert reasons == {"a.png": "cannot be read (access refused)"}


def test_a_huge_file_is_left_out_without_being_read_whole(tmp_path, put, outcome, monkeypatch):
    from pipelines.packers import images
    from pipelines.shards import storage

    read, received = storage.open_read, []

    @contextmanager
    def counted(place: str, hint: bool = True):
        with read(place, hint) as stream:

            def some(size: int = -1) -> bytes:
                received.append(stream.read(size))
                return received[-1]

            yield SimpleNamespace(read=some)

    monkeypatch.setattr(storage, "open_read", counted)
    monkeypatch.setattr(images, "IMAGE_BYTES", 1 << 20)
    url = put(tmp_path, {"a.jpg": b"\xff\xd8\xff" + bytes(4 << 20)})
    assert outcome("images", url) == ({}, {"a.jpg": "larger than 1 MiB"})
    assert 0 < sum(map(len, received)) <= (1 << 20) + 1


@pytest.mark.parametrize(
    ("names", "fitting"),
    [
        (["a.jpg"], True),
        (["a/b.PNG", "c.txt"], True),
        (["cats/a.jpg", "cats/a.txt", "dogs/b.jpg"], True),
        (["x/cats/a.jpg", "x/dogs/b.jpg"], True),
        (["cats/a.jpg", "dogs/b.jpg"], False),  # a folder a class
        (["cats/a.jpg"], True),
        (["a.mp4", "b.txt"], False),
    ],
)
def test_which_folders_look_like_images(tmp_path, put, names, fitting):
    assert fits(put(tmp_path, dict.fromkeys(names, b"x"))) is fitting


def test_a_file_is_no_folder_of_images(tmp_path, put, outcome):
    put(tmp_path, {"a.jpg": b"x"})
    assert not fits(f"{tmp_path}/a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg: a folder is needed"):
        outcome("images", f"{tmp_path}/a.jpg")


def test_metadata_are_copied_as_they_are(tmp_path, put, outcome, picture):
    text = json.dumps({"b": 1, "a": [None, "é"]}, indent=3).encode()
    url = put(tmp_path, {"a.png": picture(), "a.json": text})
    assert outcome("images", url)[0]["a"]["json"] == text
