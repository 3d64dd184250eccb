from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.core import ConfigError, StorageError, UserError
from pipelines.decode.tokenizer import Tokenizer
from tests.trainers.conftest import CLIP_TOWERS, SMALL_TOWERS, make_commit, small_recipe
from tests.trainers.test_checkpoint import state, written
from trainers.checkpoint import MANIFEST, Commit, open_commit
from trainers.core.engine import OptimizerConfig
from trainers.model import Model, build_objective, load_model
from trainers.recipe import Recipe
from trainers.torch_engine import TorchEngine

TEXTS = ["red circle", "blue square", "green triangle"]


def committed_model(run: Path, recipe: Recipe) -> Commit:
    tokenizer = None
    texts = {"recipe.yaml": recipe.to_yaml()}
    if recipe.tokenizer:
        tokenizer = Tokenizer.train(TEXTS, recipe.tokenizer)
        texts["tokenizer.json"] = tokenizer.to_json()
    objective = build_objective(recipe, tokenizer)
    engine = TorchEngine(objective, OptimizerConfig(), torch.device("cpu"))
    return make_commit(str(run), engine, state(16), texts)


def images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_a_loaded_model_is_the_one_committed(tmp_path: Path) -> None:
    recipe = small_recipe()
    model = load_model(committed_model(tmp_path, recipe))
    tokenizer = Tokenizer.train(TEXTS, recipe.tokenizer)
    same = Model(build_objective(recipe, tokenizer), recipe, tokenizer)
    torch.testing.assert_close(model.embed_images(images()), same.embed_images(images()))
    torch.testing.assert_close(model.embed_texts(TEXTS), same.embed_texts(TEXTS))
    assert model.features(images()).shape == (5, 16)
    torch.testing.assert_close(model.embed_images(images()).norm(dim=1), torch.ones(5))


def test_weights_do_not_depend_on_who_builds_them_first() -> None:
    recipe = small_recipe()
    tokenizer = Tokenizer.train(TEXTS, recipe.tokenizer)
    torch.rand(7)
    one = build_objective(recipe, tokenizer).state_dict()
    two = build_objective(recipe, tokenizer).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_compares_samples_does_not_see_one_twice() -> None:
    recipe = small_recipe(
        objective={"kind": "moco", "image": SMALL_TOWERS["image"]}, tokenizer=None, repeats=2
    )
    with pytest.raises(ConfigError, match="repeats: 'moco' compares the samples of a batch"):
        build_objective(recipe, None)


@pytest.mark.parametrize("kind", ["rotation", "simclr"])
def test_what_looks_at_each_sample_alone_or_knows_it_again_may_see_one_twice(kind: str) -> None:
    objective = {"kind": kind, "image": SMALL_TOWERS["image"]}
    build_objective(small_recipe(objective=objective, tokenizer=None, repeats=2), None)


def test_a_model_without_text_says_so(tmp_path: Path) -> None:
    recipe = small_recipe(
        objective={"kind": "simclr", "image": SMALL_TOWERS["image"]}, tokenizer=None
    )
    model = load_model(committed_model(tmp_path, recipe))
    assert model.features(images()).shape == (5, 16)
    with pytest.raises(UserError, match="trained by 'simclr' has no text tower"):
        model.embed_texts(["x"])
    with pytest.raises(UserError, match="joint space"):
        model.embed_images(images())


def test_weights_of_another_recipe_are_refused(tmp_path: Path) -> None:
    made = committed_model(tmp_path, small_recipe())
    other = small_recipe(objective={"kind": "clip", **CLIP_TOWERS, "dimensions": 32})
    path = Path(made.url)
    (path / "recipe.yaml").write_text(other.to_yaml())
    with pytest.raises(StorageError, match="differs from its manifest"):
        load_model(made)
    import hashlib
    import json

    manifest = json.loads((path / MANIFEST).read_text())
    data = (path / "recipe.yaml").read_bytes()
    manifest["files"]["recipe.yaml"] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StorageError, match="weights do not fit the recipe"):
        load_model(open_commit(made.url))


@pytest.mark.parametrize(
    ("objective", "headings"),
    [
        ({"kind": "colorization", "image": SMALL_TOWERS["image"]}, ["painted anew"]),
        ({"kind": "rotation", "image": SMALL_TOWERS["image"]}, []),
    ],
)
def test_a_model_shows_what_its_objective_shows(
    objective: dict[str, object], headings: list[str]
) -> None:
    recipe = small_recipe(objective=objective)
    model = Model(build_objective(recipe, None), recipe, None)
    shown = model.pictures(images())
    assert list(shown) == headings
    for pictures in shown.values():
        assert pictures.shape == images().shape
        assert pictures.dtype == np.uint8


@pytest.mark.parametrize("name", ["recipe.yaml", "tokenizer.json"])
def test_a_model_whose_recipe_or_tokenizer_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    made = committed_model(tmp_path, small_recipe())
    with pytest.raises(StorageError, match=rf"{name}: not UTF-8 text; use another commit$"):
        load_model(written(made, name, b"\xff\xfe"))
