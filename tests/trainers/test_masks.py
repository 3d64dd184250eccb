from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.core import ConfigError, DataError, validate
from trainers.core.evaluation import EvaluationData
from trainers.labels import Labelled
from trainers.masks import Mask, with_masks


def data(labels: list[int], masks: np.ndarray | None = None) -> EvaluationData:
    """Each picture's first pixel is drawn, the other is white."""
    images = np.full((len(labels), 1, 2, 3), 255, np.uint8)
    images[:, :, 0] = 9
    return EvaluationData([str(n) for n in range(len(labels))], images, {}, masks)


def labelled(names: tuple[str, ...], known: int, masks: np.ndarray | None = None) -> Labelled:
    test, reference = list(range(len(names))), list(range(known))
    return Labelled(
        names,
        known,
        data(test),
        torch.tensor(test),
        data(reference, masks),
        torch.tensor(reference),
    )


def test_drawings_on_white_have_their_label_and_others_the_background() -> None:
    sets, classes = with_masks(Mask(), {"test": labelled(("cat", "dog", "elk"), 2)})
    assert classes == ("background", "cat", "dog")
    found = sets["test"]
    assert found.reference.masks is not None
    assert found.reference.masks.tolist() == [[[1, 0]], [[2, 0]]]
    # What nothing was learned of has a number beyond the classes.
    assert found.test.masks is not None
    assert found.test.masks.tolist() == [[[1, 0]], [[2, 0]], [[3, 0]]]


def test_masks_of_a_member_stay_as_they_are() -> None:
    masks = np.array([[[0, 255]], [[1, 1]]], np.uint8)
    given = {"test": labelled(("", "x"), 2, masks)}
    mask = Mask(member="mask.png", classes=("sky", "sea"))
    assert with_masks(mask, given) == (given, ("sky", "sea"))
    with pytest.raises(DataError, match=r"has 1 names, and masks .* have the number 1; name it"):
        with_masks(Mask(member="mask.png", classes=("sky",)), given)


def test_more_labels_than_numbers_are_refused() -> None:
    names = tuple(str(number) for number in range(255))
    with pytest.raises(DataError, match="255 labels are more than a mask has numbers for, 254"):
        with_masks(Mask(), {"test": labelled(names, 255)})


@pytest.mark.parametrize("given", [{"member": "mask.png"}, {"classes": ["sky"]}])
def test_a_member_and_its_classes_need_each_other(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="need each other"):
        validate(Mask, given, "mask")
