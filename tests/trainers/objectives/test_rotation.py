from __future__ import annotations

import torch

from tests.trainers import two_workers
from trainers.objectives.rotation import rotate


def test_each_image_turns_by_its_own_number_of_quarters() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3).expand(4, 1, 3, 3)
    turned = rotate(image, torch.arange(4))
    for quarter in range(4):
        assert torch.equal(turned[quarter, 0], torch.rot90(image[0, 0], quarter))


def test_a_guess_is_right_one_time_in_4() -> None:
    assert two_workers.small("rotation").chance == 1 / 4
