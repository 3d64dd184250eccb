from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.plan import (
    CONTEXT,
    Assumptions,
    Measured,
    Sizes,
    Trial,
    by_stage,
    memory,
    predict,
    sizes_of,
    speed,
    states,
)
from cluster.profile import Profile
from tests.trainers.conftest import AROUND, SMALL_TOWERS, small_recipe
from trainers.core.engine import SWAPPED, EngineConfig, Offload, OptimizerConfig
from trainers.objectives import OBJECTIVES

MILLION = 1_000_000
SIZES = Sizes(trained=12 * MILLION, frozen=2 * MILLION, moments=24 * MILLION, averaged=0)
A100 = Assumptions(utilisation=0.5, peak=300e12)

# What an engine holds after two steps: each storage once, without the bucket that is never filled.
SCRIPT = """
import gc, json, os, sys
import torch
import torch.distributed as dist
from cluster.plan import sizes_of, states
from trainers.core.engine import EngineConfig, OptimizerConfig
from trainers.deepspeed_engine import DeepSpeedEngine
from trainers.objectives import OBJECTIVES
from tests.trainers.conftest import AROUND, random_batch

torch.set_num_threads(1)
dist.init_process_group("gloo", f"file://{sys.argv[1]}", rank=int(os.environ["RANK"]), world_size=2)
TOWER = {"kind": "vit", "width": 64, "layers": 2, "heads": 2, "patch": 8}

def live():
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(size for size in found.values() if size < 10**9)

rows = []
for stage, options, where in (
    (0, {"kind": "muon"}, "none"),
    (1, {"ema": 0.9}, "none"),
    (2, {}, "none"),
    (3, {"ema": 0.9}, "none"),
    (3, {}, "cpu"),
):
    config = OptimizerConfig(**options)
    engine = EngineConfig(zero_stage=stage, offload={"optimizer": where})
    objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": "byol", "image": TOWER}), AROUND)
    sizes = sizes_of(objective, config)
    before = live() - 4 * (sizes.trained + sizes.frozen)
    made = DeepSpeedEngine(objective, config, engine, 4, torch.device("cpu"))
    for seed in range(2):
        made.step(random_batch(objective, 4, 16, seed), 1e-3)
    told = states(sizes, engine, 2, "cpu")
    kept = told["parameters"] + told["optimizer"] + told["average"]
    kept += told["gradients"] if stage == 3 else 0  # there they have a place of their own
    rows.append([live() - before, kept])
    del objective, made
print(json.dumps(rows))
dist.destroy_process_group()
"""


def measured(**changes: object) -> Measured:
    trials = Trial(8, 0.5, 600 * MILLION), Trial(16, 0.9, 680 * MILLION)
    found = Measured(trials, SIZES, EngineConfig(), 2, 2, 1000, 0.001, 3e9)
    return replace(found, **changes)  # type: ignore[arg-type]


def of(stage: int, device: str = "cuda", sizes: Sizes = SIZES, **engine: object) -> dict[str, int]:
    config = EngineConfig.model_validate({"zero_stage": stage, **engine})
    return states(sizes, config, 4, device)


@pytest.mark.slow
def test_engines_hold_what_is_predicted(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "meet")],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=280)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    for held, told in json.loads(outputs[0].splitlines()[-1]):
        assert held == pytest.approx(told, rel=0.01)


def test_stages_split_more_and_more() -> None:
    assert of(0) == {
        "parameters": 56 * MILLION,
        "gradients": 48 * MILLION,
        "optimizer": 96 * MILLION,
        "average": 0,
        "host": 0,
        "disk": 0,
        "bucket": 48 * MILLION,
    }
    assert of(1)["optimizer"] == 36 * MILLION  # two moments and a copy, of a fourth
    assert of(1)["gradients"] == 48 * MILLION
    assert of(2)["gradients"] == 12 * MILLION
    assert of(3)["parameters"] == (14 + 56) * MILLION  # all are gathered: so few are kept


def test_large_models_are_not_gathered_whole() -> None:
    large = Sizes(4000 * MILLION, 0, 8000 * MILLION, 0)
    assert of(3, sizes=large)["parameters"] == 8000 * MILLION
    assert of(0, sizes=large)["parameters"] == 16000 * MILLION


def test_the_bucket_is_whole_on_a_gpu_and_as_large_as_it_is_used_on_a_cpu() -> None:
    assert of(1, "cpu")["bucket"] == 48 * MILLION
    assert of(1)["bucket"] == 2000 * MILLION
    assert of(2, precision="bf16")["bucket"] == 4000 * MILLION
    assert of(3, precision="bf16")["bucket"] == 3000 * MILLION


def test_one_worker_at_stage_0_has_no_bucket() -> None:
    for device in ("cpu", "cuda"):
        assert states(SIZES, EngineConfig(), 1, device)["bucket"] == 0
    assert states(SIZES, EngineConfig(zero_stage=1), 1, "cuda")["bucket"] == 2000 * MILLION


def test_what_is_offloaded_leaves_the_gpu_for_the_host() -> None:
    here, there = of(2), of(2, offload={"optimizer": "cpu"})
    assert there["optimizer"] == 0
    assert there["gradients"] == 0
    # Moments, weights, gradients, and the copy that updated weights travel from: 4 bytes each.
    part = here["gradients"]
    assert there["host"] == here["optimizer"] + 2 * part
    first = of(1, offload={"optimizer": "cpu"})
    assert first["host"] == there["host"]  # a gradient is there, too
    assert first["gradients"] == of(1)["gradients"]
    assert of(2, offload={"optimizer": "cpu"}, accumulate=2)["host"] == there["host"] + 4 * part
    both = of(3, offload={"optimizer": "cpu", "parameters": "cpu"})
    assert both["parameters"] == 56 * MILLION
    assert both["host"] == (36 + 2 * 12 + 14) * MILLION
    assert of(2, "cpu", offload={"optimizer": "cpu"}) == of(2, "cpu")  # the same memory


def test_what_is_on_a_disk_is_in_memory_some_at_a_time() -> None:
    offload = {"optimizer": "nvme", "folder": "/nvme"}
    here, there = of(3), of(3, offload=offload)
    assert there["disk"] == here["optimizer"]
    assert there["optimizer"] == there["gradients"] == 0
    # Gradients, and buffers: all of it is less than is read at once.
    assert there["host"] == here["gradients"] + 4 * 12 * MILLION
    large = Sizes(4000 * MILLION, 0, 8000 * MILLION, 0)
    assert of(3, sizes=large, offload=offload)["host"] == 4000 * MILLION + 4 * 4 * SWAPPED
    alone = of(3, "cpu", offload=offload)
    assert alone["optimizer"] + alone["gradients"] == there["host"]
    profile = Profile(
        workers=2, engine=EngineConfig(zero_stage=3, offload=Offload.model_validate(offload))
    )
    stages = dict(by_stage(small_recipe(), profile, measured()))
    assert [stages[stage]["disk"] > 0 for stage in range(4)] == [False, False, False, True]
    assert stages[3]["total"] == sum(
        n for k, n in stages[3].items() if k not in ("total", "host", "disk")
    )


@pytest.mark.parametrize(
    ("optimizer", "moments"), [({}, 2), ({"kind": "lamb"}, 2), ({"ema": 0.9}, 2)]
)
def test_moments_and_averages_are_counted(optimizer: dict[str, object], moments: int) -> None:
    config = OBJECTIVES.parse({"kind": "byol", "image": SMALL_TOWERS["image"]})
    objective = OBJECTIVES.build(config, AROUND)
    learn = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    whole = sum(tensor.numel() for tensor in objective.state_dict().values())
    found = sizes_of(objective, OptimizerConfig.model_validate(optimizer))
    averaged = learn if "ema" in optimizer else 0
    assert found == Sizes(learn, whole - learn, moments * learn, averaged)
    assert found.frozen > 0


def test_muon_has_one_moment_of_a_matrix() -> None:
    tower = {"kind": "vit", "width": 16, "layers": 1, "heads": 2, "patch": 8}
    objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": "simclr", "image": tower}), AROUND)
    sizes = sizes_of(objective, OptimizerConfig(kind="muon"))
    assert sizes.trained < sizes.moments < 2 * sizes.trained


def test_trials_are_extended_to_the_whole_batch() -> None:
    found = measured()
    assert found.seconds(16) == pytest.approx(0.9)
    assert found.seconds(32) == pytest.approx(1.7)
    assert found.sample_bytes == 10 * MILLION
    # 680 MB less 16 samples, and parameters, gradients, moments and the bucket in use.
    assert found.process == (680 - 160 - 56 - 48 - 96 - 48) * MILLION
    noisy = replace(found, trials=(Trial(8, 1.0, 0), Trial(16, 0.8, 0)))
    assert noisy.seconds(32) == pytest.approx(1.6)
    single = replace(found, trials=(Trial(1, 0.5, 600 * MILLION),))
    assert single.seconds(1) == 0.5
    assert single.sample_bytes == 0


def test_memory_on_a_cpu_is_all_of_a_workers_process() -> None:
    found = memory(small_recipe(global_batch=64), Profile(workers=2), measured())
    assert found["activations"] == 320 * MILLION
    assert found["process"] == measured().process
    assert found["waiting"] == 3 * 32 * 1000  # three steps are all of the run
    assert found["total"] == sum(n for name, n in found.items() if name != "total")


@pytest.mark.parametrize(("workers", "reads"), [(1, 1 / 3), (2, 2 * (1 - 0.5**3) / 3)])
def test_what_a_worker_keeps_is_in_its_memory_and_read_once(workers: int, reads: float) -> None:
    recipe, profile = small_recipe(samples=192, global_batch=32), Profile(workers=workers)
    usual, keeps = measured(epoch=64), measured(epoch=64, cached=40 * MILLION)
    more = memory(recipe, profile, keeps)
    assert more["cache"] == 40 * MILLION
    assert more["waiting"] == 64 * 1000  # of the object store it sees each sample once
    without = {name: n for name, n in more.items() if name not in ("cache", "waiting", "total")}
    assert more["total"] == sum(without.values()) + more["cache"] + more["waiting"]
    assert without.items() < memory(recipe, profile, usual).items()
    told = speed(recipe, profile, keeps, A100)
    assert told.samples_per_second == pytest.approx(1 / (1 / told.compute + reads * 0.0005))
    assert speed(recipe, profile, usual, A100).samples_per_second < told.samples_per_second
    gpu = profile.model_copy(update={"device": "cuda"})
    assert memory(recipe, gpu, keeps)["total"] == memory(recipe, gpu, usual)["total"]
    assert memory(recipe, gpu, keeps)["host"] == 40 * MILLION
    starved = speed(recipe, gpu, keeps, A100)
    assert 1 / starved.samples_per_second == pytest.approx(
        reads * 0.0005 + (1 - reads) / starved.compute
    )
    assert starved.bound == "reading"
    assert speed(recipe, gpu, replace(keeps, flops=1e12), A100).bound == "compute"


def test_memory_on_a_gpu_leaves_out_what_is_on_its_host() -> None:
    engine = EngineConfig.model_validate(
        {"zero_stage": 2, "precision": "bf16", "offload": {"optimizer": "cpu"}}
    )
    profile = Profile(workers=2, device="cuda", engine=engine)
    found = memory(small_recipe(global_batch=64), profile, measured(trials=(), kept=5e6))
    assert found["process"] == CONTEXT
    assert found["activations"] == (160 + 24) * MILLION  # and weights as they were cast
    assert "waiting" not in found
    assert found["host"] > 0
    assert found["total"] == sum(n for k, n in found.items() if k not in ("total", "host"))


def test_one_part_of_a_batch_is_kept_at_a_time() -> None:
    profile = Profile(workers=2, device="cuda", engine=EngineConfig(accumulate=4))
    found = memory(small_recipe(global_batch=64), profile, measured(trials=(), kept=5e6))
    assert found["activations"] == 40 * MILLION


def test_what_is_compared_and_views_are_kept_of_the_whole_batch() -> None:
    profile = Profile(workers=2, device="cuda", engine=EngineConfig(accumulate=4))
    told = measured(trials=(), kept=5e6, whole=1e6)
    found = memory(small_recipe(global_batch=64), profile, told)
    assert found["activations"] == (32 + 8 * 4) * MILLION


def test_workers_and_readers_share_the_cores_of_a_cpu() -> None:
    recipe = small_recipe(global_batch=32)
    found = speed(recipe, Profile(workers=2), measured(), A100)
    assert found.compute == pytest.approx(32 / 0.9)
    assert found.reading == pytest.approx(2000)
    assert found.samples_per_second == pytest.approx(32 / (0.9 + 32 * 0.0005))
    assert found.bound == "compute"
    slow = speed(recipe, Profile(workers=2), measured(decode_seconds=1.0), A100)
    assert slow.bound == "reading"
    crowded = speed(recipe, Profile(workers=4), measured(), A100)
    assert crowded.compute == pytest.approx(32 / (2 * 0.5))


def test_the_slower_of_reading_and_a_gpu_counts() -> None:
    profile = Profile(workers=8, device="cuda")
    found = speed(small_recipe(), profile, measured(decode_seconds=1e-9), A100)
    assert found.samples_per_second == pytest.approx(8 * 300e12 * 0.5 / 3e9)
    assert "assumed 50 % of 300 TFLOP/s" in found.basis
    starved = speed(small_recipe(), profile, measured(), A100)
    assert starved.samples_per_second == pytest.approx(2000)
    assert starved.bound == "reading"


def test_a_prediction_has_the_time_and_price_of_the_whole_run() -> None:
    recipe, profile = small_recipe(samples=3601, global_batch=32), Profile(workers=2)
    found = predict(recipe, profile, measured(), replace(A100, price=2.5))
    assert found.samples == 3616
    assert found.seconds == pytest.approx(3616 * (0.9 / 32 + 0.0005))
    assert found.cost == pytest.approx(found.seconds / 3600 * 2 * 2.5)
    assert list(found.memory) == [0, 1, 2, 3]
    assert predict(recipe, profile, measured(), A100).cost is None


def test_stages_that_an_optimizer_does_not_work_under_are_left_out() -> None:
    recipe = small_recipe(optimizer={"kind": "lamb"})
    assert list(predict(recipe, Profile(), measured(), A100).memory) == [0]
