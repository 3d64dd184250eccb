from __future__ import annotations

import itertools

import torch

from trainers.objectives.frame_order import orders


def test_every_order_is_there_once_and_beside_its_reverse() -> None:
    for frames, count in ((3, 6), (4, 24), (5, 120)):
        found = orders(frames)
        assert {tuple(o) for o in found.tolist()} == set(itertools.permutations(range(frames)))
        assert len(found) == count
        assert torch.equal(found[::2].flip(1), found[1::2])
