from __future__ import annotations

import torch

from pipelines.augment.none import Nothing


def test_images_stay_bit_for_bit():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    assert torch.equal(Nothing(Nothing.Config())(images, torch.arange(2), 0), before)
