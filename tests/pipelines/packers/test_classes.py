from __future__ import annotations

import json

import pytest

from pipelines.core import ConfigError, DataError, validate
from pipelines.packers import PACKERS, open_tree
from pipelines.packers.classes import Classes


def test_classes_are_numbered_by_name(tmp_path, put, outcome, picture):
    names = ["wren/1.png", "eagle/2.jpg", "eagle/more/3.png", "Ähre/x.y.png"]
    files = {name: picture(format="JPEG" if name.endswith("jpg") else "PNG") for name in names}
    samples, reasons = outcome("classes", put(tmp_path, files))
    assert {key: (m["cls"], json.loads(m["json"])) for key, m in samples.items()} == {
        "eagle/2": (b"0", {"label": "eagle", "class": 0}),
        "eagle/more/3": (b"0", {"label": "eagle", "class": 0}),
        "wren/1": (b"1", {"label": "wren", "class": 1}),
        "Ähre/x%2Ey": (b"2", {"label": "Ähre", "class": 2}),
    }
    assert samples["eagle/2"]["jpg"] == files["eagle/2.jpg"]
    assert samples["wren/1"]["png"] == files["wren/1.png"]
    assert reasons == {}


def test_an_object_store_gives_the_same(memory, tmp_path, put, outcome, picture):
    files = {"a/1.png": picture(0), "b/2.png": picture(1)}
    there = outcome("classes", put(f"{memory}/birds", files))
    assert there == outcome("classes", put(tmp_path, files))
    assert [members["cls"] for members in there[0].values()] == [b"0", b"1"]


def test_what_stands_in_no_class_is_reported(tmp_path, put, outcome, picture):
    files = {"a/1.png": picture(), "top.png": picture(), "docs/x.md": b"x", "a/notes": b"x"}
    samples, reasons = outcome("classes", put(tmp_path, files))
    assert {key: members["cls"] for key, members in samples.items()} == {"a/1": b"0"}
    assert reasons == {
        "top.png": "in no class's folder",
        "docs/x.md": "in no class's folder",
        "a/notes": "no image; JPEG, PNG or WebP is needed",
    }


def test_given_names_keep_their_numbers_where_a_class_is_missing(tmp_path, put, outcome, picture):
    url = put(tmp_path, {"c/1.png": picture(), "a/2.png": picture(), "x/3.png": picture()})
    samples, reasons = outcome("classes", url, names=["a", "b", "c"])
    assert {key: members["cls"] for key, members in samples.items()} == {"a/2": b"0", "c/1": b"2"}
    assert reasons == {"x/3.png": "in no class's folder"}
    with pytest.raises(DataError, match="no folder is one of names; valid: a, c, x"):
        outcome("classes", url, names=["zebra"])


def test_a_class_cannot_have_two_numbers():
    with pytest.raises(ConfigError, match="classes: names: 'a' stands there twice"):
        validate(Classes.Config, {"names": ["a", "b", "a"]}, "classes")


@pytest.mark.parametrize("names", [["top.png"], ["a/notes.md"]])
def test_a_folder_without_folders_of_images_is_an_error(tmp_path, put, outcome, names):
    url = put(tmp_path, dict.fromkeys(names, b"x"))
    with pytest.raises(DataError, match="no folder with images in it"):
        outcome("classes", url)


@pytest.mark.parametrize(
    ("names", "fitting"),
    [
        (["cats/a.jpg", "dogs/b.jpg"], True),
        (["cats/a.jpg", "dogs/b.jpg", "README.md"], True),
        (["cats/a.jpg"], False),
        (["cats/a.jpg", "dogs/b.jpg", "top.jpg"], False),
        (["cats/a.jpg", "dogs/b.jpg", "dogs/b.txt"], False),
        (["x/cats/a.jpg", "x/dogs/b.jpg"], False),
    ],
)
def test_which_folders_look_like_classes(tmp_path, put, names, fitting):
    tree = open_tree(put(tmp_path, dict.fromkeys(names, b"x")))
    assert PACKERS.build(Classes.Config()).fits(tree) is fitting
