"""Rows of pictures and names that reports show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from trainers.core.evaluation import Cell, Encoders, GalleryRow
from trainers.core.pictures import png
from trainers.labels import Labelled, hash_order

SHOWN = 5  # answers in a row
_SIDE = 64  # pixels that the report shows; more would only make its file bigger


def choose(right: Tensor, keys: Sequence[str], count: int) -> list[tuple[str, int]]:
    """Choose examples, as many right as wrong ones where there are enough.

    Which ones depends on keys and answers alone, so that checkpoints are
    compared on the same pictures.

    Args:
        right: [N] bool.
        keys: Of the N examples.
        count: How many, at most.

    Returns:
        (``correct`` or ``wrong``, place), the correct ones first.
    """
    order = hash_order(keys) if count else []
    correct = [place for place in order if right[place]]
    wrong = [place for place in order if not right[place]]
    half = max(count - count // 2, count - len(wrong))
    correct = correct[:half]
    wrong = wrong[: count - len(correct)]
    return [("correct", place) for place in correct] + [("wrong", place) for place in wrong]


def picture(image: npt.NDArray[np.uint8], text: str = "", *, truth: str | None = None) -> Cell:
    """Make a cell of a picture; without ``truth`` it is the query. [H, W, 3] RGB."""
    return Cell(image=png(_small(image)), text=text, mark=_mark(text, truth))


def shown_rows(model: Encoders, images: npt.NDArray[np.uint8]) -> list[GalleryRow]:
    """Make rows of images and what a model shows on them; none where it shows nothing.

    Args:
        model: That was trained.
        images: [N, H, W, 3] RGB, N at least 1.
    """
    return [
        GalleryRow(group=name, cells=(picture(image), Cell(image=png(_small(made)))))
        for name, pictures in model.pictures(images).items()
        for image, made in zip(images, pictures, strict=True)
    ]


def names_row(
    group: str, query: Cell, names: Iterable[str], scores: Iterable[float], truth: str
) -> GalleryRow:
    """Make a row of a picture and the names a model gives it, best first."""
    answers = (
        Cell(text=name, score=score, mark=_mark(name, truth))
        for name, score in zip(names, scores, strict=True)
    )
    return GalleryRow(group=group, cells=(query, *answers))


def named_rows(
    labelled: Labelled, scores: Tensor, places: Tensor, count: int
) -> tuple[GalleryRow, ...]:
    """Make rows of test pictures and the classes that a model names, best first.

    Args:
        labelled: What was asked; N test examples.
        scores: Of each answer. [N, K]
        places: Classes, the likeliest first. [N, K] int64
        count: How many rows, at most.
    """
    rows = []
    right = places[:, 0] == labelled.test_labels
    for group, i in choose(right, labelled.test.keys, count):
        truth = labelled.names[int(labelled.test_labels[i])]
        names = [labelled.names[place] for place in places[i].tolist()]
        query = picture(labelled.test.images[i], truth)
        rows.append(names_row(group, query, names, scores[i].tolist(), truth))
    return tuple(rows)


def neighbour_rows(
    labelled: Labelled, chosen: Iterable[tuple[str, int]], cosines: Tensor, places: Tensor
) -> list[GalleryRow]:
    """Make rows of test pictures and the labelled ones that are nearest to them.

    Args:
        labelled: What was asked; N test examples.
        chosen: Which of them, as ``choose`` says.
        cosines: Of the neighbours, nearest first. [N, K]
        places: Of the neighbours in the reference. [N, K] int64
    """

    def name(labels: Tensor, i: int) -> str:
        return labelled.names[int(labels[i])]

    rows = []
    for group, i in chosen:
        truth = name(labelled.test_labels, i)
        cells = [
            picture(
                labelled.reference.images[place],
                name(labelled.reference_labels, place),
                truth=truth,
            )
            for place in places[i, :SHOWN].tolist()
        ]
        query = picture(labelled.test.images[i], truth)
        rows.append(pictures_row(group, query, cells, cosines[i, :SHOWN].tolist()))
    return rows


def pictures_row(
    group: str, query: Cell, pictures: Iterable[Cell], scores: Iterable[float]
) -> GalleryRow:
    """Make a row of a query and the pictures it finds, best first."""
    answers = (
        cell.model_copy(update={"score": score})
        for cell, score in zip(pictures, scores, strict=True)
    )
    return GalleryRow(group=group, cells=(query, *answers))


def _mark(text: str, truth: str | None) -> Literal["query", "right", "wrong"]:
    if truth is None:
        return "query"
    return "right" if text == truth else "wrong"


def _small(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    size = shrunk(image)
    if size == image.shape[1::-1]:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def shrunk(image: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height of a picture [H, W, ...] in a report."""
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))
