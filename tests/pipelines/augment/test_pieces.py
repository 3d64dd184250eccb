from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipelines.augment import _pieces
from pipelines.augment._pieces import in_pieces


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 11])
@pytest.mark.parametrize("together", [0, 1, 5, 100])  # 0: an image is larger than a piece
def test_every_image_is_worked_on_once_with_its_own_numbers(
    monkeypatch: pytest.MonkeyPatch, count: int, together: int
) -> None:
    monkeypatch.setattr(_pieces, "_BYTES", together * 3 * 4 * 5 * 4 + 1)
    numbers, seen = torch.arange(float(count)), []

    def work(some: Tensor, which: slice) -> Tensor:
        seen.extend(range(which.start, which.stop))
        assert len(some) <= max(1, together)
        return some + numbers[which, None, None, None]

    done = in_pieces(work, images(count))
    assert torch.equal(done, images(count) + numbers[:, None, None, None])
    assert seen == list(range(count))
