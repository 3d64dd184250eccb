from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.views.upload import upload

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "bool"])
def test_a_copy_has_shape_and_type_and_is_left_alone_by_later_changes(dtype):
    numbers = np.arange(12).reshape(3, 4).astype(dtype)
    copied = upload(numbers, CPU)
    assert np.array_equal(copied.numpy(), numbers)
    assert copied.numpy().dtype == numbers.dtype
    numbers[:] = 0
    assert copied[2, 3] == np.array(11).astype(dtype)


def test_read_only_arrays_are_copied_too():
    numbers = np.arange(3)
    numbers.flags.writeable = False
    assert upload(numbers, CPU).tolist() == [0, 1, 2]
