from __future__ import annotations

import gzip
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from pipelines.core import DataError, UserError
from pipelines.packers import PACKERS, open_tree

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
LABELS = np.array([2, 0, 2], dtype=np.uint8)


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    head = bytes((0, 0, kind, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.tobytes()


ZIPPED = gzip.compress(idx(PIXELS), mtime=0)


def pair(prefix: str = "train-", zipped: bool = False) -> dict[str, bytes]:
    files = {f"{prefix}images-idx3-ubyte": idx(PIXELS), f"{prefix}labels-idx1-ubyte": idx(LABELS)}
    if not zipped:
        return files
    return {f"{name}.gz": gzip.compress(data) for name, data in files.items()}


@pytest.mark.parametrize("zipped", [False, True])
def test_images_and_labels_become_samples(tmp_path, put, outcome, zipped):
    samples, reasons = outcome("idx", put(tmp_path, pair(zipped=zipped)), names=["a", "b", "ç"])
    assert list(samples) == ["00000000", "00000001", "00000002"]
    for number, members in enumerate(samples.values()):
        found = np.asarray(Image.open(io.BytesIO(members["png"])))
        np.testing.assert_array_equal(found, PIXELS[number])
        assert members["cls"] == str(LABELS[number]).encode()
        label = "abç"[LABELS[number]]
        assert json.loads(members["json"]) == {"label": label, "class": int(LABELS[number])}
    assert reasons == {}


def test_a_file_of_images_finds_its_labels_beside_it_at_any_url(memory, put, outcome):
    put(f"{memory}/data", {**pair(), **pair("t10k-", zipped=True)})
    samples, _ = outcome("idx", f"{memory}/data/t10k-images-idx3-ubyte.gz")
    assert [json.loads(m["json"])["label"] for m in samples.values()] == ["2", "0", "2"]


def test_labels_may_be_zipped_where_images_are_not_and_lie_deeper(tmp_path, put, outcome):
    files = {"x/train-images.idx3-ubyte": idx(PIXELS)}
    files["x/train-labels.idx1-ubyte.gz"] = gzip.compress(idx(LABELS))
    assert len(outcome("idx", put(tmp_path, files))[0]) == 3


def test_of_several_files_one_must_be_chosen(tmp_path, put, outcome):
    url = put(tmp_path, {**pair(), **pair("t10k-")})
    with pytest.raises(UserError, match=r"--set images=: t10k-images-idx3-ubyte, train-images"):
        outcome("idx", url)
    assert len(outcome("idx", url, images="train-images-idx3-ubyte")[0]) == 3
    with pytest.raises(UserError, match="images: no such file; did you mean 'train-images-idx3"):
        outcome("idx", url, images="train-images-idx3-ubyt")


def test_labels_of_another_name_can_be_given(tmp_path, put, outcome):
    url = put(tmp_path, {"images-idx3": idx(PIXELS), "classes": idx(LABELS)})
    with pytest.raises(UserError, match="no labels-idx1 beside the images; give it by --set"):
        outcome("idx", url)
    assert len(outcome("idx", url, labels="classes")[0]) == 3


def test_a_folder_without_images_is_an_error(tmp_path, put, outcome):
    with pytest.raises(UserError, match=r"one file called \*images-idx3\* is needed; none there"):
        outcome("idx", put(tmp_path, {"x": b""}))


def test_a_class_without_a_name_is_an_error(tmp_path, put, outcome):
    with pytest.raises(UserError, match="class 2 is not among names"):
        outcome("idx", put(tmp_path, pair()), names=["a", "b"])


def test_numbers_of_images_and_labels_must_agree(tmp_path, put, outcome):
    files = {**pair(), "train-labels-idx1-ubyte": idx(LABELS[:2])}
    with pytest.raises(DataError, match="3 images, but 2 labels"):
        outcome("idx", put(tmp_path, files))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no IDX file of bytes in 3 dimensions"),
        (idx(PIXELS)[:10], "no IDX file of bytes in 3 dimensions"),
        (idx(PIXELS[0]), "no IDX file of bytes in 3 dimensions"),
        (idx(PIXELS.astype(">i4"), kind=12), "no IDX file of bytes in 3 dimensions"),
        (idx(PIXELS)[:-1], "its header promises 60 values, it has 59"),
        (idx(PIXELS) + b"x", "its header promises 60 values, it has 61"),
        (idx(PIXELS)[:4] + b"\xff" * 12, "its header promises 4294967295 x 4294967295"),
        (idx(PIXELS[:, :0]), "its header promises 3 x 0 x 4 values"),
        (ZIPPED[:-9], "damaged gzip file"),
        (ZIPPED[:40] + b"\xff" * 40, "damaged gzip file"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, put, outcome, data, message):
    url = put(tmp_path, {**pair(), "train-images-idx3-ubyte": data})
    with pytest.raises(DataError, match=message) as caught:
        outcome("idx", url)
    assert "train-images-idx3-ubyte: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "fitting"),
    [(["train-images-idx3-ubyte.gz"], True), (["d/x-images.idx3"], True), (["images.png"], False)],
)
def test_which_folders_look_like_idx(tmp_path, put, names, fitting):
    tree = open_tree(put(tmp_path, dict.fromkeys(names, b"x")))
    assert PACKERS.build(PACKERS.parse({"kind": "idx"})).fits(tree) is fitting
