"""Recipes: what is learned, from what, for how long, and how it is judged."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, model_validator

from pipelines.core import Config, ConfigError, Family, nearest, validate
from pipelines.core.config import load_yaml
from pipelines.decode.tokenizer import TokenizerConfig
from pipelines.reader import DataConfig
from pipelines.shards import storage
from trainers.collapse import CollapseConfig
from trainers.core.engine import OptimizerConfig
from trainers.labels import Name
from trainers.objectives import OBJECTIVES

EVALUATIONS = Family("trainers.evaluations")
SHIPPED = Path(__file__).parent / "recipes"
# What may differ from one start of a run to the next.
_FREE = ("data.quarantine_limit", "rewinds", "log_every")


class Recipe(Config):
    """What a run learns; where it runs is a profile's business.

    Attributes:
        name: Of the recipe.
        seed: Of order, augmentation and initial weights.
        data: Source, decoding and shuffling.
        tokenizer: Vocabulary; None where no text is used.
        objective: What is learned.
        optimizer: Its rates and schedule.
        global_batch: Samples of a step, over all workers.
        repeats: Times that each sample is in its batch, with random views of its own each time
            (repeated augmentation, Hoffer et al., 2019, arXiv:1901.09335): what is slow to read
            is read once. Not for objectives that compare samples and would take it for another.
        samples: Length of the run; rounded up to whole steps.
        commit_every: Samples between checkpoints; rounded up likewise.
        log_every: Steps between two lines of metrics.
        rewinds: How many batches may be left out because the loss or gradient was not
            finite: the run goes back to its last commit and on without that batch.
        collapse: How the features are watched while they are learned.
        evaluations: Asked for at every commit.
    """

    name: Name
    seed: int = Field(default=0, ge=-(1 << 63), lt=1 << 63)
    data: DataConfig
    tokenizer: TokenizerConfig | None = None
    objective: Annotated[Config, OBJECTIVES]
    optimizer: OptimizerConfig = OptimizerConfig()
    global_batch: int = Field(default=256, ge=1)
    repeats: int = Field(default=1, ge=1)
    samples: int = Field(ge=1)
    commit_every: int = Field(ge=1)
    log_every: int = Field(default=10, ge=1)
    rewinds: int = Field(default=3, ge=0)
    collapse: CollapseConfig = CollapseConfig()
    evaluations: tuple[Annotated[Config, EVALUATIONS], ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Recipe:
        keys = self.judges
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice:
            raise ValueError(f"evaluations: two are called {twice[0]} {twice[1]}; rename one")
        return self

    @property
    def judges(self) -> list[tuple[str, str]]:
        """Kind and name of each evaluation."""
        return [(EVALUATIONS.kind_of(e), str(getattr(e, "name", ""))) for e in self.evaluations]

    @property
    def steps(self) -> int:
        """Length in steps."""
        return -(-self.samples // self.global_batch)

    @property
    def digest(self) -> str:
        """Digest of everything in it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_yaml(self) -> str:
        """Write it out in full, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    return names_in(SHIPPED)


def names_in(folder: Path) -> list[str]:
    """Names of a folder's YAML files, without their ending."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Load a recipe.

    Args:
        name: Name of a shipped recipe, or path or URL of a file.
        overrides: ``path.to.key=value`` each, the value in YAML.

    Raises:
        ConfigError: One line with the path and the nearest valid name.
        StorageError: There is no such file.
    """
    return parse_recipe(*read_named(name, SHIPPED, "recipe", overrides))


def read_named(
    name: str, folder: Path, what: str, overrides: Iterable[str]
) -> tuple[dict[str, Any], str]:
    """Read YAML that comes with the package, or that a user wrote.

    Args:
        name: Of a file in the folder, without its ending, or path or URL of a file.
        folder: What comes with the package.
        what: It is, for the message.
        overrides: ``path.to.key=value`` each, the value in YAML.

    Returns:
        Its content with the overrides, and the file's name, for messages.

    Raises:
        ConfigError: One line with the path and the nearest valid name.
        StorageError: There is no such file.
    """
    known = names_in(folder)
    is_file = name.endswith((".yaml", ".yml"))
    if not is_file and name not in known:
        raise ConfigError(f"no {what} '{name}'; {nearest(name, known)}")
    url = name if is_file else str(folder / f"{name}.yaml")
    where = url.rpartition("/")[2]
    return override(load_yaml(storage.read_text(url), where), overrides), where


def parse_recipe(data: Mapping[str, Any], where: str) -> Recipe:
    """Build a recipe from plain data."""
    return validate(Recipe, data, where)


def override(data: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Set values by path, without changing ``data``.

    Raises:
        ConfigError: Not ``path=value``, or the path runs through a value.
    """
    result = copy.deepcopy(dict(data))
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set {assignment}: write path.to.key=value")
        *parents, last = path.split(".")
        place: Any = result
        for part in parents:
            place = _step(place, part, assignment, create=True)
        if isinstance(place, list):
            _step(place, last, assignment, create=False)
            place[int(last)] = _value(value)
        elif isinstance(place, dict):
            place[last] = _value(value)
        else:
            raise ConfigError(f"--set {assignment}: '{parents[-1]}' holds a value, not keys")
    return result


def _value(text: str) -> Any:
    """What a value says in YAML; what is none, such as ``*.tar``, stands for itself."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _step(place: Any, part: str, assignment: str, create: bool) -> Any:
    if isinstance(place, list):
        if not part.isdigit() or int(part) >= len(place):
            raise ConfigError(
                f"--set {assignment}: '{part}' is not a place in a list of {len(place)}"
            )
        return place[int(part)]
    if not isinstance(place, dict):
        raise ConfigError(f"--set {assignment}: '{part}' is inside a value that has no keys")
    return place.setdefault(part, {}) if create else place[part]


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Name what differs between two recipes, as ``path: old -> new``.

    What nothing that is learned depends on may differ: a run goes on all the same.
    """
    found = _differences("", old.model_dump(mode="json"), new.model_dump(mode="json"))
    return [text for text in found if text.partition(":")[0] not in _FREE]


def _differences(path: str, old: Any, new: Any) -> Iterable[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(inner, old.get(key), new.get(key))
    elif old != new:
        yield f"{path}: {old} -> {new}"
