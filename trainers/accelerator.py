"""Which device DeepSpeed uses: it asks what a machine has, and not what a run trains on."""

from __future__ import annotations

import os

import torch


def use_accelerator(device: torch.device) -> None:
    """Tell the library where this process trains; it must not have been imported yet.

    It would take any GPU that it sees, also from workers of a profile that trains on CPUs. Among
    those it takes the one that its rank on the node numbers: Ray orders GPUs as texts (0, 1, 10,
    2), and ranks as numbers.
    """
    os.environ["DS_ACCELERATOR"] = device.type
    if device.index is not None:
        os.environ["LOCAL_RANK"] = str(device.index)
