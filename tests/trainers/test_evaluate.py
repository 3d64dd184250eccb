from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipelines.core import DataError, OutageError
from pipelines.shards import storage
from pipelines.sources.synthetic import Synthetic
from tests.trainers.conftest import small_recipe
from tests.trainers.test_model import committed_model
from trainers.core.evaluation import EvaluationResult, Outcome
from trainers.evaluate import Loader, Opened, evaluate
from trainers.model import load_model
from trainers.recipe import EVALUATIONS


def write(path: Path, count: int, broken: tuple[int, ...] = ()) -> str:
    path.parent.mkdir(exist_ok=True)
    source = Synthetic(Synthetic.Config(samples=count, size=16))
    with tarfile.open(path, "w") as tar:
        for number, raw in enumerate(source.read(np.arange(count))):
            for extension, data in raw.members.items():
                body = b"broken" if number in broken and extension == "png" else data
                info = tarfile.TarInfo(f"{raw.key}.{extension}")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return str(path)


def test_every_readable_sample_is_loaded_in_storage_order(tmp_path: Path) -> None:
    url = write(tmp_path / "a.tar", 200, broken=(3, 7))
    data = Loader(16)(url, {"caption": "txt", "colour": "json.group"})
    assert len(data) == 198
    assert list(data.keys) == sorted(data.keys)
    assert data.images.shape == (198, 16, 16, 3)
    assert data.texts["caption"][0].split()[0] == data.texts["colour"][0]


def test_some_are_loaded_by_the_numbers_that_their_texts_tell(tmp_path: Path) -> None:
    url = write(tmp_path / "a.tar", 200, broken=(3, 7))
    fields = {"caption": "txt"}
    load = Loader(16)
    found, whole = load.texts(url, fields), load(url, fields)
    assert list(found.numbers) == list(range(200))  # of an image that is broken nobody has asked
    data, numbers = load.some(url, fields, [9, 3, 1])
    assert list(numbers) == [9, 1]
    assert list(data.keys) == [found.keys[9], found.keys[1]]
    assert data.texts["caption"] == [found.texts["caption"][9], found.texts["caption"][1]]
    assert len(load.some(url, fields, [3, 7])[0]) == 0
    places = [list(whole.keys).index(key) for key in data.keys]
    np.testing.assert_array_equal(data.images, whole.images[places])


def png(rows: int, columns: int, **options: object) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.ones((rows, columns), np.uint8)).save(sink, "PNG", **options)
    return sink.getvalue()


def test_a_mask_has_the_shape_of_its_picture_as_that_is_shown(tmp_path: Path, make_tar) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    picture, upright = png(60, 40), png(40, 60, exif=turned)
    samples = {
        "as it": {"png": picture, "mask.png": png(60, 40)},
        "half": {"png": picture, "mask.png": png(30, 20)},
        "one pixel": {"png": picture, "mask.png": png(1, 1)},
        "turned": {"png": picture, "mask.png": png(40, 60)},
        "turned with it": {"png": upright, "mask.png": png(60, 40)},
        "not turned with it": {"png": upright, "mask.png": png(40, 60)},
    }
    fit = {f"{number:03}": samples["as it"] for number in range(300)}
    url = str(make_tar(tmp_path / "a.tar", samples | fit))
    read = Loader(16, "mask.png")(url, {}).keys
    assert [key for key in read if key not in fit] == ["as it", "half", "turned with it"]
    url = str(make_tar(tmp_path / "b.tar", {"turned": samples["turned"]}))
    with pytest.raises(DataError) as caught:
        Loader(16, "mask.png")(url, {})
    assert str(caught.value) == (
        f"{url}: no sample is readable; turned: mask.png: a mask of 60x40 pixels for a picture "
        "that is 40x60 upright; make them of one shape"
    )


def test_a_mask_is_never_the_picture(tmp_path: Path, make_tar) -> None:
    photograph, mask = io.BytesIO(), np.zeros((16, 16), np.uint8)
    Image.new("RGB", (16, 16), (255, 0, 0)).save(photograph, "WEBP", lossless=True)
    members = {"webp": photograph.getvalue(), "png": grey(mask)}
    found = Loader(16, "png")(str(make_tar(tmp_path / "a.tar", {"0": members})), {})
    assert found.images.reshape(-1, 3).tolist() == [[255, 0, 0]] * 256
    assert found.masks is not None
    assert not found.masks.any()
    without = str(make_tar(tmp_path / "b.tar", {"0": {"png": grey(mask)}}))
    for load in (Loader(16, "png"), Loader(16, "png").texts):
        with pytest.raises(DataError, match="0: no image member, has png"):
            load(without, {})


def grey(pixels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def test_a_read_only_data_set_is_scanned_once_and_then_known_to_the_run(
    tmp_path: Path, scanned: list[str]
) -> None:
    url, run = write(tmp_path / "data" / "a.tar", 4), str(tmp_path / "run")
    in_memory = Opened()
    for _ in range(2):
        assert len(Loader(16, opened=in_memory)(url, {})) == 4
        assert len(Loader(16, opened=in_memory).texts(url, {}).keys) == 4
    assert scanned == [url]
    for _ in range(2):
        assert len(Loader(16, opened=Opened(run))(url, {})) == 4
    assert scanned == [url] * 2


def test_samples_without_the_text_have_no_number(tmp_path: Path) -> None:
    url = write(tmp_path / "a.tar", 2)
    with pytest.raises(DataError, match="no sample is readable; 00000000: no member 'no'"):
        Loader(16).texts(url, {"caption": "no"})


def pictures(count: int = 100) -> dict[str, dict[str, bytes]]:
    members = {"png": png(4, 4), "mask.png": png(4, 4), "json": b'{"group": "a"}'}
    return {f"{number:03}": dict(members) for number in range(count)}


@pytest.mark.parametrize(
    ("member", "data", "reason"),
    [
        ("json", None, "no member 'json', has mask.png, png"),
        ("json", b'{"group": null}', "member 'json' has no value 'group'"),
        ("png", None, "no image member, has json, mask.png"),
        ("png", b"broken", "not a readable image"),
        ("mask.png", None, "no member 'mask.png'"),
        ("mask.png", png(4, 2), "mask.png: a mask of 2x4 pixels"),
        ("png", bytes(20_000), "bytes is too large"),
    ],
    ids=["no text", "no value", "no image", "broken", "no mask", "another mask", "too large"],
)
def test_a_set_of_which_much_cannot_be_used_is_refused(
    tmp_path: Path,
    make_tar: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    member: str,
    data: bytes | None,
    reason: str,
) -> None:
    monkeypatch.setattr("pipelines.sources.webdataset.LARGEST", 10_000)
    samples, fields, load = pictures(), {"label": "json.group"}, Loader(4, "mask.png")
    for number, key in enumerate(("007", "003")):
        samples[key] |= {} if data is None else {member: data}
        if data is None:
            del samples[key][member]
        url = str(make_tar(tmp_path / f"{number}.tar", samples))
        if not number:
            assert len(load(url, fields)) == 99
    with pytest.raises(DataError) as caught:
        load(url, fields)
    begin = (
        f"{url}: 2 of 100 samples are broken or lack what is asked for; the first is 003 of {url}: "
    )
    assert str(caught.value).startswith(begin)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    found = load.texts(url, fields)  # of which few may be chosen to learn from
    assert len(load.some(url, {}, found.numbers)[0]) == 98


def test_a_field_that_is_not_asked_for_may_be_missing(tmp_path: Path, make_tar) -> None:
    samples = pictures()
    for key in ("003", "007", "010"):
        del samples[key]["json"]
    assert len(Loader(4)(str(make_tar(tmp_path / "a.tar", samples)), {})) == 100


def test_a_damaged_tar_is_refused_because_nobody_knows_what_it_held(
    tmp_path: Path, make_tar: Callable[..., Path]
) -> None:
    make_tar(tmp_path / "a-0.tar", pictures())
    damaged = make_tar(tmp_path / "a-1.tar", pictures())
    damaged.write_bytes(damaged.read_bytes()[: 512 * 60 + 100])
    load, url = Loader(4), f"{tmp_path}/a-*.tar"
    for act in (load, load.texts, lambda url, fields: load.some(url, fields, [0])):
        with pytest.raises(DataError) as caught:
            act(url, {})
        assert str(caught.value).startswith(f"{damaged}: it is damaged (truncated in a header), ")
        assert "\n" not in str(caught.value)


def test_a_field_that_is_a_list_is_loaded_as_one(tmp_path: Path, make_tar) -> None:
    captions = [["a cat", "an animal"], ["a dog"]]
    samples = {
        f"{number}": {"png": png(4, 4), "txt": b"one", "json": json.dumps({"c": own}).encode()}
        for number, own in enumerate(captions)
    }
    url = str(make_tar(tmp_path / "a.tar", samples))
    data = Loader(4)(url, {"captions": "json.c[]", "caption": "txt"})
    assert data.texts == {"caption": ["one", "one"]}
    assert data.lists == {"captions": captions}


def test_nothing_readable_names_the_first_reason(tmp_path: Path) -> None:
    url = write(tmp_path / "a.tar", 2, broken=(0, 1))
    with pytest.raises(DataError, match="no sample is readable; 00000000: not a readable image"):
        Loader(16)(url, {})


def test_a_result_says_what_it_is_of(tmp_path: Path) -> None:
    url = write(tmp_path / "a.tar", 18)
    commit = committed_model(tmp_path / "run", small_recipe())
    config = EVALUATIONS.parse({"kind": "zero_shot", "name": "shapes", "data": url})
    result = evaluate(load_model(commit), commit, config)
    assert (result.evaluation, result.dataset, result.status) == ("zero_shot", "shapes", "ok")
    assert (result.samples, result.digest) == (commit.samples, commit.digest)
    assert result.outcome is not None
    assert result.outcome.examples == 18


def test_a_fault_of_the_users_becomes_a_failed_result(tmp_path: Path) -> None:
    commit = committed_model(tmp_path / "run", small_recipe())
    config = EVALUATIONS.parse({"kind": "zero_shot", "name": "x", "data": f"{tmp_path}/no-*.tar"})
    result = evaluate(load_model(commit), commit, config)
    assert result.status == "failed"
    assert result.outcome is None
    assert result.error is not None
    assert "no file matches" in result.error


def test_a_metric_that_is_no_number_is_a_failed_result_that_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Outcome(
        metrics={"top1": float("nan"), "top5": 1.0},
        headline="top1",
        chance=0.1,
        examples=18,
        interval=(0.0, float("inf")),
    )
    evaluation = SimpleNamespace(run=lambda *_: outcome)
    monkeypatch.setattr(EVALUATIONS, "build", lambda _: evaluation)
    commit = committed_model(tmp_path / "run", small_recipe())
    config = EVALUATIONS.parse({"kind": "zero_shot", "name": "x", "data": "x.tar"})
    result = evaluate(load_model(commit), commit, config)
    assert result.status == "failed"
    assert str(result.error).startswith("top1, interval's end: not a finite number")
    assert EvaluationResult.model_validate_json(result.model_dump_json()) == result


def test_a_model_of_texts_alone_is_not_asked_about_images(tmp_path: Path) -> None:
    url = write(tmp_path / "a.tar", 18)
    tower = {"width": 16, "layers": 1, "heads": 2}
    source = {"kind": "synthetic", "samples": 96, "size": 16}
    recipe = small_recipe(
        data={"source": source, "decode": {"size": None, "text": {"caption": "txt"}}},
        objective={"kind": "next_token", "tower": tower},
    )
    commit = committed_model(tmp_path / "run", recipe)
    config = EVALUATIONS.parse({"kind": "zero_shot", "name": "x", "data": url})
    result = evaluate(load_model(commit), commit, config)
    assert result.status == "failed"
    assert "needs a model that was trained on images" in str(result.error)


def test_a_tower_that_saw_frames_is_asked_about_images(tmp_path: Path) -> None:
    url = write(tmp_path / "a.tar", 18)
    tower = {"kind": "resnet", "widths": [8, 16], "depths": [1, 1]}
    video = {"frames": 8, "rate": 8, "size": 24}
    recipe = small_recipe(
        data={"source": {"kind": "sprites", "size": 24}, "decode": {"size": None, "video": video}},
        objective={"kind": "frame_order", "image": tower, "frames": 3},
        tokenizer=None,
    )
    commit = committed_model(tmp_path / "run", recipe)
    model = load_model(commit)
    assert model.size == 24
    reference = write(tmp_path / "b.tar", 18)
    asked = {"kind": "knn", "name": "x", "data": url, "reference": reference}
    asked |= {"label": "json.group"}
    result = evaluate(model, commit, EVALUATIONS.parse(asked))
    assert (result.status, result.error) == ("ok", None)


def test_a_store_that_is_away_is_no_fault_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = committed_model(tmp_path / "run", small_recipe())
    config = EVALUATIONS.parse({"kind": "zero_shot", "name": "x", "data": "x.tar"})

    def away(opened: Opened, url: str) -> None:
        with storage.explained(url):
            raise ConnectionResetError

    monkeypatch.setattr(Opened, "__call__", away)
    with pytest.raises(OutageError, match=r"^x.tar: "):
        evaluate(load_model(commit), commit, config)


def test_every_caption_of_a_picture_is_asked_for(tmp_path: Path, make_tar) -> None:
    source = Synthetic(Synthetic.Config(samples=18, size=16))
    samples = {}
    for number, raw in enumerate(source.read(np.arange(18))):
        captions = [f"{raw.members['txt'].decode()} {number} {place}" for place in range(5)]
        body = json.dumps({"captions": captions}).encode()
        samples[raw.key] = {"png": raw.members["png"], "json": body}
    url = str(make_tar(tmp_path / "a.tar", samples))
    recipe = small_recipe(tokenizer={"vocabulary": 280, "length": 48})
    commit = committed_model(tmp_path / "run", recipe)
    config = {"kind": "retrieval", "name": "x", "data": url, "caption": "json.captions[]"}
    result = evaluate(load_model(commit), commit, EVALUATIONS.parse(config))
    assert result.error is None
    assert result.outcome is not None
    assert result.outcome.examples == 90
    assert result.outcome.chance == pytest.approx(1 / 18)
