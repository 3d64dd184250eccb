from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest

from pipelines.core import Config, ConfigError, Family, discover, validate

TOWER = '''
from pipelines.core import Config

class {name}:
    """{name} of a tower.

    More about it.
    """

    class Config(Config):
        width: int = 8
        layers: tuple[int, ...] = (1, 2)

    def __init__(self, config, *extra, **options):
        self.config, self.extra, self.options = config, extra, options
'''


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    folder = tmp_path / "a_test_family"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "convnet.py").write_text(TOWER.format(name="ConvNet"))
    (folder / "transformer.py").write_text(TOWER.format(name="Transformer"))
    (folder / "_shared.py").write_text("raise RuntimeError('helpers are not members')")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield Family("a_test_family")
    discover.cache_clear()
    for name in [name for name in sys.modules if name.startswith("a_test_family")]:
        del sys.modules[name]


def test_the_folder_is_the_registry(family):
    assert family.names() == ["convnet", "transformer"]
    assert {member.name for member in family} == {"convnet", "transformer"}
    assert family.get("convnet").summary == "ConvNet of a tower."


@pytest.mark.parametrize("kind", ["convnet", "transformer"])
def test_parse_and_dump_are_inverse(family, kind):
    data = {"kind": kind, "width": 3, "layers": [4]}
    config = family.parse(data)
    assert config.width == 3
    assert family.kind_of(config) == kind
    assert family.dump(config) == data
    assert family.parse(family.dump(config)) == config
    assert family.parse(config) is config


def test_a_model_with_a_member_round_trips_through_json(family):
    class Holder(Config):
        tower: Annotated[Config, family]
        towers: tuple[Annotated[Config, family], ...] = ()

    data = {"tower": {"kind": "convnet"}, "towers": [{"kind": "transformer", "width": 1}]}
    holder = validate(Holder, data, "r")
    assert validate(Holder, holder.model_dump(mode="json"), "r") == holder
    assert holder.model_dump(mode="json")["towers"][0]["kind"] == "transformer"


@pytest.mark.parametrize(
    ("tower", "message"),
    [
        ({"kind": "convnt"}, "r: tower.kind: unknown kind 'convnt'; did you mean 'convnet'?"),
        ({"kind": "rnn"}, "r: tower.kind: unknown kind 'rnn'; valid: convnet, transformer"),
        ({"kind": "_shared"}, "r: tower.kind: unknown kind '_shared'; valid"),
        ({"kind": "os.path"}, "r: tower.kind: unknown kind 'os.path'; valid"),
        ({"kind": 3}, "r: tower.kind: needs a kind; valid: convnet, transformer"),
        (None, "r: tower.kind: needs a kind"),
        ({"kind": "convnet", "widht": 1}, "r: tower.widht: unknown key; did you mean 'width'?"),
        ({"kind": "convnet", "layers": [1, "x"]}, "r: tower.layers.1: Input should be a valid"),
    ],
)
def test_a_fault_in_a_member_keeps_its_whole_path(family, tower, message):
    class Holder(Config):
        tower: Annotated[Config, family]

    with pytest.raises(ConfigError) as caught:
        validate(Holder, {"tower": tower}, "r")
    assert str(caught.value).startswith(message)


def test_a_fault_in_a_list_of_members_names_the_place(family):
    class Holder(Config):
        towers: tuple[Annotated[Config, family], ...]

    data = {"towers": [{"kind": "convnet"}, {"kind": "convnet", "widht": 1}]}
    with pytest.raises(ConfigError, match=r"^r: towers\.1\.widht: unknown key; did you mean"):
        validate(Holder, data, "r")


def test_build_hands_over_the_config_and_the_arguments(family):
    built = family.build(family.parse({"kind": "convnet", "width": 2}), 1, device="cpu")
    assert type(built).__name__ == "ConvNet"
    assert (built.config.width, built.extra, built.options) == (2, (1,), {"device": "cpu"})


def test_getting_one_member_imports_only_its_file(family, tmp_path):
    (tmp_path / "a_test_family" / "broken.py").write_text("raise RuntimeError('not asked for')")
    importlib.invalidate_caches()
    assert family.get("convnet").name == "convnet"
    assert "broken" in family.names()


@pytest.mark.parametrize(
    ("text", "count"),
    [("x = 1", 0), (TOWER.format(name="A") + TOWER.format(name="B"), 2)],
)
def test_a_file_without_exactly_one_class_with_a_config_is_refused(family, tmp_path, text, count):
    (tmp_path / "a_test_family" / "odd.py").write_text(text)
    importlib.invalidate_caches()
    message = f"a_test_family/odd.py: needs exactly one class with a nested Config, has {count}"
    with pytest.raises(ConfigError, match=message):
        discover("a_test_family")


def test_imported_classes_of_other_files_do_not_count(family, tmp_path):
    text = "from a_test_family.convnet import ConvNet\n" + TOWER.format(name="Wide")
    (tmp_path / "a_test_family" / "wide.py").write_text(text)
    importlib.invalidate_caches()
    assert family.get("wide").cls.__name__ == "Wide"


@pytest.mark.parametrize("package", ["pipelines.sources", "pipelines.augment"])
def test_every_shipped_member_has_a_summary(package):
    members = discover(package)
    assert members
    for name, member in members.items():
        assert member.summary, name
        assert issubclass(member.config, Config), name
