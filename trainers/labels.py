"""Texts of data sets that are classes.

N test, M reference examples.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from torch import Tensor

from pipelines.core import Config, DataError
from pipelines.reader import SOURCES
from pipelines.shards.url import Url
from trainers.apart import check_apart
from trainers.core.evaluation import EvaluationData, GalleryRow, Load, Outcome, Texts
from trainers.statistics import balanced_accuracy, bootstrap_interval, share

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Name of a data set; a part of the name of the file that its results go to."""


def _tars(data: Any) -> Any:
    return {"kind": "webdataset", "url": data} if isinstance(data, str) else data


AnySource = Annotated[Config, SOURCES, BeforeValidator(_tars)]
"""Config of a source; a URL pattern is one of tars."""


def _one(field: str) -> str:
    if field.endswith("[]"):
        raise ValueError(
            f"'{field}' is a list, and a sample has one here; name a field that does not end in []"
        )
    return field


OneText = Annotated[str, AfterValidator(_one)]
"""A text field of which a sample has one; ``json.captions[]`` has several."""


class LabelledConfig(Config):
    """What evaluations with a labelled reference have in common.

    Attributes:
        name: Of the data set, for tables.
        data: URL pattern of the pictures to classify.
        reference: URL pattern of the labelled pictures to learn from.
        label: Text field of both that holds the label.
        gallery: Rows of pictures in the report.
    """

    name: Name
    data: Url
    reference: Url
    label: OneText = "json.group"
    gallery: int = Field(12, ge=0)

    @model_validator(mode="after")
    def _apart(self) -> LabelledConfig:
        if self.data == self.reference:
            raise ValueError("data and reference are the same: every picture would find itself")
        return self


@dataclass(frozen=True)
class Labelled:
    """Test and reference data with numbered labels.

    Attributes:
        names: Classes by number: those of the reference, sorted, then those only the test has.
        known: How many classes the reference has.
        test: N examples.
        test_labels: [N] int64.
        reference: M examples.
        reference_labels: [M] int64.
    """

    names: tuple[str, ...]
    known: int
    test: EvaluationData
    test_labels: Tensor
    reference: EvaluationData
    reference_labels: Tensor


def load_labelled(load: Load, config: LabelledConfig) -> Labelled:
    """Load both data sets.

    Raises:
        DataError: One is empty, a label is missing, the reference has one class only, or a shard
            is in both.
    """
    check_apart(config.data, config.reference)
    reference = load(config.reference, {"label": config.label})
    given = filled(reference, "label", config.label, config.reference)
    known = distinct(given, config.label, config.reference)
    test = load(config.data, {"label": config.label})
    asked = filled(test, "label", config.label, config.data)
    names = (*known, *sorted(set(asked).difference(known)))
    return Labelled(names, len(known), test, encode(asked, names), reference, encode(given, names))


def filled(data: EvaluationData | Texts, name: str, field: str, url: str) -> Sequence[str]:
    """Return a text field that no sample lacks.

    Args:
        data: As loaded.
        name: Of the field in ``data``.
        field: What it was loaded from, for the message.
        url: Where it was loaded from, for the message.

    Raises:
        DataError: There are no samples, or some have no such text.
    """
    texts = data.texts.get(name, [""] * len(data))
    _check_filled(data.keys, texts, name, field, url)
    return texts


def listed(data: EvaluationData, name: str, field: str, url: str) -> Sequence[Sequence[str]]:
    """Return the texts of every sample, of which none lacks one: of one that is no list, a single.

    Args:
        data: As loaded.
        name: Of the field in ``data``.
        field: What it was loaded from, for the message.
        url: Where it was loaded from, for the message.

    Raises:
        DataError: There are no samples, or some have no such text.
    """
    lists = data.lists.get(name)
    if lists is None:
        return [(text,) for text in filled(data, name, field, url)]
    _check_filled(data.keys, lists, name, field, url)
    return lists


def _check_filled(
    keys: Sequence[str], texts: Sequence[Sequence[str]], name: str, field: str, url: str
) -> None:
    if not keys:
        raise DataError(f"{url}: no samples; check the pattern with 'eagleray inspect'")
    empty = [key for key, text in zip(keys, texts, strict=True) if not text]
    if empty:
        raise DataError(
            f"{url}: {len(empty)} of {len(keys)} samples have no '{field}', the first is "
            f"'{empty[0]}'; name another field as {name}, or take them out"
        )


def distinct(texts: Sequence[str], field: str, url: str) -> tuple[str, ...]:
    """Return the classes that texts name, sorted.

    Raises:
        DataError: There is one only.
    """
    classes = tuple(sorted(set(texts)))
    if len(classes) < 2:
        raise DataError(f"{url}: '{field}' is always '{classes[0]}'; name a field that differs")
    return classes


def encode(texts: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Number texts by their place among the classes. N texts -> [N] int64."""
    places = {name: place for place, name in enumerate(classes)}
    return torch.tensor([places[text] for text in texts])


def hash_order(keys: Sequence[str]) -> list[int]:
    """Places of keys in an order that looks random and depends on the keys alone."""
    return sorted(range(len(keys)), key=lambda i: hashlib.sha256(keys[i].encode()).digest())


def labelled_outcome(labelled: Labelled, right: Tensor, gallery: tuple[GalleryRow, ...]) -> Outcome:
    """Score the answers; labels that the reference lacks are wrong.

    The guesser always names the reference's most frequent class, of several
    the first by name.

    Args:
        labelled: What was asked.
        right: Which answers are right. [N] bool
        gallery: Pictures for the report.
    """
    labels = labelled.test_labels
    frequent = min(Counter(labelled.reference_labels.tolist()).items(), key=lambda c: (-c[1], c[0]))
    return Outcome(
        metrics={
            "accuracy": share(right),
            "balanced_accuracy": balanced_accuracy(right, labels),
            "unknown_labels": share(labels >= labelled.known),
        },
        headline="accuracy",
        chance=share(labels == frequent[0]),
        examples=len(labels),
        interval=bootstrap_interval(right),
        gallery=gallery,
    )
