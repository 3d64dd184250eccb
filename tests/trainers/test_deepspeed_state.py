from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.core import StorageError
from trainers.deepspeed_state import Parts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file({"weight/a": torch.ones(2, 3)}, tmp_path / "state-00000.safetensors")
    save_file({"weight/b": torch.zeros(4)}, tmp_path / "state-00001.safetensors")
    return tmp_path


def test_a_tensor_is_found_in_whatever_file_it_is(folder: Path) -> None:
    parts = Parts(folder)
    assert torch.equal(parts.take("weight/a", (2, 3)), torch.ones(2, 3))
    assert torch.equal(parts.take("weight/b", (4,)), torch.zeros(4))


def test_a_tensor_that_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(StorageError, match="no 'weight/c'; it is of another model"):
        Parts(folder).take("weight/c", (1,))


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    with pytest.raises(
        StorageError, match=r"'weight/a' is \[2, 3\] in the checkpoint and \[3, 2\]"
    ):
        Parts(folder).take("weight/a", (3, 2))
