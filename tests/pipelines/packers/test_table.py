from __future__ import annotations

import datetime
import io
import json
import os
import struct
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.core import ConfigError, StorageError, UserError, validate
from pipelines.packers import PACKERS, open_tree
from pipelines.packers.table import Table


def parquet(rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue()


def test_paths_captions_and_the_rest_of_a_csv(tmp_path, put, outcome, picture):
    files = {"img/1.png": picture(1), "2.jpg": picture(2, format="JPEG")}
    table = "image,caption,rank,note\nimg/1.png,eins,1,\n2.jpg,zwei,02,é\n"
    url = put(tmp_path, {**files, "t.csv": table.encode()})
    samples, reasons = outcome("table", f"{url}/t.csv")
    assert samples == {
        "000000000": {
            "png": files["img/1.png"],
            "txt": b"eins",
            "json": b'{"rank": "1", "note": ""}',
        },
        "000000001": {
            "jpg": files["2.jpg"],
            "txt": b"zwei",
            "json": '{"rank": "02", "note": "é"}'.encode(),
        },
    }
    assert reasons == {}


def test_tsv_at_an_object_store_with_whole_urls_and_keys(memory, put, outcome, picture):
    put(memory, {"elsewhere/1.png": picture(1), "here/2.png": picture(2)})
    table = f"id\tpath\n a.b/c.d\t{memory}/elsewhere/1.png\nx\t2.png\n"
    put(memory, {"here/t.tsv": table.encode()})
    url = f"{memory}/here/t.tsv"
    samples, reasons = outcome("table", url, image="path", caption=None, key="id")
    assert samples == {" a.b/c%2Ed": {"png": picture(1)}, "x": {"png": picture(2)}}
    assert reasons == {}


def test_parquet_with_bytes_and_typed_values(tmp_path, put, outcome, picture):
    rows = [
        {
            "image": picture(1),
            "caption": "one",
            "score": float("nan"),
            "day": datetime.date(2026, 1, 2),
            "box": {"x": [1, 2]},
            "none": None,
        },
        {"image": b"not an image", "caption": "two", "score": 0.5},
        {"image": None, "caption": "three", "score": 0.5},
    ]
    url = put(tmp_path, {"t.parquet": parquet(rows)}) + "/t.parquet"
    samples, reasons = outcome("table", url)
    assert list(samples) == ["000000000"]
    assert samples["000000000"]["png"] == picture(1)
    assert json.loads(samples["000000000"]["json"]) == {
        "score": None,
        "day": "2026-01-02",
        "box": {"x": [1, 2]},
        "none": None,
    }
    assert reasons == {
        f"{url} row 1": "no image; JPEG, PNG or WebP is needed",
        f"{url} row 2": "no image in its row",
    }


def test_hugging_faces_struct_holds_bytes_or_a_path(tmp_path, put, outcome, picture):
    rows = [
        {"image": {"bytes": picture(1), "path": "gone.png"}, "text": "one"},
        {"image": {"bytes": None, "path": "there.png"}, "text": "two"},
        {"image": None, "text": "three"},
    ]
    url = put(tmp_path, {"t.parquet": parquet(rows), "there.png": picture(2)}) + "/t.parquet"
    samples, reasons = outcome("table", url, caption="text")
    assert [members["png"] for members in samples.values()] == [picture(1), picture(2)]
    assert reasons == {f"{url} row 2": "no image in its row"}


def test_several_captions_of_a_row_are_kept(tmp_path, put, outcome, picture):
    rows: list[dict[str, Any]] = [
        {"image": picture(), "captions": ["", None, "a", "b"], "title": "t"},
        {"image": picture(), "captions": ["only"], "title": ""},
        {"image": picture(), "captions": [], "title": " "},
    ]
    url = put(tmp_path, {"t.parquet": parquet(rows)}) + "/t.parquet"
    samples, reasons = outcome("table", url, caption="captions", drop=["title"])
    assert [members["txt"] for members in samples.values()] == [b"a", b"only"]
    found = [json.loads(members["json"]) for members in samples.values()]
    assert found == [{"captions": ["a", "b"]}, {"captions": ["only"]}]
    assert reasons == {f"{url} row 2": "no caption"}
    samples, _ = outcome("table", url, caption=["title", "captions"])
    assert [members["txt"] for members in samples.values()] == [b"t", b"only"]
    assert json.loads(samples["000000000"]["json"]) == {"captions": ["t", "a", "b"]}


def test_a_pattern_of_tables_is_numbered_through(tmp_path, put, outcome, picture):
    files = {f"t-{n}.parquet": parquet([{"image": picture(n)}] * 2) for n in range(3)}
    samples, _ = outcome("table", put(tmp_path, files) + "/t-*.parquet", caption=None)
    assert list(samples) == [f"{n:09d}" for n in range(6)]
    found = [members["png"] for members in samples.values()]
    assert found == [picture(n) for n in (0, 0, 1, 1, 2, 2)]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.png", "a path that leaves the table's folder"),
        ("a/../../secret.png", "a path that leaves the table's folder"),
        ("/etc/passwd", "an absolute path; it must be relative to the table, or a file:// URL"),
        ("zip://a::file:///b", "a URL of an unknown sort"),
        ("python://x", "a URL of an unknown sort"),
        ("memory://a::b", "a URL of an unknown sort"),
        ("a::b", "a URL of an unknown sort"),
        ("link.png", "a link that leaves the folder"),
        ("linked/secret.png", "a link that leaves the folder"),
        ("pipe", "no regular file"),
        ("missing.png", "cannot be read (does not exist)"),
        ("https://x.invalid/a.png?token=abcdefgh", "a URL that holds a credential"),
        ("https://x.invalid/a.png?sig=abcdefgh", "a URL that holds a credential"),
        ("a\0b.png", "no path at all"),
        ("", "no image in its row"),
    ],
)
def test_a_path_that_may_not_be_followed_is_left_out(tmp_path, put, outcome, picture, path, reason):
    put(tmp_path, {"secret.png": picture(), "in/t.csv": f"image,x\n{path},1\n".encode()})
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "in" / "pipe")
    url = f"{tmp_path}/in/t.csv"
    assert outcome("table", url, caption=None) == ({}, {f"{url} row 0": reason})


def test_what_no_row_can_be_read_without_ends_the_packing(tmp_path, put, outcome):
    put(tmp_path, {"t.csv": b"image\ngs://bucket/a.png\n"})
    with pytest.raises(StorageError, match="needs a package"):
        outcome("table", f"{tmp_path}/t.csv", caption=None)


def test_a_whole_url_may_point_anywhere(tmp_path, put, outcome, picture):
    table = f"image\nfile://{tmp_path}/out.png\n".encode()
    put(tmp_path, {"out.png": picture(), "in/t.csv": table})
    assert len(outcome("table", f"{tmp_path}/in/t.csv", caption=None)[0]) == 1


def test_a_table_in_the_working_folder(tmp_path, put, outcome, picture, monkeypatch):
    put(tmp_path, {"a.png": picture(), "t.csv": b"image\na.png\n"})
    monkeypatch.chdir(tmp_path)
    assert outcome("table", "t.csv", caption=None)[0] == {"000000000": {"png": picture()}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "image: no column 'image'; did you mean 'images'?"),
        ({"image": "images"}, "caption: no column 'caption'; did you mean 'captions'?, or --set"),
        ({"image": "images", "caption": None, "key": "idd"}, "key: no column 'idd'; did you mean"),
        ({"image": "images", "caption": None, "drop": ["x"]}, "drop: no column 'x'; valid: "),
        ({"image": "number", "caption": None}, "column 'number' holds int64, neither images nor"),
        ({"image": "images", "caption": "number"}, "column 'number' holds int64, no captions"),
        (
            {"image": "images", "caption": None, "key": "mask"},
            "column 'mask' holds binary, no keys",
        ),
        ({"image": "images", "caption": None}, "column 'mask' holds bytes, which JSON cannot"),
    ],
)
def test_a_column_that_is_missing_or_of_another_type_is_named(
    tmp_path, put, outcome, options, message
):
    row = {"id_": "1", "images": b"x", "captions": "c", "number": 1, "mask": b"m"}
    url = put(tmp_path, {"t.parquet": parquet([row])}) + "/t.parquet"
    with pytest.raises(UserError) as caught:
        outcome("table", url, **options)
    assert str(caught.value).startswith(f"{url}: {message}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": ["caption"]}, "column 'caption' is both caption and drop, and can be one; cap"),
        ({"drop": ["x", "image"]}, "column 'image' is both image and drop, and can be one"),
        ({"image": "url", "drop": ["url"]}, "column 'url' is both image and drop, and can be one"),
        ({"image": "caption"}, "column 'caption' is both image and caption, and can be one"),
        ({"caption": ["a", "image"]}, "column 'image' is both image and caption, and can be one"),
        ({"caption": ["a", "b", "a"]}, "column 'a' is caption twice, and can be one"),
    ],
)
def test_a_column_of_two_uses_is_refused_before_anything_is_read(options, message):
    with pytest.raises(ConfigError) as caught:
        validate(Table.Config, options, "table")
    assert str(caught.value).startswith(f"table: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["image", "caption", "dropped"])
def test_a_key_may_be_of_any_use(tmp_path, put, outcome, picture, key):
    put(tmp_path, {"a.png": picture(), "t.csv": b"image,caption,dropped\na.png,c,d\n"})
    samples, _ = outcome("table", f"{tmp_path}/t.csv", key=key, drop=["dropped", "dropped"])
    name = {"image": "a%2Epng", "caption": "c", "dropped": "d"}[key]
    assert samples == {name: {"png": picture(), "txt": b"c"}}


def test_a_key_of_numbers_is_no_image(tmp_path, put, outcome):
    url = put(tmp_path, {"t.parquet": parquet([{"n": 1}])}) + "/t.parquet"
    with pytest.raises(UserError, match="column 'n' holds int64, neither images nor paths"):
        outcome("table", url, image="n", key="n", caption=None)


def test_an_image_whose_server_does_not_say_its_size_is_packed_or_left_out_alone(
    tmp_path, memory, put, outcome, picture, monkeypatch
):
    put(memory, {"1.png": picture(1), "2.png": picture(2, 64, 64)})
    table = f"image\n{memory}/1.png\n{memory}/2.png\n".encode()
    info = MemoryFileSystem.info
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *a: {**info(*a), "size": None})
    monkeypatch.setattr("pipelines.shards.storage_stream._AHEAD", 4096)
    url = put(tmp_path, {"t.csv": table}) + "/t.csv"
    samples, reasons = outcome("table", url, caption=None)
    assert samples == {"000000000": {"png": picture(1)}}
    reason = "its server does not say how large it is, as it must from 0 MiB on"
    assert reasons == {f"{url} row 1": f"cannot be read ({reason})"}


def test_bytes_deep_in_a_column_are_found(tmp_path, put, outcome):
    url = put(tmp_path, {"t.parquet": parquet([{"image": b"x", "deep": [{"a": b"y"}]}])})
    with pytest.raises(UserError, match="column 'deep' holds bytes"):
        outcome("table", f"{url}/t.parquet", caption=None)


def test_rows_without_a_key_or_with_too_few_cells_are_left_out(tmp_path, put, outcome, picture):
    put(tmp_path, {"a.png": picture(), "t.csv": b"image,id\na.png\na.png,1\na.png,2,3\n"})
    url = f"{tmp_path}/t.csv"
    samples, reasons = outcome("table", url, caption=None, key="id")
    assert list(samples) == ["1"]
    reason = "not as many cells as columns"
    assert reasons == {f"{url} row 0": reason, f"{url} row 2": reason}
    rows = [{"image": picture(), "id": 7}, {"image": picture(), "id": None}]
    url = put(tmp_path, {"t.parquet": parquet(rows)}) + "/t.parquet"
    samples, reasons = outcome("table", url, caption=None, key="id")
    assert list(samples) == ["7"]
    assert reasons == {f"{url} row 1": "no key"}


def test_texts_longer_than_training_reads_are_left_out(tmp_path, put, outcome, picture):
    rows = [
        {"image": picture(), "caption": "c" * (1 << 20) + "c", "x": ""},
        {"image": picture(), "caption": "c", "x": "x" * (1 << 20)},
    ]
    url = put(tmp_path, {"t.parquet": parquet(rows)}) + "/t.parquet"
    assert outcome("table", url) == (
        {},
        {
            f"{url} row 0": "its txt is larger than 1 MiB",
            f"{url} row 1": "its json is larger than 1 MiB",
        },
    )


@pytest.mark.parametrize("type_", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_other_encodings_of_text_are_text(tmp_path, put, outcome, picture, type_):
    schema = pa.schema([("image", pa.large_binary()), ("caption", type_)])
    data = parquet([{"image": picture(), "caption": "c"}], schema)
    samples, _ = outcome("table", put(tmp_path, {"t.parquet": data}) + "/t.parquet")
    assert samples["000000000"] == {"png": picture(), "txt": b"c"}


@pytest.mark.parametrize(
    ("name", "fitting"),
    [("t.csv", True), ("t.TSV", True), ("t.parquet", True), ("t.json", False), ("t*", True)],
)
def test_which_files_look_like_tables(tmp_path, put, name, fitting):
    put(tmp_path, {name.replace("*", ".csv"): b""})
    packer = PACKERS.build(PACKERS.parse({"kind": "table"}))
    assert packer.fits(open_tree(f"{tmp_path}/{name}")) is fitting
    assert not packer.fits(open_tree(str(tmp_path)))


def test_a_folder_is_no_table(tmp_path, put, outcome):
    with pytest.raises(UserError, match=r"a \.csv, \.tsv or \.parquet file or pattern is needed"):
        outcome("table", put(tmp_path, {"t.csv": b""}))


def test_a_cell_that_is_no_text_costs_its_row(tmp_path, put, outcome, picture):
    captions = pa.StringArray.from_buffers(
        3, pa.py_buffer(struct.pack("<4i", 0, 1, 2, 3)), pa.py_buffer(b"a\xffc")
    )
    images = pa.array([picture(n) for n in range(3)])
    pq.write_table(pa.table({"image": images, "caption": captions}), tmp_path / "t.parquet")
    samples, reasons = outcome("table", f"{tmp_path}/t.parquet")
    assert [samples[key]["txt"] for key in samples] == [b"a", b"c"]
    assert list(reasons.values()) == ["a cell that is not of its column's type"]


def test_files_that_are_missing_have_no_folder_listed(memory, put, outcome, monkeypatch):
    rows = "".join(f"none/{number}.png,text\n" for number in range(3))
    url = put(memory, {"t.csv": f"image,caption\n{rows}".encode()}) + "/t.csv"
    listed, ls = [], MemoryFileSystem.ls

    def counted(fs, path, *given, **options):
        listed.append(path)
        return ls(fs, path, *given, **options)

    monkeypatch.setattr(MemoryFileSystem, "ls", counted)
    samples, reasons = outcome("table", url)
    assert samples == {}
    assert set(reasons.values()) == {"cannot be read (does not exist)"}
    assert not [path for path in listed if "none" in path]


def test_a_pipe_that_a_table_names_is_no_file(tmp_path, put, outcome):
    os.mkfifo(tmp_path / "pipe.png")
    url = put(tmp_path, {"t.csv": f"image\nfile://{tmp_path}/pipe.png\n".encode()}) + "/t.csv"
    samples, reasons = outcome("table", url, caption=None)
    assert samples == {}
    assert list(reasons.values()) == ["no regular file"]
