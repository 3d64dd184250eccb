from __future__ import annotations

import torch

from tests.trainers import two_workers
from tests.trainers.two_workers import assert_two_equal_one
from trainers.objectives.odd_one_out import wrong_orders


def test_two_workers_are_one() -> None:
    assert_two_equal_one("odd_one_out")


def test_wrong_orders_are_all_orders_but_the_right_one() -> None:
    keys = torch.randint(-(2**62), 2**62, (6000,), generator=torch.Generator().manual_seed(0))
    drawn = [tuple(order) for order in wrong_orders(keys, 3).tolist()]
    shares = {order: drawn.count(order) / 6000 for order in set(drawn)}
    expected = {(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)}
    assert shares.keys() == expected | {(2, 1, 0)}
    assert all(abs(shares[order] - 1 / 6) < 0.02 for order in expected)
    assert abs(shares[2, 1, 0] - 1 / 3) < 0.02


def test_a_guess_is_right_one_time_in_4() -> None:
    assert two_workers.small("odd_one_out").chance == 1 / 4
