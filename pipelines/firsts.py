"""Where samples first stand in a worker's share: all that is read, where they are kept then."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipelines.core.permutation import Numbers
from pipelines.order import Order
from pipelines.reader import Rows, Share, cut

Mask = npt.NDArray[np.bool_]
_LOOKED_AT = 8  # parts of a share, at most, before what they have is handed over


class Firsts:
    """Tells which samples have not come before.

    Args:
        size: Samples of the data set.
    """

    def __init__(self, size: int):
        self._seen = np.zeros(size, bool)
        self._left = size

    def take(self, samples: Numbers) -> Mask:
        """Whether each of some samples comes for the first time. [B], [B]."""
        first = np.zeros(len(samples), bool)
        first[np.unique(samples, return_index=True)[1]] = True
        first &= ~self._seen[samples]
        self._seen[samples] = True
        self._left -= int(first.sum())
        return first

    @property
    def complete(self) -> bool:
        """Whether all have come."""
        return self._left == 0


def cut_firsts(share: Share, order: Order, rows: int) -> Iterator[Rows]:
    """Cut a share as ``cut`` does, into parts of what comes there for the first time.

    Neighbours with little of it are joined. A part has none at all where a longer stretch has
    none: a worker of a mixture may never meet some samples, and nobody should wait until the
    whole run was looked through for them.
    """
    firsts, start = Firsts(order.size), 0
    masks: list[Mask] = []
    for part in cut(share, order, rows):
        mask = firsts.take(np.concatenate([samples for _, samples in part.places(order)]))
        start = start if masks else part.start
        masks.append(mask)
        count = sum(int(each.sum()) for each in masks)
        if 2 * count >= rows or len(masks) == _LOOKED_AT or firsts.complete:
            yield Rows(share, start, part.stop, np.concatenate(masks))
            masks = []
        if firsts.complete:
            return
    if masks:
        yield Rows(share, start, share.stop * share.local, np.concatenate(masks))
