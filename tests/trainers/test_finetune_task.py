from __future__ import annotations

import numpy as np
import torch
from torch import nn

from trainers.finetune_task import outputs, tower_weights

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), dtype=np.uint8)


def test_outputs_are_those_of_pixels_between_minus_one_and_one_whatever_the_parts():
    found = outputs(nn.Flatten(), IMAGES, torch.device("cpu"))  # 300 are two parts
    expected = IMAGES.transpose(0, 3, 1, 2).astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(found.numpy(), expected.reshape(300, -1), atol=1e-6)


def test_dropout_is_off():
    tower = nn.Sequential(nn.Flatten(), nn.Dropout(0.9)).train()
    found = outputs(tower, IMAGES[:4], torch.device("cpu"))
    assert torch.equal(found, outputs(nn.Flatten(), IMAGES[:4], torch.device("cpu")))


def test_names_of_a_towers_tensors():
    assert set(tower_weights(nn.Linear(2, 1))) == {"tower.weight", "tower.bias"}
