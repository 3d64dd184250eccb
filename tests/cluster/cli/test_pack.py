"""``eagleray pack`` as a user meets it."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.cli import pack
from pipelines.core import ConfigError, DataError, StorageError, UserError
from pipelines.shards import storage
from pipelines.sources.webdataset import WebDataset
from trainers.recipe import load_recipe


def picture(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> str:
    for number in range(5):
        storage.write_atomic(f"{tmp_path}/photos/{number}.png", picture(number))
        storage.write_atomic(f"{tmp_path}/photos/{number}.txt", b"photo %d" % number)
    storage.write_atomic(f"{tmp_path}/photos/bad.png", b"?")
    storage.write_atomic(f"{tmp_path}/photos/.hidden", b"")
    return f"{tmp_path}/photos"


def eagleray(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_folder_becomes_shards_that_training_opens(tmp_path: Path, photos: str) -> None:
    words = ["pack", photos, f"{tmp_path}/out", "--name", "mine", "--max-count", "2"]
    done = eagleray(*words, "--shuffle", "1", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["kind"], facts["samples"], facts["hidden"]) == ("images", 5, 1)
    assert [shard["samples"] for shard in facts["shards"]] == [2, 2, 1]
    assert facts["bytes"] == sum(p.stat().st_size for p in (tmp_path / "out").glob("*.tar"))
    reason = "no image; JPEG, PNG or WebP is needed"
    assert facts["skipped"] == {
        "count": 1,
        "reasons": {reason: 1},
        "first": [{"place": "bad.png", "reason": reason}],
    }
    assert (tmp_path / "out" / "_eagleray").exists()
    raws = list(WebDataset(WebDataset.Config(url=facts["url"])).read(np.arange(5)))
    for raw in raws:
        assert raw.members == {"png": picture(int(raw.key)), "txt": b"photo %d" % int(raw.key)}
    assert sorted(raw.key for raw in raws) == ["0", "1", "2", "3", "4"]
    with pytest.raises(UserError, match=r"already has 3 shards named mine-\*\.tar; --overwrite"):
        pack.command(photos, f"{tmp_path}/out", name="mine")


def test_people_are_told_what_was_packed_and_what_was_not(
    tmp_path: Path, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pack.command(photos, f"{tmp_path}/out", name="train", max_bytes="1 MB")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"5 samples (images) in 1 shard, {storage_size(tmp_path / 'out') / 1e6:.1f} MB",
        "skipped 1: no image; JPEG, PNG or WebP is needed",
        "  bad.png: no image; JPEG, PNG or WebP is needed",
        "hidden files and folders, passed over: 1",
        "train on them: --set "
        f"""'data.source={{"kind": "webdataset", "url": "{tmp_path}/out/train-*.tar"}}'""",
    ]


@pytest.mark.parametrize("name", ["debug", "simclr-emoji"])
def test_what_they_are_told_to_set_sets_the_source_of_any_recipe(
    tmp_path: Path, photos: str, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    pack.command(photos, f"{tmp_path}/it's", name="train")
    option, assignment = shlex.split(capsys.readouterr().out.splitlines()[-1])[-2:]
    assert option == "--set"
    source = load_recipe(name, [assignment]).data.source
    assert source == WebDataset.Config(url=f"{tmp_path}/it's/train-*.tar")


def test_a_packing_that_a_scheduler_ends_leaves_no_shards(tmp_path: Path) -> None:
    for number in range(400):
        storage.write_atomic(f"{tmp_path}/photos/{number}.png", picture(number))
    out = tmp_path / "out"
    words = ["pack", f"{tmp_path}/photos", str(out), "--max-count", "1"]
    line = [sys.executable, "-m", "cluster", *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as packing:
        while packing.poll() is None and not list(out.glob("*.tar")):
            time.sleep(0.001)
        packing.terminate()
        _, told = packing.communicate(timeout=60)
    assert packing.returncode == 130, told
    assert not list(out.glob("*.tar"))


def test_shards_without_an_index_are_told_of(
    tmp_path: Path, photos: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(pattern: str) -> None:
        raise StorageError(f"{pattern}: gone")

    monkeypatch.setattr("pipelines.shards.index.open_index", fails)
    with pytest.raises(StorageError):
        pack.command(photos, f"{tmp_path}/out", name="train")
    out, told = capsys.readouterr()
    assert "skipped 1: no image" in out
    assert f"eagleray index '{tmp_path}/out/train-*.tar' finishes their index" in told


def storage_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.tar"))


def test_options_of_a_kind_are_set_by_name(tmp_path: Path) -> None:
    storage.write_atomic(f"{tmp_path}/in/a.png", picture())
    storage.write_atomic(f"{tmp_path}/in/t.csv", b"file,text,rank\na.png,one,1\n")
    sets = ["image=file", "caption=text", "drop=[rank]"]
    pack.command(f"{tmp_path}/in/t.csv", f"{tmp_path}/out", overrides=sets, as_json=True)
    source = WebDataset(WebDataset.Config(url=f"{tmp_path}/out/train-*.tar"))
    (raw,) = source.read(np.arange(1))
    assert raw.members == {"png": picture(), "txt": b"one"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "imges"}, "--kind: no packer 'imges'; did you mean 'images'?"),
        ({"kind": "table", "overrides": ["imag=x"]}, "table: imag: unknown key; did you mean 'im"),
        ({"kind": "table"}, "a .csv, .tsv or .parquet file or pattern is needed"),
        ({"max_bytes": "lots"}, "--max-bytes lots: write a size such as 256MiB or 1GB"),
        ({"name": "a/b"}, "'a/b' is no name for shards"),
        ({"strict": True}, "bad.png: no image; JPEG, PNG or WebP is needed"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    tmp_path: Path, photos: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        pack.command(photos, f"{tmp_path}/out", **options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_nothing_packed_is_a_failure(tmp_path: Path) -> None:
    storage.write_atomic(f"{tmp_path}/in/a.png", b"")
    done = eagleray("pack", f"{tmp_path}/in", f"{tmp_path}/out")
    assert done.returncode == 1
    assert done.stderr == f"eagleray: {tmp_path}/in: nothing to pack; 1 empty\n"


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("256MiB", 1 << 28), ("256mb", 256_000_000), ("1.5 k", 1500), ("2GiB", 2 << 30)],
)
def test_sizes_are_read_as_they_are_written(text: str, size: int) -> None:
    assert pack.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "MB", "1TB", "1e9", "0.1", "nan", "9" * 30])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="write a size such as"):
        pack.parse_size(text)


def test_errors_of_data_and_of_options_are_told_apart(tmp_path: Path, photos: str) -> None:
    with pytest.raises(ConfigError):
        pack.configure("images", ["x=1"])
    with pytest.raises(DataError):
        pack.command(f"{tmp_path}/photos", f"{tmp_path}/out", kind="classes")
