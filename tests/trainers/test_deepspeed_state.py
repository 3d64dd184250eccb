from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipelines.core import StorageError
from trainers import deepspeed_state
from trainers.core.engine import OptimizerConfig
from trainers.deepspeed_state import Parts, Trained, load_state, save_state
from trainers.optimizers import build_optimizer


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


def test_a_state_that_is_large_is_written_in_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepspeed_state, "FILE", 100)
    module, other = nn.Linear(4, 5), nn.Linear(4, 5)
    optimizer = build_optimizer(module, OptimizerConfig(), torch.device("cpu"))
    module(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    for rank in range(2):
        save_state(Trained(module, optimizer), rank, 2, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 3
    assert {file.name[:11] for file in files} == {"state-00000", "state-00001"}
    names = [name for file in files for name in load_file(file)]
    assert len(names) == len(set(names)) == 3 * 2 + 1
    largest = max(sum(t.nbytes for t in load_file(file).values()) for file in files)
    assert largest < 100 + 80  # a tensor more than what it is written from
    found = build_optimizer(other, OptimizerConfig(), torch.device("cpu"))
    load_state(Trained(other, found), 0, tmp_path)
    assert torch.equal(module.weight, other.weight)
    mine, theirs = optimizer.state[module.bias], found.state[other.bias]
    assert torch.equal(mine["exp_avg"], theirs["exp_avg"])
