"""Recipes of the second phase: which tower, which labels, what is done with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, model_validator

from pipelines.core import Config, validate
from pipelines.shards.url import Url
from trainers.few_labels import Labels
from trainers.finetuning import MODES
from trainers.labels import Name, OneText
from trainers.masks import Mask
from trainers.models import TOWERS
from trainers.recipe import names_in, read_named

SHIPPED = Path(__file__).parent / "finetuning"
TEST = "test"
"""Name of the test set among all sets."""


class RandomTower(Config):
    """A tower with initial weights, to see what pretraining gains.

    Attributes:
        image: Image tower.
        size: Side of the images, in pixels.
    """

    image: Annotated[Config, TOWERS]
    size: int = Field(ge=1)


class FinetuneRecipe(Config):
    """What is learned from few labels, and where that is tested.

    Attributes:
        name: Of the recipe.
        seed: Of the draw of labels, initial weights, order and augmentation.
        checkpoint: RUN/checkpoints/<samples>, or RUN for its newest.
        random: What to begin from where there is no checkpoint.
        train: URL pattern of the pictures with labels.
        test: URL pattern of the pictures to classify.
        shift: Further test sets by name, whose pictures differ in kind.
        label: Text field of all that holds the label; null where masks alone say what is shown.
        mask: Where masks are, for mode ``dense``.
        labels: How many labels of ``train`` are known; without a label, how many pictures.
        mode: What is done with them: ``probe``, ``knn``, ``full`` or ``dense``.
    """

    name: Name
    seed: int = 0
    checkpoint: Url | None = None
    random: RandomTower | None = None
    train: Url
    test: Url
    shift: dict[Name, Url] = Field(default_factory=dict)
    label: OneText | None = "json.group"
    mask: Mask | None = None
    labels: Labels
    mode: Annotated[Config, MODES]

    @model_validator(mode="after")
    def _goes_together(self) -> FinetuneRecipe:
        if (self.checkpoint is None) == (self.random is None):
            raise ValueError("give either checkpoint, or random with a tower and a size")
        if self.train in self.sets.values():
            raise ValueError("train is a test set as well: its labels would be known")
        dense = MODES.kind_of(self.mode) == "dense"
        if dense != (self.mask is not None):
            raise ValueError("mode dense and mask need each other; for drawings on white: mask: {}")
        if self.label is None and (self.mask is None or self.mask.member is None):
            raise ValueError("label: null is for masks that a member holds: set mask.member")
        if TEST in self.shift:
            raise ValueError(f"shift: '{TEST}' is the name of the test set; choose another one")
        return self

    @property
    def sets(self) -> dict[str, str]:
        """URL patterns of all test sets by name."""
        return {TEST: self.test, **self.shift}

    def to_yaml(self) -> str:
        """Write it out in full, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    return names_in(SHIPPED)


def load_finetune_recipe(name: str, overrides: Iterable[str] = ()) -> FinetuneRecipe:
    """Load a recipe.

    Args:
        name: Name of a shipped recipe, or path or URL of a file.
        overrides: ``path.to.key=value`` each, the value in YAML.

    Raises:
        ConfigError: One line with the path and the nearest valid name.
        StorageError: There is no such file.
    """
    return validate(FinetuneRecipe, *read_named(name, SHIPPED, "recipe to fine-tune by", overrides))
