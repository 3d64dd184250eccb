import base64
from typing import Any

import pytest

from cluster.report.gallery import group_rows, picture
from trainers.core.evaluation import Cell, GalleryRow


def row(group: str, *cells: Cell) -> GalleryRow:
    return GalleryRow(group=group, cells=cells)


def test_a_png_becomes_a_data_uri(run: Any) -> None:
    assert picture(run.picture) == f"data:image/png;base64,{run.picture}"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + '" onerror="alert(1)',
        lambda text: text[:40] + "\n" + text[40:],
        lambda text: text[:40] + " " + text[40:],
        lambda text: text[:-1],
        lambda text: text[:40] + "é" + text[40:],
        lambda text: base64.b64encode(b"<svg onload='alert(1)'/>").decode(),
        lambda text: text + "A" * (1 << 20),
        lambda text: "",
    ],
)
def test_anything_else_does_not(run: Any, spoil: Any) -> None:
    assert picture(spoil(run.picture)) == ""


def test_a_damaged_picture_is_told_from_none(run: Any) -> None:
    (group,) = group_rows([row("g", Cell(image="x"), Cell(text="only text"))])
    damaged, text = group.rows[0].cells
    assert (damaged.image, damaged.damaged) == ("", True)
    assert (text.image, text.damaged) == ("", False)


def test_rows_of_many_pictures_take_a_line_each(run: Any) -> None:
    query, cell = Cell(image=run.picture, mark="query"), Cell(image=run.picture)
    (group,) = group_rows([row("g", query, cell), row("g", query, cell, cell, cell)])
    assert group.few == 0


def test_groups_keep_their_order_and_rows(run: Any) -> None:
    cell = Cell(text="a")
    groups = group_rows([row("wrong", cell), row("correct", cell), row("wrong", cell)])
    assert [(group.name, len(group.rows)) for group in groups] == [("Wrong", 2), ("Correct", 1)]


def test_texts_are_ranked_captions_and_pictures_a_strip(run: Any) -> None:
    query = Cell(image=run.picture, text="truth", mark="query")
    captions = row("a", query, Cell(text="x", score=0.75, mark="wrong"), Cell(text="y", score=0.1))
    strip = row("b", Cell(text="find me", mark="query"), Cell(image=run.picture, score=-0.5))
    first, second = group_rows([captions, strip])
    assert (first.layout, second.layout) == ("captions", "strip")
    assert (first.few, second.few) == (2, 1)
    assert [cell.bar for cell in first.rows[0].cells] == [75.0, 10.0]
    assert [cell.score for cell in first.rows[0].cells] == ["0.750", "0.100"]
    assert second.rows[0].cells[0].bar is None
    assert second.rows[0].cells[0].alt == "picture 1"
    assert second.rows[0].query[0].text == "find me"
