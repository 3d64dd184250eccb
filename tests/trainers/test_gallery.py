from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
import torch

from trainers.core.evaluation import Cell
from trainers.core.fakes import FakeEncoders
from trainers.gallery import choose, names_row, picture, pictures_row, shown_rows

KEYS = [f"key {i}" for i in range(40)]


def decoded(cell: Cell) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(cell.image or ""), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize(
    ("wrong", "count", "expected"),
    [
        (20, 12, (6, 6)),
        (20, 5, (3, 2)),
        (2, 12, (10, 2)),
        (39, 12, (1, 11)),
        (0, 5, (5, 0)),
        (20, 0, (0, 0)),
        (10, 100, (30, 10)),
    ],
)
def test_half_right_half_wrong_where_there_are_enough(wrong, count, expected):
    right = torch.arange(40) >= wrong
    chosen = choose(right, KEYS, count)
    groups = [group for group, _ in chosen]
    assert (groups.count("correct"), groups.count("wrong")) == expected
    assert groups == sorted(groups)
    assert all(bool(right[place]) == (group == "correct") for group, place in chosen)
    assert len({place for _, place in chosen}) == len(chosen)


def test_the_choice_follows_the_keys():
    right = torch.arange(40) % 2 == 0
    chosen = {(group, KEYS[place]) for group, place in choose(right, KEYS, 8)}
    again = choose(right.flip(0), KEYS[::-1], 8)
    assert chosen == {(group, KEYS[::-1][place]) for group, place in again}


@pytest.mark.parametrize("size", [(20, 13), (64, 40), (1, 1)])
def test_small_pictures_stay_as_they_are(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.array_equal(decoded(picture(image)), image)


def test_large_pictures_shrink_and_keep_their_shape():
    image = np.full((200, 400, 3), (10, 20, 30), dtype=np.uint8)
    small = decoded(picture(image))
    assert small.shape == (32, 64, 3)
    assert (small == (10, 20, 30)).all()
    assert decoded(picture(np.zeros((1, 500, 3), dtype=np.uint8))).shape == (1, 64, 3)


def test_rows_mark_the_right_and_the_wrong():
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    names = names_row("correct", picture(image, "a"), ["a", "b"], [0.5, 0.25], "a")
    assert [cell.mark for cell in names.cells] == ["query", "right", "wrong"]
    assert [cell.score for cell in names.cells] == [None, 0.5, 0.25]
    found = [picture(image, text, truth="a") for text in ("b", "a")]
    pictures = pictures_row("text to image", Cell(text="a", mark="query"), found, [0.5, 0.25])
    assert [cell.mark for cell in pictures.cells] == ["query", "wrong", "right"]
    assert [cell.score for cell in pictures.cells] == [None, 0.5, 0.25]
    assert all(cell.image for cell in pictures.cells[1:])


class Inverting(FakeEncoders):
    def pictures(self, images):
        return {"inverted": 255 - images, "itself": images}


def test_what_a_model_shows_stands_beside_each_picture():
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    rows = shown_rows(Inverting(), images)
    assert [row.group for row in rows] == ["inverted"] * 3 + ["itself"] * 3
    for number, row in enumerate(rows[:3]):
        query, shown = row.cells
        assert (query.mark, shown.mark) == ("query", "")
        assert np.array_equal(decoded(query), images[number])
        assert np.array_equal(decoded(shown), 255 - images[number])
    assert shown_rows(FakeEncoders(), images) == []
