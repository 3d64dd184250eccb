from __future__ import annotations

import torch

from pipelines.core.batch import Batch
from trainers.pairs import both, encode_pair


def test_a_pair_goes_through_a_tower_at_once_and_comes_apart() -> None:
    first, second = torch.arange(6.0).view(3, 2), torch.arange(6.0, 12.0).view(3, 2)
    numbers = torch.arange(3)
    calls = []

    def tower(views: torch.Tensor) -> torch.Tensor:
        calls.append(len(views))
        return 2 * views

    rows = encode_pair(tower, Batch(numbers, numbers, {"b": second, "a": first}), "query_")
    assert calls == [6]
    assert torch.equal(rows["query_a"], 2 * first)
    assert torch.equal(rows["query_b"], 2 * second)
    assert torch.equal(both(rows, "query_"), 2 * torch.cat([first, second]))
