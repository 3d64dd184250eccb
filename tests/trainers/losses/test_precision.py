from __future__ import annotations

import pytest
import torch

from trainers.losses.precision import wide


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_only_formats_below_single_precision_change(
    given: torch.dtype, expected: torch.dtype
) -> None:
    assert wide(torch.ones(2, dtype=given)).dtype == expected
