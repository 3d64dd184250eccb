from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import Config, DataError, UserError
from pipelines.packers import PACKERS, Packed, Skipped, _pack, detect, open_tree, pack
from pipelines.packers import video as video_module
from pipelines.shards import storage
from pipelines.shards.tar import BLOCK, TarScanner
from pipelines.shards.writer import Bounds
from pipelines.sources import webdataset
from pipelines.sources.webdataset import WebDataset


def run(kind: str, src: str, dest: str, **options: Any) -> Packed:
    packer = PACKERS.build(PACKERS.parse({"kind": kind, **options.pop("config", {})}))
    return pack(packer, open_tree(src), dest, **options)


def keys(dest: str) -> list[str]:
    found = []
    for name in storage.names(dest):
        if name.endswith(".tar"):
            data = storage.read_bytes(storage.join(dest, name))
            found += [member.key for member in TarScanner(io.BytesIO(data))]
    return list(dict.fromkeys(found))


@pytest.fixture
def photos(tmp_path, put, picture) -> str:
    files = {f"d{n % 3}/{n:02d}.png": picture(n) for n in range(12)}
    return str(put(tmp_path / "photos", {**files, "d0/00.txt": b"zero"}))


def test_samples_stand_in_the_order_of_their_keys(tmp_path, photos):
    packed = run("images", photos, f"{tmp_path}/out", bounds=Bounds(count=5))
    found = keys(f"{tmp_path}/out")
    assert found == sorted(found)
    assert len(found) == 12
    assert [shard.samples for shard in packed.shards] == [5, 5, 2]
    assert packed.left.count == 0


def test_a_shuffled_order_depends_on_seed_and_keys_alone(tmp_path, photos, put, picture):
    for name, seed in [("a", 1), ("b", 1), ("c", 2), ("plain", None)]:
        run("images", photos, f"{tmp_path}/{name}", shuffle=seed)
    found = {name: keys(f"{tmp_path}/{name}") for name in ("a", "b", "c", "plain")}
    assert found["a"] == found["b"]
    assert len({tuple(order) for order in found.values()}) == 3
    assert {tuple(sorted(order)) for order in found.values()} == {tuple(found["plain"])}
    # One more sample moves no other.
    put(photos, {"d9/new.png": picture()})
    run("images", photos, f"{tmp_path}/d", shuffle=1)
    assert [key for key in keys(f"{tmp_path}/d") if key != "d9/new"] == found["a"]


def test_equal_sources_give_equal_shards_at_any_url(memory, tmp_path, photos):
    for dest in (f"{tmp_path}/a", f"{tmp_path}/b", f"{memory}/c"):
        run("images", photos, dest, shuffle=0, bounds=Bounds(count=5))
    for name in storage.names(f"{tmp_path}/a"):
        data = storage.read_bytes(f"{tmp_path}/a/{name}")
        assert data == storage.read_bytes(f"{tmp_path}/b/{name}")
        assert data == storage.read_bytes(f"{memory}/c/{name}")


def test_a_shuffled_parquet_file_of_bytes_is_the_same_samples(tmp_path, picture):
    table = pa.table(
        {"image": [picture(n) for n in range(150)], "caption": [f"{n}" for n in range(150)]}
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=40)
    run("table", f"{tmp_path}/t.parquet", f"{tmp_path}/out", shuffle=3)
    data = (tmp_path / "out" / "train-00000.tar").read_bytes()
    members = {m.name: data[m.offset : m.offset + m.size] for m in TarScanner(io.BytesIO(data))}
    assert len(members) == 300
    assert keys(f"{tmp_path}/out") != sorted(keys(f"{tmp_path}/out"))
    for number in range(150):
        assert members[f"{number:09d}.png"] == picture(number)
        assert members[f"{number:09d}.txt"] == b"%d" % number


def test_of_one_key_the_first_file_that_can_be_read_is_packed(tmp_path, put, picture):
    files = {"a.jpg": picture(0, format="JPEG"), "a.png": picture(1), "b.ann": b"boxes"}
    url = put(tmp_path / "in", {**files, "b.jpg": picture(2, format="JPEG"), "b.png": picture(3)})
    packed = run("images", url, f"{tmp_path}/out")
    data = (tmp_path / "out" / "train-00000.tar").read_bytes()
    assert [member.name for member in TarScanner(io.BytesIO(data))] == ["a.jpg", "b.jpg"]
    assert packed.left.first == [
        Skipped("a.png", "another one has its key"),
        Skipped("b.ann", "no image; JPEG, PNG or WebP is needed"),
        Skipped("b.png", "another one has its key"),
    ]


def test_rows_with_one_key_are_treated_likewise(tmp_path, put, picture):
    put(tmp_path, {"a.png": picture(), "t.csv": b"image,id\nb.png,x\na.png,x\na.png,x\n"})
    config = {"caption": None, "key": "id"}
    packed = run("table", f"{tmp_path}/t.csv", f"{tmp_path}/out", config=config)
    assert keys(f"{tmp_path}/out") == ["x"]
    assert dict(packed.left.reasons) == {
        "cannot be read (does not exist)": 1,
        "another one has its key": 1,
    }


def test_what_is_left_out_is_counted_by_reason_and_shown(tmp_path, put, picture):
    files = {f"{n}\x1b.txt": b"x" for n in range(1100)}
    url = put(tmp_path / "in", {**files, "good.png": picture(), ".hidden": b""})
    (tmp_path / "in" / "link").symlink_to("/")
    packed = run("images", url, f"{tmp_path}/out")
    assert packed.left.count == 1101
    assert str(packed.left) == (
        "1,100 a text with nothing of its name; 1 a linked folder, which is not followed"
    )
    assert len(packed.left.first) == 1000
    assert packed.left.first[1].place.endswith("\\x1b.txt")
    assert packed.hidden == 1


def test_strict_stops_at_the_first_and_leaves_nothing(tmp_path, put, picture):
    url = put(tmp_path / "in", {"a.png": picture(), "b.png": b"damaged", "c.png": picture()})
    with pytest.raises(DataError, match=r"^b\.png: no image; JPEG"):
        run("images", url, f"{tmp_path}/out", strict=True, bounds=Bounds(count=1))
    assert storage.names(f"{tmp_path}/out") == []
    put(tmp_path / "in", {"b.png": picture()})
    assert run("images", url, f"{tmp_path}/out", strict=True).shards[0].samples == 3


def test_nothing_to_pack_is_an_error_that_says_why(tmp_path, put):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: nothing to pack; it is empty"):
        run("images", f"{tmp_path}/empty", f"{tmp_path}/out")
    url = put(tmp_path / "in", {"a.jpg": b"", "b.jpg": b"", "c": b"?"})
    with pytest.raises(DataError, match="in: nothing to pack; 2 empty; 1 no image"):
        run("images", url, f"{tmp_path}/out")
    assert storage.names(f"{tmp_path}/out") == []


def test_a_key_too_long_for_a_shard_is_left_out(tmp_path, put, picture):
    key = "k" * 4097
    put(tmp_path, {"a.png": picture(), "t.csv": f"image,id\na.png,{key}\na.png,b\n".encode()})
    config = {"caption": None, "key": "id"}
    packed = run("table", f"{tmp_path}/t.csv", f"{tmp_path}/out", config=config)
    assert dict(packed.left.reasons) == {"a name of more than 4096 bytes": 1}


def test_what_is_packed_is_read_and_what_would_not_be_is_left_out(tmp_path, put, monkeypatch):
    largest = 20 * BLOCK
    for module in (_pack, video_module, webdataset):
        monkeypatch.setattr(module, "LARGEST", largest)
    film = b"\0\0\0\x18ftypmp42".ljust(largest + 1, b"\0")
    sizes = {"small": 100, "fits": largest - BLOCK, "over": largest - BLOCK + 1}
    sizes |= {"whole": largest, "larger": largest + 1, "texts": largest - 3 * BLOCK}
    long = "n" * 200  # its name takes two blocks more
    sizes |= {long: largest - 3 * BLOCK, f"{long}-over": largest - 3 * BLOCK + 1}
    files = {f"{name}.mp4": film[:size] for name, size in sizes.items()}
    files |= {"texts.txt": b"x", "fits.txt": b"too much together"}
    packed = run("video", put(tmp_path / "in", files), f"{tmp_path}/out")
    source = WebDataset(WebDataset.Config(url=f"{tmp_path}/out/*.tar"))
    raws = {raw.key: raw for raw in source.read(np.arange(len(source.index)))}
    assert {key: len(raw.members["mp4"]) for key, raw in raws.items()} == {
        key: sizes[key] for key in ("small", "texts", long)
    }
    assert {raw.fault for raw in raws.values()} == {""}
    sort = {skipped.place.removesuffix(".mp4"): skipped.reason for skipped in packed.left.first}
    together = "larger than the 0 MiB of a sample that training reads"
    assert sort == {
        **dict.fromkeys(["fits", "over", "whole", f"{long}-over"], together),
        "larger": "larger than 0 MiB",
    }


def test_a_place_that_is_taken_is_refused_before_anything_is_read(tmp_path, photos):
    run("images", photos, f"{tmp_path}/out")
    with pytest.raises(UserError, match="--overwrite replaces them"):
        run("images", photos, f"{tmp_path}/out", tell=lambda *_: pytest.fail("read"))
    assert run("images", photos, f"{tmp_path}/out", overwrite=True).shards[0].samples == 12


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_a_packing_that_ends_midway_leaves_what_it_was_to_replace(tmp_path, photos, error):
    def end(done: int, total: int) -> None:
        if done == 8:
            raise error

    options = {"bounds": Bounds(count=2), "shuffle": 0}
    run("images", photos, f"{tmp_path}/out", **options)
    before = keys(f"{tmp_path}/out")
    with pytest.raises(type(error)):
        run("images", photos, f"{tmp_path}/out", **options, overwrite=True, tell=end)
    assert keys(f"{tmp_path}/out") == before
    assert len(storage.names(f"{tmp_path}/out")) == 6


def test_progress_counts_to_the_end(tmp_path, photos):
    told: list[tuple[int, int]] = []
    run("images", photos, f"{tmp_path}/out", tell=lambda done, total: told.append((done, total)))
    assert told == [(n, 12) for n in range(13)]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["a.jpg", "a.txt"], "images"),
        (["cats/a.jpg", "dogs/b.jpg"], "classes"),
        (["a.mp4"], "video"),
        (["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"], "idx"),
    ],
)
def test_the_kind_of_a_folder_is_found(tmp_path, put, names, kind):
    assert detect(open_tree(put(tmp_path, dict.fromkeys(names, b"x")))) == kind


def test_the_kind_of_a_file_is_found(tmp_path, put):
    put(tmp_path, {"t.parquet": b"", "x-images-idx3-ubyte": b""})
    assert detect(open_tree(f"{tmp_path}/t.parquet")) == "table"
    assert detect(open_tree(f"{tmp_path}/x-images-idx3-ubyte")) == "idx"


def test_a_kind_that_is_not_clear_must_be_chosen(tmp_path, put):
    url = put(tmp_path, {"a.jpg": b"x", "b.mp4": b"x"})
    with pytest.raises(UserError, match="could be several kinds; choose with --kind: images, vid"):
        detect(open_tree(url))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        detect(open_tree(f"{tmp_path}/empty"))
    assert str(caught.value) == (
        f"{tmp_path}/empty: looks like no kind of data that can be packed; "
        "choose with --kind: classes, idx, images, table, video"
    )


@pytest.mark.parametrize("member", list(PACKERS), ids=lambda member: member.name)
def test_every_packer_has_a_summary_a_frozen_config_and_defaults(member):
    assert member.summary
    assert issubclass(member.config, Config)
    assert PACKERS.dump(member.config())["kind"] == member.name
