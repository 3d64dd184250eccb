"""Where the class of each pixel is from. N pictures of H x W pixels, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from pipelines.core import Config, DataError
from pipelines.decode.mask import UNCOUNTED, figures
from trainers.core.evaluation import EvaluationData
from trainers.labels import Labelled

BACKGROUND = "background"


class Mask(Config):
    """Where the class of each pixel is written; give ``member`` with ``classes``, or neither.

    Attributes:
        member: Of a sample: a PNG of class numbers, such as ``mask.png``; 255 does not count.
            None: the pictures are drawings on white, and a figure is of its label's class.
        classes: Names of the numbers, from 0 on.
        white: From which value of all three channels on a pixel of a drawing is background.
    """

    member: str | None = None
    classes: tuple[str, ...] = Field(default=(), max_length=UNCOUNTED)
    white: int = Field(default=245, ge=1, le=255)

    @model_validator(mode="after")
    def _both(self) -> Mask:
        if bool(self.member) != bool(self.classes):
            raise ValueError("member and classes need each other")
        return self


def with_masks(
    mask: Mask, sets: Mapping[str, Labelled]
) -> tuple[dict[str, Labelled], tuple[str, ...]]:
    """Add masks to data, where they were not loaded with it.

    Args:
        mask: Where they are from.
        sets: Test sets by name, with a reference that is the same for all.

    Returns:
        The same with masks, and the names of the classes.

    Raises:
        DataError: There are more classes than a mask has numbers, or the reference's masks have
            numbers without a name.
    """
    if mask.member:
        reference = next(iter(sets.values())).reference.masks
        if reference is not None:
            _check_named(np.unique(reference).tolist(), mask)
        return dict(sets), mask.classes
    labelled = next(iter(sets.values()))
    most = max(len(each.names) for each in sets.values())
    if most >= UNCOUNTED:
        raise DataError(f"{most} labels are more than a mask has numbers for, {UNCOUNTED - 1}")
    return (
        {name: _drawn(mask, each) for name, each in sets.items()},
        (BACKGROUND, *labelled.names[: labelled.known]),
    )


def _check_named(numbers: list[int], mask: Mask) -> None:
    unnamed = [n for n in numbers if len(mask.classes) <= n != UNCOUNTED]
    if unnamed:
        raise DataError(
            f"mask.classes has {len(mask.classes)} names, and masks of the labelled pictures have "
            f"the number {unnamed[0]}; name it, or write {UNCOUNTED} where it does not count"
        )


def _drawn(mask: Mask, labelled: Labelled) -> Labelled:
    def masked(data: EvaluationData, labels: Tensor) -> EvaluationData:
        return replace(data, masks=figures(data.images, labels.numpy() + 1, mask.white))

    return replace(
        labelled,
        test=masked(labelled.test, labelled.test_labels),
        reference=masked(labelled.reference, labelled.reference_labels),
    )
