from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import pytest
from pydantic import Field, ValidationError, model_validator

from pipelines.core import Config, ConfigError, load_yaml, nearest, validate
from pipelines.reader import SOURCES, DataConfig


class Tower(Config):
    width: int = 64
    depth: Annotated[int, Field(ge=1)] = 2


class Model(Config):
    image: Tower = Tower()
    towers: tuple[Tower, ...] = ()
    by_name: Mapping[str, Tower] = {}
    optional: Tower | None = None
    rate: float = 0.1


class Holder(Config):
    source: Annotated[Config, SOURCES]
    name: str = "x"


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (Model, {"rat": 1}, "recipe: rat: unknown key; did you mean 'rate'?"),
        (Model, {"zzz": 1}, "recipe: zzz: unknown key; valid: by_name, image, optional, rate, tow"),
        (Model, {"image": {"widht": 3}}, "recipe: image.widht: unknown key; did you mean 'width'?"),
        (Model, {"towers": [{}, {"dept": 1}]}, "towers.1.dept: unknown key; did you mean 'depth'?"),
        (Model, {"by_name": {"a": {"dept": 1}}}, "by_name.a.dept: unknown key"),
        (Model, {"optional": {"widt": 1}}, "optional.widt: unknown key; did you mean 'width'?"),
        (Model, {"image": {"width": "wide"}}, "recipe: image.width: Input should be a valid int"),
        (Model, {"image": {"depth": 0}}, "recipe: image.depth: Input should be greater than or"),
        (Model, {"image": 3}, "recipe: image: Input should be"),
        (Model, {"image": {"depth": 0, "widht": 1}}, "image.widht: unknown key"),
        (Model, {1: 2}, "recipe: 1: Keys should be strings"),
        (Holder, {"source": {"kind": "synthetc"}}, "source.kind: unknown kind 'synthetc'; did you"),
        (
            Holder,
            {"source": {"samples": 3}},
            "source.kind: needs a kind; valid: mixture, sprites, synthetic",
        ),
        (Holder, {"source": 3}, "recipe: source.kind: needs a kind"),
        (Holder, {}, "recipe: source: Field required"),
        (
            Holder,
            {"source": {"kind": "synthetic", "sampels": 1}},
            "recipe: source.sampels: unknown key; did you mean 'samples'?",
        ),
        (
            Holder,
            {"source": {"kind": "synthetic", "samples": "many"}},
            "recipe: source.samples: Input should be a valid integer",
        ),
        (Holder, {"source": {"kind": "webdataset"}}, "recipe: source.url: Field required"),
    ],
)
def test_a_fault_is_one_line_with_its_path_and_the_nearest_name(model, data, message):
    with pytest.raises(ConfigError) as caught:
        validate(model, data, "recipe")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_path_goes_on_through_two_nested_members():
    data = {"source": {"kind": "synthetic"}, "decode": {"siez": 3}}
    with pytest.raises(ConfigError, match=r"^r: decode\.siez: unknown key; did you mean 'size'\?$"):
        validate(DataConfig, data, "r")


def test_a_validator_speaks_for_itself():
    class Pair(Config):
        low: int
        high: int

        @model_validator(mode="after")
        def _ordered(self) -> Pair:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    with pytest.raises(ConfigError, match=r"^here: low is above high$"):
        validate(Pair, {"low": 2, "high": 1}, "here")


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"shuffle": {"chunk": 0}}, "shuffle.chunk"),
        ({"shuffle": {"window": 0}}, "shuffle.window"),
        ({"decode": {"size": 0}}, "decode.size"),
        ({"source": {"kind": "synthetic", "samples": 0}}, "source.samples"),
    ],
)
def test_sizes_that_would_divide_by_zero_are_refused(data, path):
    with pytest.raises(ConfigError, match=f"^r: {path}: "):
        validate(DataConfig, {"source": {"kind": "synthetic"}, **data}, "r")


def test_a_config_is_frozen_and_checks_its_defaults():
    with pytest.raises(ValidationError):
        Tower().width = 3

    class Wrong(Config):
        count: int = "many"  # type: ignore[assignment]

    with pytest.raises(ValidationError):
        Wrong()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "f: not valid YAML (line 1)"),
        ("a: 1\nb: {", "f: not valid YAML (line"),
        ("a: 1\n\tb: 2", "f: not valid YAML (line 2)"),
        ("\0", "f: not valid YAML"),
        ("a: !!python/object/apply:os.system [x]", "f: not valid YAML"),
        ("when: 2024-13-45", "f: not valid YAML"),
        ("[" * 5000, "f: not valid YAML"),
        ("- a\n- b", "f: expected keys and values, found list"),
        ("text", "f: expected keys and values, found str"),
        ("", "f: expected keys and values, found NoneType"),
    ],
)
def test_what_is_not_a_yaml_mapping_is_refused_in_one_line(text, message):
    with pytest.raises(ConfigError) as caught:
        load_yaml(text, "f")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_yaml_file_is_read_as_utf8(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_bytes("name: émoji\n".encode())
    assert load_yaml(file.read_text(encoding="utf-8"), file.name) == {"name": "émoji"}


@pytest.mark.parametrize(
    ("name", "valid", "expected"),
    [
        ("widht", ["depth", "width"], "did you mean 'width'?"),
        ("zzz", ["b", "a"], "valid: a, b"),
        ("zzz", [], "valid: none"),
    ],
)
def test_the_nearest_name_or_all_of_them(name, valid, expected):
    assert nearest(name, valid) == expected
