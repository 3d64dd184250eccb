from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.core import StorageError
from trainers import room as module
from trainers.room import room


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files, on a machine that has 1,000 bytes of memory left."""
    monkeypatch.setattr(module, "available_memory", lambda: 1000)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_an_array_that_fits_is_in_memory() -> None:
    assert not isinstance(room((4, 8, 8, 3)), np.memmap)


@pytest.mark.usefixtures("disk")
def test_half_of_the_memory_is_left_to_others() -> None:
    assert not isinstance(room((5, 100)), np.memmap)
    assert isinstance(room((5, 101)), np.memmap)


def test_a_larger_one_is_in_a_file_without_a_name(disk: Path) -> None:
    array = room((20, 10, 10, 3))
    assert array.shape == (20, 10, 10, 3)
    array[:] = np.arange(6000, dtype=np.uint8).reshape(array.shape)
    assert list(disk.iterdir()) == []
    np.testing.assert_array_equal(array[[3, 19]].ravel()[:4], np.arange(900, 904).astype(np.uint8))
    assert int(torch.from_numpy(array[:2]).sum()) == int(array[:2].sum())
    assert len(torch.split(torch.from_numpy(array), 8)) == 3


@pytest.mark.usefixtures("disk")
def test_a_disk_that_is_full_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"0.0 GiB of pictures.*No space left.*set TMPDIR"):
        room((1001,))


def test_a_folder_that_is_not_there_is_named(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(disk / "none"))
    with pytest.raises(StorageError, match=r"none: no space for .*No such file"):
        room((1001,))


def test_a_system_without_reservations_looks_at_what_is_free(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1001))
    assert room((1001,)).shape == (1001,)
    with pytest.raises(StorageError, match="disk full"):
        room((1002,))
