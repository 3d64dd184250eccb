"""Few labels: which examples of a labelled set may be learned from."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pydantic import Field, model_validator

from pipelines.core import Config
from trainers.core.evaluation import EvaluationData, Load, Texts
from trainers.labels import filled


class Labels(Config):
    """How many labels are known, drawn class by class; give one of both.

    Attributes:
        fraction: Share of each class, rounded, but one at least. A picture that is chosen and
            turns out to be unreadable is of no class.
        per_class: Of each class, or all where it has fewer.
    """

    fraction: float | None = Field(default=None, gt=0, le=1)
    per_class: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> Labels:
        if (self.fraction is None) == (self.per_class is None):
            raise ValueError("give either fraction or per_class")
        return self

    def of(self, size: int) -> int:
        """How many labels of a class of some size are known."""
        if self.per_class is not None:
            return min(self.per_class, size)
        return max(1, math.floor((self.fraction or 1) * size + 0.5))


def draw(keys: Sequence[str], labels: Sequence[str], how: Labels, seed: int) -> list[int]:
    """Choose examples by a hash of seed and key: fewer labels are always some of more labels.

    Args:
        keys: Of the examples.
        labels: Their classes.
        how: How many.
        seed: Of the draw.

    Returns:
        Places of the examples chosen, ascending.
    """
    classes: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        classes[label].append(place)

    def number(place: int) -> bytes:
        return hashlib.sha256(f"{seed} {keys[place]}".encode()).digest()

    return sorted(
        place
        for members in classes.values()
        for place in sorted(members, key=number)[: how.of(len(members))]
    )


class Choosing(Protocol):
    """What a choice of examples is made by; ``Loader`` is one."""

    def __call__(self, url: str, fields: Mapping[str, str]) -> EvaluationData:
        """Load a whole data set."""
        ...

    def texts(self, url: str, fields: Mapping[str, str]) -> Texts:
        """Read texts alone, of the samples that have all that will be asked for."""
        ...

    def some(
        self, url: str, fields: Mapping[str, str], numbers: Sequence[int]
    ) -> tuple[EvaluationData, Sequence[int]]:
        """Load some of its samples: those that are readable, if any, and their numbers."""
        ...


def few(load: Choosing, url: str, field: str | None, how: Labels, seed: int) -> Load:
    """Load as before, but of one data set only the examples whose labels are known.

    Of the others no image is decoded, and none is held in memory.

    Args:
        load: Loads data sets.
        url: Of the data set to choose from; it is read at once.
        field: Text field with its labels; None where all are of one class.
        how: How many of them are known.
        seed: Of the draw.

    Raises:
        DataError: It is empty, or a label is missing.
    """
    found = load.texts(url, {"label": field} if field else {})
    labels = filled(found, "label", field, url) if field else [""] * len(found)
    chosen = _readable(load, url, found, labels, lambda keys, of: draw(keys, of, how, seed))

    def loaded(asked: str, fields: Mapping[str, str]) -> EvaluationData:
        return chosen if asked == url else load(asked, fields)

    return loaded


def _readable(
    load: Choosing,
    url: str,
    found: Texts,
    labels: Sequence[str],
    choose: Callable[[Sequence[str], Sequence[str]], list[int]],
) -> EvaluationData:
    """Choose again without those whose images turn out to be unreadable, until all are readable.

    Raises:
        DataError: None is readable.
    """
    left, readable = list(range(len(found))), set[int]()
    while left:
        places = choose([found.keys[at] for at in left], [labels[at] for at in left])
        wanted = [left[place] for place in places]
        new = [at for at in wanted if at not in readable]
        data, numbers = load.some(url, {}, [found.numbers[at] for at in new])
        there = set(numbers)
        lost = {at for at in new if found.numbers[at] not in there}
        if not lost:
            if readable:  # what was loaded before was of another choice
                data, _ = load.some(url, {}, [found.numbers[at] for at in wanted])
            return replace(data, texts={"label": [labels[at] for at in wanted]})
        readable.update(set(new) - lost)
        left = [at for at in left if at not in lost]
    return load(url, {})  # says why not one of them is
