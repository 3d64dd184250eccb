from __future__ import annotations

import pytest
import yaml

from pipelines.core import ConfigError, validate
from trainers.finetune_recipe import SHIPPED, FinetuneRecipe, load_finetune_recipe, shipped


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_valid_and_says_what_it_scored(name: str) -> None:
    recipe = load_finetune_recipe(name)
    assert recipe.name == name
    text = (SHIPPED / f"{name}.yaml").read_text()
    for word in ("command:", "hardware:", "time:", "score:"):
        assert f"# {word}" in text
    assert validate(FinetuneRecipe, yaml.safe_load(recipe.to_yaml()), name) == recipe


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("checkpoint=null", "either checkpoint, or random"),
        ("random={image: {kind: resnet}, size: 64}", "either checkpoint, or random"),
        ("labels.per_class=5", "either fraction or per_class"),
        ("labels.fraction=2", r"labels.fraction: .*less than or equal to 1"),
        ("mode.epoch=3", "mode.epoch: unknown key; did you mean 'epochs'"),
        ("mode.kind=fulll", "mode.kind: unknown kind 'fulll'; did you mean 'full'"),
        ("mode.ensemble=[2]", r"mode.ensemble.0: .*less than or equal to 1"),
        ("test=eagleray://emoji/emoji-train-*.tar", "its labels would be known"),
        ("shift={test: x.tar}", "choose another one"),
        ("modes=1", "modes: unknown key; did you mean 'mode'"),
        ("mask={}", "mode dense and mask need each other"),
        ("mode={kind: dense}", "mode dense and mask need each other"),
        ("label=json.groups[]", r"label: 'json.groups\[\]' is a list, and a sample has one"),
        ("label=null", "masks that a member holds: set mask.member"),
    ],
)
def test_a_mistake_is_one_line_with_its_path(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_finetune_recipe("emoji", [assignment])
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="did you mean 'emoji'"):
        load_finetune_recipe("emojy")
