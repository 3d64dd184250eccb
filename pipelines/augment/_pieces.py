"""A batch worked through in pieces where that is faster: on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Below what the C library's allocator takes from the kernel anew and gives back each time (32
# MiB): the next piece's intermediate results lie in memory that is already there. A whole
# batch's would be new pages, and to have them cleared takes longer than to compute. Smaller
# pieces are no faster, and wait for the slowest thread more often.
_BYTES = 1 << 24


def in_pieces(work: Callable[[Tensor, slice], Tensor], images: Tensor) -> Tensor:
    """Apply work to images [B, 3, H, W], on the CPU a few samples at a time.

    Args:
        work: Told some of the images and which of the batch they are; returns them changed,
            each without regard to the others, with their shape and type.
        images: [B, 3, H, W].

    Returns:
        What ``work`` returned. [B, 3, H, W]
    """
    count = len(images)
    bytes_each = images[:1].numel() * images.element_size()
    piece = max(1, _BYTES // max(1, bytes_each))
    if images.device.type != "cpu" or count <= piece:
        return work(images, slice(0, count))
    done = torch.empty_like(images)
    for start in range(0, count, piece):
        which = slice(start, min(start + piece, count))
        done[which] = work(images[which], which)
    return done
