from __future__ import annotations

import pytest
import torch

from cluster.bench.step import _told, alone, candidates, shares_of_peak, with_reading
from cluster.bench.stepping import Stepping
from cluster.prepare import train_tokenizer
from cluster.profile import load_profile
from tests.trainers.conftest import builder_of, reader_of, small_recipe, tables_of
from trainers.core.phases import PHASES
from trainers.flops import flops_per_sample
from trainers.model import build_objective


def stepping(steps: int) -> Stepping:
    return Stepping(small_recipe(), load_profile("laptop", ("workers=1",)), steps)


@pytest.mark.parametrize(("name", "tasks"), [("laptop", 2), ("node", 4), ("gpu", 12)])
def test_one_worker_has_the_readers_of_a_cpu_and_its_own_of_a_gpu(name: str, tasks: int) -> None:
    whole = load_profile(name)
    one = alone(whole)
    assert (one.workers, one.min_workers, one.reader.tasks_ahead) == (1, None, tasks)
    reader = one.reader.model_copy(update={"tasks_ahead": whole.reader.tasks_ahead})
    others = {"workers": whole.workers, "min_workers": whole.min_workers, "reader": reader}
    assert one.model_copy(update=others) == whole


@pytest.mark.ray
def test_all_candidates_train_and_this_system_tells_where_its_time_went(
    ray_cluster: object,
) -> None:
    measures, told = candidates(stepping(9))
    rates = {name: measure() for name, measure in measures.items()}
    assert rates.keys() == {"ours", "loop", "bare"}
    assert all(rate > 0 for rate in rates.values())
    assert len(told) == 2
    assert told[1]["read_seconds"] > 0
    # 144 samples of 96, of 16x16x3 bytes and a few letters; 48 before the clock starts.
    assert 96 * 768 < told[1]["cached_bytes"] < 96 * 1200
    assert told[1]["warm_epochs"] == 0.5
    assert 0 <= told[0]["data_wait_share"] <= 1
    assert told[0]["commit_seconds"] > 0
    recipe = small_recipe()
    tokenizer = train_tokenizer(recipe, reader_of(recipe))
    objective = build_objective(recipe, tokenizer)
    batch = builder_of(recipe, objective, tokenizer)(next(tables_of(recipe)))
    assert told[0]["flops_per_sample"] == pytest.approx(flops_per_sample(objective, batch))
    assert shares_of_peak(stepping(9), rates, told[0]["flops_per_sample"]) == {}  # of a CPU


@pytest.mark.parametrize(
    ("read_seconds", "cores", "rate"), [(0.0, 2, 100.0), (0.02, 2, 50.0), (0.01, 1, 50.0)]
)
def test_reading_on_the_same_cores_comes_on_top(
    read_seconds: float, cores: int, rate: float
) -> None:
    assert with_reading(100.0, read_seconds, cores) == pytest.approx(rate)


def test_an_interval_counts_by_its_steps() -> None:
    common = {"flops_per_second": 1.0, "samples_per_second": 1.0, "memory_bytes": 1.0}
    lines = [
        {f"seconds_{name}": 0.0 for name in ("wait", *PHASES)}
        | {"step": step, "seconds": 0.0, "seconds_wait": wait, "seconds_forward": 1 - wait}
        | common
        for step, wait in ((33, 1.0), (66, 0.0), (99, 0.0), (100, 1.0))
    ]
    told = _told(lines, {"commit_share": 0.0, "seconds": {"train": 1.0}})
    assert told["data_wait_share"] == pytest.approx(1 / 67)


def test_shares_of_a_known_peak_are_told_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    profile = load_profile("laptop", ("workers=1", "device=cuda", "engine.precision=bf16"))
    gpu = Stepping(small_recipe(), profile, 9)
    found = shares_of_peak(gpu, {"ours": 78.0, "bare": 156.0}, 1e12)
    assert found == {"ours": 0.25, "bare": 0.5}
