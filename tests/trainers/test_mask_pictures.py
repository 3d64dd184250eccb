from __future__ import annotations

import numpy as np

from tests.trainers.test_gallery import decoded
from trainers.mask_pictures import coloured, mask_rows

CLASSES = ("background", "bird", "tree")


def test_each_class_has_a_colour_of_its_own() -> None:
    numbers = np.arange(256, dtype=np.uint8)[None]
    colours = coloured(numbers)
    assert colours.shape == (1, 256, 3)
    assert len(np.unique(colours[0], axis=0)) == 256
    near = colours[0, :20].astype(int)
    apart = np.abs(near[:, None] - near[None]).max(2) + 255 * np.eye(20, dtype=int)
    assert apart.min() >= 20  # to be told apart by an eye
    assert (colours[0, 255] == 255).all()


def test_a_row_shows_both_masks_and_names_what_is_large_in_them() -> None:
    image = np.full((1, 20, 20, 3), 7, np.uint8)
    truth, said = np.zeros((2, 20, 20), np.uint8)
    truth[:, :5] = 1
    truth[:, 19] = 255
    said[:12] = 2
    said[0, :2] = 9  # of a class that nothing was learned of, and too small to be named
    (row,) = mask_rows(image, [truth], [said], CLASSES)
    query, labelled, found = row.cells
    assert (query.mark, labelled.mark, found.mark) == ("query", "", "")
    assert labelled.text == "background, bird"
    assert found.text == "tree, background"
    np.testing.assert_array_equal(decoded(labelled), coloured(truth))
    np.testing.assert_array_equal(decoded(found), coloured(said))


def test_classes_without_a_name_are_unknown_together() -> None:
    image, mask = np.zeros((1, 4, 4, 3), np.uint8), np.full((4, 4), 7, np.uint8)
    mask[:2] = 3
    (row,) = mask_rows(image, [mask], [mask], CLASSES)
    assert row.cells[1].text == "unknown"


def test_a_large_mask_has_no_colours_between_those_of_classes() -> None:
    image, mask = np.zeros((1, 200, 200, 3), np.uint8), np.zeros((200, 200), np.uint8)
    mask[:, 77:] = 1
    (row,) = mask_rows(image, [mask], [mask], CLASSES)
    shown = decoded(row.cells[1])
    assert shown.shape == (64, 64, 3)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 2
