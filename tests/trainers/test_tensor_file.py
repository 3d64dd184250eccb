from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from trainers.tensor_file import write_tensors


def test_whoever_may_read_other_files_may_read_these(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    before = os.umask(0o022)
    try:
        write_tensors({"a": torch.ones(3)}, path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert torch.equal(load_file(path)["a"], torch.ones(3))


def test_what_the_system_says_is_an_error_of_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("trainers.tensor_file.save_file", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        write_tensors({"a": torch.ones(3)}, tmp_path / "x.safetensors")
    assert error.value.errno == errno.ENOSPC


def test_a_folder_that_is_not_there_is_the_systems_error_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_tensors({"a": torch.ones(3)}, tmp_path / "none" / "x.safetensors")


def test_another_fault_of_the_library_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise SafetensorError("no such dtype")

    monkeypatch.setattr("trainers.tensor_file.save_file", fails)
    with pytest.raises(SafetensorError, match="no such dtype"):
        write_tensors({"a": torch.ones(3)}, tmp_path / "x.safetensors")
