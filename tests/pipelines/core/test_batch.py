from __future__ import annotations

import torch

from pipelines.core.batch import Batch


def test_a_batch_knows_its_length_and_moves_all_of_itself():
    batch = Batch(torch.arange(3), torch.arange(3), {"a": torch.zeros(3, 2)})
    moved = batch.to(torch.device("meta"))
    assert len(batch) == 3
    assert {t.device.type for t in (moved.samples, moved.keys, moved.views["a"])} == {"meta"}
