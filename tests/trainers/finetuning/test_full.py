"""What can be set of the training of all of a tower; the rest is in test_contract.py."""

from __future__ import annotations

import pytest
import torch

from tests.trainers.finetuning.test_contract import learn, task_of
from trainers.finetuning import MODES


def test_pictures_are_augmented_by_their_keys_alone() -> None:
    task, some, keys = task_of(), torch.arange(4), torch.arange(4) + 7
    augmentations = ({"kind": "affine_colour"}, {"kind": "none"})
    changed, plain = (
        MODES.build(MODES.parse({"kind": "full", "augmentation": augmentation}))
        for augmentation in augmentations
    )

    def images(mode: object, keys: torch.Tensor) -> torch.Tensor:
        views: dict[str, torch.Tensor] = mode._batch(task, some, keys).views  # type: ignore[attr-defined]
        assert torch.equal(views["label"], task.labelled.reference_labels[some])
        return views["image"]

    one, other = images(changed, keys), images(changed, keys.roll(1))
    bare = images(plain, keys)
    assert one.shape == bare.shape
    for place in range(4):
        assert not torch.equal(one[place], bare[place])
        assert not torch.equal(one[place], other[place])
    assert torch.equal(one, images(changed, keys))
    assert torch.equal(bare, images(plain, keys.roll(1)))


def test_what_is_further_from_the_head_learns_more_slowly() -> None:
    # One step of Adam moves each weight by its rate, whatever its gradient.
    step = {"epochs": 1, "batch": 64, "ensemble": []}
    optimizer = {"learning_rate": 0.01, "final_rate": 1.0, "weight_decay": 0.0}
    start = learn("probe", task_of()).weights
    slow, even = (
        learn("full", task_of(), **step, optimizer=optimizer, layer_decay=decay).weights
        for decay in (0.5, 1.0)
    )
    for part, share in (
        ("tower._model.embeddings.", 0.5**3),
        ("tower._model.encoder.stages.0.", 0.5**2),
        ("tower._model.encoder.stages.1.", 0.5),
        ("head.weight", 1.0),
    ):
        names = [name for name in start if name.startswith(part)]
        moved = [
            sum(float((weights[name] - start[name]).abs().sum()) for name in names)
            for weights in (slow, even)
        ]
        assert moved[1] > 0
        assert moved[0] / moved[1] == pytest.approx(share, rel=1e-3), part
