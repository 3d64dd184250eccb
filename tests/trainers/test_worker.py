"""What a worker hands to its parts; that it trains is in tests/integration."""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest
import torch

from pipelines.reader import Share
from tests.trainers.conftest import SMALL_TOWERS, small_recipe
from trainers import deepspeed_engine, worker
from trainers.core.engine import EngineConfig
from trainers.job import Job
from trainers.model import build_objective


def test_the_engine_is_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    signature = inspect.signature(deepspeed_engine.DeepSpeedEngine)

    def engine(*given: object, **named: object) -> None:
        made.append(signature.bind(*given, **named).arguments)

    monkeypatch.setattr(deepspeed_engine, "DeepSpeedEngine", engine)
    monkeypatch.setenv("DS_ACCELERATOR", "unset")
    objective = {"kind": "rotation", "image": SMALL_TOWERS["image"]}
    recipe = small_recipe(objective=objective, tokenizer=None)
    job = Job(run="r", folder="/", recipe=recipe, engine=EngineConfig(zero_stage=2, accumulate=4))
    share = Share(recipe.global_batch, 1, 2, 0, recipe.steps)
    built, device = build_objective(recipe, None), torch.device("cpu")
    worker._engine(built, job, share, device)
    (found,) = made
    assert found == {
        "objective": built,
        "optimizer": recipe.optimizer,
        "config": job.engine,
        "local_batch": recipe.global_batch // 2,
        "device": device,
    }
    assert os.environ["DS_ACCELERATOR"] == "cpu"


@pytest.mark.parametrize(
    ("device", "offload", "expected"),
    [("cpu", "none", [4]), ("cuda", "none", []), ("cuda", "cpu", [4])],
)
def test_whoever_computes_on_the_cpu_has_its_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, device: str, offload: str, expected: list[int]
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(worker, "available_cores", lambda: 8)
    engine = EngineConfig.model_validate({"zero_stage": 2, "offload": {"optimizer": offload}})
    worker._take_cores(torch.device(device), engine, 2)
    assert asked == expected
