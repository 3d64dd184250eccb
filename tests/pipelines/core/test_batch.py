from __future__ import annotations

import pytest
import torch

from pipelines.core.batch import Batch


def test_a_batch_knows_its_length_and_moves_all_of_itself():
    batch = Batch(torch.arange(3), torch.arange(3), {"a": torch.zeros(3, 2)})
    moved = batch.to(torch.device("meta"))
    assert len(batch) == 3
    assert {t.device.type for t in (moved.samples, moved.keys, moved.views["a"])} == {"meta"}


def test_a_batch_is_cut_in_order_and_without_copies():
    batch = Batch(torch.arange(6), torch.arange(6) * 7, {"a": torch.rand(6, 2)})
    parts = batch.split(3)
    assert [len(part) for part in parts] == [2, 2, 2]
    assert torch.equal(torch.cat([part.samples for part in parts]), batch.samples)
    assert torch.equal(torch.cat([part.keys for part in parts]), batch.keys)
    assert torch.equal(torch.cat([part.views["a"] for part in parts]), batch.views["a"])
    assert parts[0].views["a"].data_ptr() == batch.views["a"].data_ptr()


@pytest.mark.parametrize("count", [4, 7])
def test_unequal_parts_are_refused(count):
    batch = Batch(torch.arange(6), torch.arange(6), {})
    with pytest.raises(ValueError, match=f"6 samples cannot be cut into {count} equal parts"):
        batch.split(count)


def test_its_first_samples_are_copies():
    batch = Batch(torch.arange(6), torch.arange(6) * 7, {"a": torch.rand(6, 2)})
    few = batch.first(2)
    assert few.samples.tolist() == [0, 1]
    assert few.keys.tolist() == [0, 7]
    assert torch.equal(few.views["a"], batch.views["a"][:2])
    assert few.views["a"].untyped_storage().nbytes() == 2 * 2 * 4
