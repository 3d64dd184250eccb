"""Galleries as the page shows them; pictures are checked before they enter a ``data:`` URI."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cluster.report import formats
from trainers.core.evaluation import Cell, GalleryRow

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FEW = 2
_LIMIT = 1 << 20  # characters of one picture; a cell shows 64 x 64 pixels


@dataclass(frozen=True)
class CellView:
    """One cell.

    Attributes:
        image: A ``data:`` URI, or empty.
        damaged: Whether a picture was there but is not one.
        alt: Text for those who do not see the picture.
        text: Caption.
        score: Formatted score, or empty.
        bar: Score in per cent where the row's scores are shares.
        mark: ``query``, ``right``, ``wrong`` or empty.
    """

    image: str
    damaged: bool
    alt: str
    text: str
    score: str
    bar: float | None
    mark: str


@dataclass(frozen=True)
class RowView:
    """One row: what was asked, and what came back.

    Attributes:
        layout: ``captions`` for texts ranked below a picture, ``strip`` for pictures.
        query: Cells marked ``query``.
        cells: The other cells.
    """

    layout: Literal["captions", "strip"]
    query: tuple[CellView, ...]
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class GroupView:
    """Rows under one heading."""

    name: str
    layout: Literal["captions", "strip"]
    rows: tuple[RowView, ...]

    @property
    def few(self) -> int:
        """Cells of a row where they are so few that several rows fit side by side; otherwise 0."""
        most = max(len(row.cells) for row in self.rows)
        return most if most <= _FEW else 0


def group_rows(rows: Iterable[GalleryRow]) -> list[GroupView]:
    """Group rows by heading, headings in order of first appearance."""
    groups: dict[str, list[RowView]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(_row(row))
    return [
        GroupView(formats.words(name), found[0].layout, tuple(found))
        for name, found in groups.items()
    ]


def picture(image: str | None) -> str:
    """Return the ``data:`` URI of a base64 PNG; empty where it is none, or not strictly base64."""
    if not image or len(image) > _LIMIT or not image.isascii():
        return ""
    try:
        data = base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError):
        return ""
    if not data.startswith(_SIGNATURE):
        return ""
    # Encoded again, so that the page holds only what this module wrote.
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def _row(row: GalleryRow) -> RowView:
    answers = [cell for cell in row.cells if cell.mark != "query"]
    scores = [cell.score for cell in answers if cell.score is not None]
    shares = bool(scores) and all(0 <= score <= 1 for score in scores)
    texts = bool(answers) and all(cell.image is None for cell in answers)
    return RowView(
        layout="captions" if texts else "strip",
        query=tuple(_cell(cell, 0, False) for cell in row.cells if cell.mark == "query"),
        cells=tuple(_cell(cell, rank, shares) for rank, cell in enumerate(answers, 1)),
    )


def _cell(cell: Cell, rank: int, shares: bool) -> CellView:
    image = picture(cell.image)
    what = f"picture {rank}" if rank else "query picture"
    return CellView(
        image=image,
        damaged=cell.image is not None and not image,
        alt=cell.text or what,
        text=cell.text,
        score="" if cell.score is None else f"{cell.score:.3f}",
        bar=round(100 * cell.score, 2) if shares and cell.score is not None else None,
        mark=cell.mark,
    )
