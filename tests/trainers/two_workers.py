"""Objectives on two gloo processes, whole or in parts, and on one, with the same global batch.

All in float64.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.core.batch import Batch
from tests.trainers.conftest import AROUND, SMALL_TOWERS, random_batch
from trainers.accumulation import Passes, accumulate
from trainers.core.objective import ComparingObjective, Objective
from trainers.core.phases import Phases
from trainers.objectives import OBJECTIVES

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from tests.trainers.two_workers import result

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{folder}/meet")
found = {f"{kind} {parts}": result(kind, rank, 2, parts, again=parts)
         for kind in sys.argv[3:] for parts in (1, 2)}
for output, gradients in found.values():
    for value in [*output.values(), *gradients.values()]:
        dist.all_reduce(value)
        value /= 2
if rank == 0:
    torch.save(found, f"{folder}/found.pt")
dist.destroy_process_group()
"""
KINDS = tuple(
    kind for kind in OBJECTIVES.names() if issubclass(OBJECTIVES.get(kind).cls, ComparingObjective)
)

Result = tuple[dict[str, Tensor], dict[str, Tensor]]


def small(kind: str) -> Objective:
    torch.manual_seed(0)
    fields = OBJECTIVES.get(kind).config.model_fields
    towers = {name: tower for name, tower in SMALL_TOWERS.items() if name in fields}
    config = OBJECTIVES.parse({"kind": kind, **towers})
    objective: Objective = OBJECTIVES.build(config, AROUND).double()
    with torch.no_grad():  # as if it had been trained: a teacher that is not its student
        for parameter in objective.parameters():
            if parameter.requires_grad:
                parameter += 0.01 * torch.randn_like(parameter)
    return objective


def double_batch(objective: Objective, seed: int = 0) -> Batch:
    batch = random_batch(objective, 8, 16, seed)
    views = {n: v.double() if v.is_floating_point() else v for n, v in batch.views.items()}
    return Batch(batch.samples, batch.keys, views)


def plain_passes() -> Passes:
    return Passes(Phases(torch.device("cpu")), lambda work: work(), torch.autograd.backward)


def both(batch: Batch) -> Tensor:
    """First views, then second ones: heads are normalised over both."""
    return torch.cat([batch.views["a"], batch.views["b"]])


def result(kind: str, rank: int = 0, workers: int = 1, parts: int = 1, again: int = 1) -> Result:
    """Loss and metrics of a share of the batch, passed in parts, and the gradients.

    Each sample is there ``again`` times, if the objective allows it.
    """
    objective = small(kind)
    batch = double_batch(objective)
    if getattr(objective, "repeats", False):
        batch = Batch(batch.samples // again, batch.keys, batch.views)
    part = slice(rank * 8 // workers, (rank + 1) * 8 // workers)
    views = {name: view[part] for name, view in batch.views.items()}
    mine = Batch(batch.samples[part], batch.keys[part], views)
    output = accumulate(objective, mine, parts, plain_passes())
    values = {"loss": output.loss, **output.metrics}
    gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    return {name: value.double() for name, value in values.items()}, gradients


@cache
def on_two_workers() -> dict[str, Result]:
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(rank), folder, *KINDS],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for rank in range(2)
        ]
        logs = [process.communicate(timeout=300)[0] for process in processes]
        assert all(process.returncode == 0 for process in processes), "\n".join(logs)[-3000:]
        found: dict[str, Result] = torch.load(Path(folder) / "found.pt", weights_only=True)
        return found


def assert_two_equal_one(kind: str) -> None:
    for parts in (1, 2):
        assert_equal(on_two_workers()[f"{kind} {parts}"], result(kind, again=parts))


def assert_equal(found: Result, expected: Result) -> None:
    (values, gradients), (expected_values, expected_gradients) = found, expected
    assert values.keys() == expected_values.keys()
    for name, value in expected_values.items():
        assert values[name].item() == pytest.approx(value.item(), rel=1e-9, abs=1e-9), name
    assert gradients.keys() == expected_gradients.keys()
    largest = max(gradient.abs().max().item() for gradient in expected_gradients.values())
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(
            gradients[name], gradient, rtol=1e-7, atol=1e-9 * largest, msg=name
        )


def assert_every_gradient_counts(kind: str) -> None:
    """A parameter that the loss cannot see would walk at random, as Adam scales gradients up."""
    gradients = result(kind)[1]
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    assert not [n for n, g in gradients.items() if g.abs().max().item() < 1e-9 * largest]
