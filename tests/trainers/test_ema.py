from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainers.ema import Averages, shard_of

CPU = torch.device("cpu")


class Small(nn.Module):
    """A trained matrix under two names, a frozen vector and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 2, bias=False)
        self.two = nn.Linear(3, 2, bias=False)
        self.two.weight = self.one.weight
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("count", torch.zeros(()))


def train(module: Small, averages: Averages, steps: int, seed: int = 0) -> list[np.ndarray]:
    random, seen = np.random.default_rng(seed), []
    for _ in range(steps):
        with torch.no_grad():
            module.one.weight += torch.tensor(random.normal(size=(2, 3)))
        averages.update()
        seen.append(module.one.weight.detach().double().numpy().copy())
    return seen


@pytest.mark.parametrize(("decay", "steps"), [(0.9, 3), (0.3, 12), (0.999, 40), (0.0, 2)])
def test_it_is_the_naive_average_with_a_warm_up(decay: float, steps: int) -> None:
    module = Small()
    expected = module.one.weight.detach().double().numpy().copy()
    averages = Averages(module, decay, CPU)
    for step, weight in enumerate(train(module, averages, steps), 1):
        now = min(decay, (1 + step) / (10 + step))
        expected = now * expected + (1 - now) * weight
    np.testing.assert_allclose(averages.whole("one.weight").numpy(), expected, rtol=1e-5, atol=1e-5)


def test_averages_stand_where_parameters_were_and_all_else_is_as_it_is() -> None:
    module = Small()
    averages = Averages(module, 0.9, CPU)
    train(module, averages, 3)
    module.count += 7  # type: ignore[operator]
    weights = averages.weights(module)
    assert weights.keys() == module.state_dict().keys()
    for name in ("one.weight", "two.weight"):
        assert torch.equal(weights[name], averages.whole("one.weight"))
    assert not torch.equal(weights["one.weight"], module.one.weight)
    assert torch.equal(weights["frozen"], module.frozen)
    assert weights["count"].item() == 7
    assert not any(value.requires_grad for value in weights.values())


def test_a_restored_average_goes_on_as_the_first_one() -> None:
    module = Small()
    averages = Averages(module, 0.9, CPU)
    train(module, averages, 3)
    other = Averages(module, 0.9, CPU)
    other.put("one.weight", averages.whole("one.weight"))
    other.updates = averages.updates
    for each in (averages, other):
        each.update()
    assert torch.equal(averages.whole("one.weight"), other.whole("one.weight"))


@pytest.mark.parametrize("make", [torch.bfloat16, torch.float64])
def test_it_is_held_in_fp32(make: torch.dtype) -> None:
    module = Small().to(make)
    averages = Averages(module, 0.9, CPU)
    averages.update()
    assert averages.whole("one.weight").dtype == torch.float32


def test_shards_make_up_the_whole_and_the_last_is_padded() -> None:
    whole = torch.arange(10.0).view(2, 5)
    cut: Callable[[int], Tensor] = lambda rank: shard_of(whole, 4, rank)  # noqa: E731
    assert torch.cat([cut(0), cut(1), cut(2)]).tolist() == [*map(float, range(10)), 0.0, 0.0]
    assert cut(3).tolist() == [0.0] * 4
