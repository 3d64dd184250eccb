from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from pipelines.core import ConfigError, DataError, StorageError, UserError, validate
from tests.trainers.conftest import SMALL_TOWERS, small_recipe
from tests.trainers.test_model import committed_model
from trainers.finetune import FinetuneResult, finetune
from trainers.finetune_recipe import FinetuneRecipe, load_finetune_recipe

CPU = torch.device("cpu")


def png(group: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 120, (16, 16, 3), dtype=np.uint8)
    pixels[..., group] += 60
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def sample(number: int, seed: int) -> dict[str, bytes]:
    label = json.dumps({"group": f"group {number % 3}"}).encode()
    return {"png": png(number % 3, 1000 * seed + number), "json": label}


@pytest.fixture
def tars(tmp_path: Path, make_tar) -> Path:
    for seed, (name, count) in enumerate({"train": 30, "test": 12, "shift": 9}.items()):
        make_tar(tmp_path / f"{name}.tar", {f"{n:03}": sample(n, seed) for n in range(count)})
    return tmp_path


def recipe_of(tars: Path, **changes: object) -> FinetuneRecipe:
    data = {
        "name": "few",
        "random": {"image": SMALL_TOWERS["image"], "size": 16},
        "train": f"{tars}/train.tar",
        "test": f"{tars}/test.tar",
        "shift": {"dark": f"{tars}/shift.tar"},
        "labels": {"per_class": 4},
        "mode": {"kind": "full", "epochs": 1, "batch": 6},
        **changes,
    }
    return validate(FinetuneRecipe, {k: v for k, v in data.items() if v is not None}, "few")


def test_recipe_results_and_weights_are_filed(tars: Path) -> None:
    recipe, out = recipe_of(tars), tars / "out"
    result = finetune(recipe, str(out), CPU)
    assert FinetuneResult.model_validate_json((out / "results.json").read_text()) == result
    assert load_finetune_recipe(str(out / "recipe.yaml")) == recipe
    weights = safetensors.torch.load_file(out / "model.safetensors")
    assert weights["head.weight"].shape == (3, 16)
    assert result.classes == ("group 0", "group 1", "group 2")
    assert result.labels == dict.fromkeys(result.classes, 4)
    assert (result.mode, result.checkpoint, result.samples) == ("full", None, 0)
    assert result.pictures == 12
    examples = {score.dataset: score.outcome.examples for score in result.scores}
    assert examples == {"test": 12, "dark": 9}


def test_the_same_again_is_allowed_and_another_recipe_is_not(tars: Path) -> None:
    one = finetune(recipe_of(tars), str(tars / "out"), CPU)
    again = finetune(recipe_of(tars), str(tars / "out"), CPU)
    assert one.scores == again.scores
    with pytest.raises(ConfigError, match="another recipe; give another --out"):
        finetune(recipe_of(tars, seed=1), str(tars / "out"), CPU)


@pytest.mark.parametrize("place", ["run", "checkpoint"])
def test_the_tower_of_a_checkpoint_is_used(tars: Path, place: str) -> None:
    objective = {"kind": "simclr", "image": SMALL_TOWERS["image"]}
    made = committed_model(tars / "run", small_recipe(objective=objective, tokenizer=None))
    url = made.url if place == "checkpoint" else str(tars / "run")
    recipe = recipe_of(tars, random=None, checkpoint=url, mode={"kind": "probe"})
    result = finetune(recipe, str(tars / "out"), CPU)
    assert (result.digest, result.samples) == (made.digest, 16)
    trained = {
        name: value
        for name, value in safetensors.torch.load(made.read("model.safetensors")).items()
        if "_model." in name
    }
    kept = safetensors.torch.load_file(tars / "out" / "model.safetensors")
    for name, value in trained.items():
        assert torch.equal(kept["tower._model." + name.partition("_model.")[2]], value)
    assert trained


def test_without_a_checkpoint_the_seed_gives_the_tower(tars: Path) -> None:
    weights = []
    for seed, out in ((0, "a"), (0, "b"), (1, "c")):
        torch.rand(3)
        finetune(recipe_of(tars, seed=seed, mode={"kind": "knn"}), str(tars / out), CPU)
        weights.append(safetensors.torch.load_file(tars / out / "model.safetensors"))
    one, same, other = (torch.cat([v.flatten() for v in w.values()]) for w in weights)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_nothing_is_written_where_something_is_missing(tars: Path) -> None:
    for changes, error in (
        ({"random": None, "checkpoint": f"{tars}/nowhere"}, StorageError),
        ({"label": "json.colour"}, DataError),
        ({"test": f"{tars}/none.tar"}, UserError),
    ):
        with pytest.raises(error) as caught:
            finetune(recipe_of(tars, **changes), str(tars / "out"), CPU)
        assert "\n" not in str(caught.value)
    assert not (tars / "out").exists()


def test_a_place_that_cannot_be_written_ends_it_before_anything_is_learned(
    tars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.finetuning.knn.Knn.run", lambda *_: pytest.fail("it learned"))
    (tars / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        finetune(recipe_of(tars, mode={"kind": "knn"}), str(tars / "file" / "out"), CPU)


@pytest.mark.parametrize("field", ["test", "shift"])
@pytest.mark.parametrize("label", ["json.group", None])
def test_pictures_that_are_learned_from_are_not_asked_about(
    tars: Path, monkeypatch: pytest.MonkeyPatch, field: str, label: str | None
) -> None:
    monkeypatch.chdir(tars)
    changes: dict[str, object] = {field: {"dark": "t*.tar"} if field == "shift" else "./train.tar"}
    if label is None:
        changes |= {"mask": {"member": "mask.png", "classes": ["red"]}, "mode": DENSE}
    recipe = recipe_of(tars, train="train.tar", **changes).model_copy(update={"label": label})
    with pytest.raises(DataError, match=rf"^{tars}/train\.tar is in both ") as caught:
        finetune(recipe, str(tars / "out"), CPU)
    assert "\n" not in str(caught.value)
    assert not (tars / "out").exists()


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_damaged_tar_is_refused(tars: Path, name: str) -> None:
    path = tars / f"{name}.tar"
    path.write_bytes(path.read_bytes()[: 512 * 20 + 100])
    with pytest.raises(DataError, match=rf"{name}\.tar: it is damaged \(.*\), and what it holds"):
        finetune(recipe_of(tars), str(tars / "out"), CPU)


def masked(number: int) -> dict[str, bytes]:
    """A picture whose left half is of one of two colours, and its mask."""
    mask = np.full((16, 16), 2, np.uint8)
    mask[:, :8] = number % 2
    colours = np.array([[200, 0, 0], [0, 200, 0], [10, 10, 10]], np.uint8)
    members = {}
    for extension, array in (("jpg", colours[mask]), ("mask.png", mask)):
        sink = io.BytesIO()
        Image.fromarray(array).save(sink, "PNG")
        members[extension] = sink.getvalue()
    return members


DENSE = {"kind": "dense", "head_epochs": 2, "epochs": 2, "batch": 6}


def test_masks_of_members_are_learned_without_labels(tmp_path: Path, make_tar) -> None:
    for name, count in {"train": 12, "test": 6, "shift": 4}.items():
        make_tar(tmp_path / f"{name}.tar", {f"{n:03}": masked(n) for n in range(count)})
    mask = {"member": "mask.png", "classes": ["red", "green", "dark"]}
    recipe = recipe_of(tmp_path, mask=mask, mode=DENSE, labels={"fraction": 0.5})
    recipe = validate(FinetuneRecipe, {**recipe.model_dump(mode="json"), "label": None}, "few")
    result = finetune(recipe, str(tmp_path / "out"), CPU)
    assert result.classes == ("red", "green", "dark")
    assert result.labels["dark"] == result.pictures == 6
    assert result.labels["red"] + result.labels["green"] == 6
    assert {score.outcome.headline for score in result.scores} == {"mean_iou"}
    weights = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    assert weights["head.weight"].shape[0] == 3


def test_a_sample_without_its_mask_is_one_line_with_the_nearest_member(tars: Path) -> None:
    mask = {"member": "mask.png", "classes": ["red"]}
    with pytest.raises(DataError, match=r"is readable; .*no member 'mask\.png'; valid: json, png"):
        finetune(recipe_of(tars, mask=mask, mode=DENSE), str(tars / "out"), CPU)


def test_drawings_on_white_are_segmented_by_their_label(tars: Path) -> None:
    result = finetune(recipe_of(tars, mask={}, mode=DENSE), str(tars / "out"), CPU)
    assert result.classes == ("background", "group 0", "group 1", "group 2")
    assert [result.labels[name] for name in result.classes[1:]] == [4, 4, 4]
