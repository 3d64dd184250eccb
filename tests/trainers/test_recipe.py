from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines.core import ConfigError, StorageError, validate
from tests.trainers.conftest import small_recipe
from trainers.recipe import (
    Recipe,
    differences,
    load_recipe,
    override,
    parse_recipe,
    shipped,
)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_valid_and_says_how_to_run_it(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    text = (Path(load_recipe.__code__.co_filename).parent / "recipes" / f"{name}.yaml").read_text()
    for word in ("command:", "hardware:", "time:", "score:"):
        assert f"# {word}" in text
    assert "TBD" not in text


def test_written_out_and_read_again_it_is_the_same() -> None:
    recipe = small_recipe()
    assert parse_recipe(yaml.safe_load(recipe.to_yaml()), "again") == recipe
    assert parse_recipe(yaml.safe_load(recipe.to_yaml()), "again").digest == recipe.digest


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("globl_batch=3", r"globl_batch: unknown key; did you mean 'global_batch'\?"),
        ("objective.dimension=3", r"objective.dimension: unknown key; did you mean 'dimensions'"),
        ("objective.image.widht=[3]", r"objective.image.widht: unknown key; .*widths"),
        ("objective.kind=clop", r"objective.kind: unknown kind 'clop'; did you mean 'clip'\?"),
        ("data.source.kind=webdatset", r"data.source.kind: .*did you mean 'webdataset'\?"),
        ("seed=9223372036854775808", "seed: .*less than"),
        ("data.source.url=[{a}-*.tar", "data.source.url"),  # no YAML: it stands for itself
        ("objective.caption.templates=[a photo]", r"'a photo' needs one \{\}, where the caption"),
        ("objective.caption.templates=[]", "objective.caption.templates"),
        ("samples=0", r"samples: .*greater than or equal to 1"),
        ("optimizer.learning_rate=fast", r"optimizer.learning_rate: .*number"),
        ("data.decode.sice=3", r"data.decode.sice: unknown key; did you mean 'size'\?"),
        ("global_batch.x=3", "'global_batch' holds a value"),
        ("nonsense", "write path.to.key=value"),
    ],
)
def test_a_mistake_is_one_line_with_path_and_nearest_name(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe("debug", [assignment])
    assert "\n" not in str(caught.value)


def test_an_override_changes_one_value_and_not_its_input() -> None:
    data = {"a": {"b": [1, {"c": 2}]}}
    assert override(data, ["a.b.1.c=5", "d.e=[x, y]"]) == {
        "a": {"b": [1, {"c": 5}]},
        "d": {"e": ["x", "y"]},
    }
    assert data == {"a": {"b": [1, {"c": 2}]}}


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("clip-emojy", ConfigError, "did you mean 'clip-emoji'"),
        ("nowhere/x.yaml", StorageError, "does not exist"),
    ],
)
def test_a_recipe_that_is_not_there(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_recipe(name)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(small_recipe().to_yaml())
    assert load_recipe(str(path)) == small_recipe()
    path.write_text("a: [")
    with pytest.raises(ConfigError, match=r"mine\.yaml: not valid YAML"):
        load_recipe(str(path))
    path.write_text("- a")
    with pytest.raises(ConfigError, match="expected keys and values"):
        load_recipe(str(path))


def test_differences_name_path_and_values() -> None:
    old, new = small_recipe(), small_recipe(samples=320)
    assert differences(old, old) == []
    assert differences(old, new) == ["samples: 160 -> 320"]


def test_the_length_is_rounded_up_to_whole_steps() -> None:
    assert small_recipe(samples=161).steps == 11


def test_two_evaluations_of_one_name_are_refused() -> None:
    twice = [{"kind": "zero_shot", "name": "a", "data": "x.tar"}] * 2
    with pytest.raises(ConfigError, match="two are called zero_shot a"):
        small_recipe(evaluations=twice)


@pytest.mark.parametrize("value", ["*.tar", "{a,b}-{00..09}.tar", "@x", "a: b: c"])
def test_an_override_that_is_no_yaml_stands_for_itself(value: str) -> None:
    assert override({}, [f"data.source.url={value}"]) == {"data": {"source": {"url": value}}}


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a b", ".hidden"])
def test_a_name_that_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        validate(Recipe, small_recipe().model_dump(mode="json") | {"name": name}, "recipe")
