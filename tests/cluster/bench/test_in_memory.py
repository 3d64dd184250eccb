from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cluster.bench.in_memory import _bare, _held
from cluster.bench.stepping import Stepping
from cluster.profile import load_profile
from tests.trainers.conftest import reader_of, small_recipe


def test_reading_is_timed_without_what_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, once = [0.0], [100.0]
    monkeypatch.setattr("cluster.bench.in_memory.time.process_time", lambda: clock[0])

    def tables(*_: object) -> Iterator[int]:
        clock[0] += 1.0 + (once.pop() if once else 0.0)  # of each task, before its first table
        for number in range(5):
            clock[0] += 0.25
            yield number

    monkeypatch.setattr("cluster.bench.in_memory.stream_here", tables)
    held, seconds = _held(reader_of(small_recipe()), 16, 5)
    assert held == [0, 1, 2, 3, 4]
    assert seconds == pytest.approx((1.0 + 5 * 0.25) / (5 * 16))


def test_the_plain_loop_makes_the_steps_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    made = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *rest: object) -> object:
        seen.append(self.param_groups[0]["lr"])
        return made(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    threads = torch.get_num_threads()
    _bare(Stepping(small_recipe(), load_profile("laptop", ("workers=1",)), 6))
    torch.set_num_threads(threads)
    assert seen == [0.003] * 6
