from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from pipelines.core import ConfigError
from tests.trainers import two_workers
from tests.trainers.conftest import AROUND, SMALL_TOWERS
from tests.trainers.two_workers import assert_two_equal_one, double_batch
from trainers.objectives.frame_order import FrameOrder, orders


def test_two_workers_are_one() -> None:
    assert_two_equal_one("frame_order")


def test_every_order_is_there_once_and_beside_its_reverse() -> None:
    for frames, count in ((3, 6), (4, 24), (5, 120)):
        found = orders(frames)
        assert {tuple(o) for o in found.tolist()} == set(itertools.permutations(range(frames)))
        assert len(found) == count
        assert torch.equal(found[::2].flip(1), found[1::2])


def objective(**options: object) -> FrameOrder:
    torch.manual_seed(0)
    return FrameOrder(FrameOrder.Config(image=SMALL_TOWERS["image"], **options), AROUND)


def test_all_orders_at_once_are_each_order_by_itself() -> None:
    """Against clips that are really shown in every order, with what the head makes of each."""
    together = objective(shuffles=24).double()
    batch = double_batch(together)
    clip, long = batch.views["clip"], batch.views["long"]
    losses, rights = [], []
    first = together._shuffles(batch.keys)[:, 0]
    for shift in range(24):
        drawn = (first + shift) % 24
        shown = torch.stack(
            [one[order] for one, order in zip(clip, together.orders[drawn], strict=True)]
        )
        features = together.tower(shown.flatten(0, 1)).view(*shown.shape[:2], -1)
        changes = features - features.mean(1, keepdim=True)
        pairs = [torch.cat([changes[:, a], changes[:, b]], 1) for a, b in together.pairs.T]
        logits = together.head(torch.cat([together.comparer(pair) for pair in pairs], 1))[long]
        which = drawn[long] // 2
        losses.append(F.cross_entropy(logits, which))
        rights.append((logits.argmax(1) == which).double().mean())
    found = together(batch)
    torch.testing.assert_close(found.loss, torch.stack(losses).mean())
    torch.testing.assert_close(found.metrics["accuracy"].double(), rights[0])


def test_one_order_a_clip_is_the_first_of_many() -> None:
    keys = torch.arange(50) * 7919
    one, many = objective(shuffles=1)._shuffles(keys), objective(shuffles=6)._shuffles(keys)
    assert torch.equal(one[:, 0], many[:, 0])
    assert all(len(set(row)) == 6 for row in many.tolist())


def test_more_orders_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 frames have 24 orders"):
        objective(shuffles=25)


def test_a_guess_is_right_one_time_in_12() -> None:
    assert two_workers.small("frame_order").chance == 1 / 12
