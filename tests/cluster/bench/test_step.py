from __future__ import annotations

import pytest
import torch

from cluster.bench.step import Stepping, _bare, candidates
from cluster.profile import load_profile
from tests.trainers.conftest import small_recipe


def stepping(steps: int) -> Stepping:
    return Stepping(small_recipe(), load_profile("laptop", ("workers=1",)), steps)


@pytest.mark.ray
def test_both_candidates_train_and_this_system_tells_where_its_time_went(
    ray_cluster: object,
) -> None:
    measures, told = candidates(stepping(9))
    rates = {name: measure() for name, measure in measures.items()}
    assert rates.keys() == {"ours", "bare"}
    assert all(rate > 0 for rate in rates.values())
    assert len(told) == 1
    assert 0 <= told[0]["data_wait_share"] <= 1
    assert told[0]["commit_seconds"] > 0


def test_the_plain_loop_makes_the_steps_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    made = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *rest: object) -> object:
        seen.append(self.param_groups[0]["lr"])
        return made(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    threads = torch.get_num_threads()
    _bare(stepping(6))
    torch.set_num_threads(threads)
    assert seen == [0.003] * 6
