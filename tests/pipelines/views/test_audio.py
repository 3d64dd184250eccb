from __future__ import annotations

import pytest
import torch

from pipelines.views.audio import ends


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_sound_ends_after_its_last_number_that_is_not_zero(dtype):
    sounds = [[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, -1, 0.5], [1, 0, 1e-6]]
    assert ends(torch.tensor(sounds, dtype=dtype)).tolist() == [0, 1, 2, 3, 3]
