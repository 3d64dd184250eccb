"""The engine on two gloo processes: same updates as one, in every ZeRO stage, saved and loaded."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trainers.objectives import OBJECTIVES

SCRIPT = """
import json, os, sys, tempfile, warnings
from pathlib import Path
import torch
import torch.distributed as dist
from pipelines.core.batch import Batch
from trainers.core.engine import EngineConfig, OptimizerConfig
from trainers.core.objective import Surroundings
from trainers.deepspeed_engine import DeepSpeedEngine
from trainers.objectives import OBJECTIVES
from tests.trainers.conftest import SMALL_TOWERS, random_batch

rank, port, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
workers = int(os.environ["WORLD_SIZE"])
torch.set_num_threads(1)
dist.init_process_group("gloo", rank=rank, world_size=workers,
                        init_method=f"tcp://127.0.0.1:{port}")
AROUND = Surroundings(size=16, vocabulary=280, length=8)

def engine(stage, kind, seed=0):
    torch.manual_seed(seed)
    options = {k: v for k, v in SMALL_TOWERS.items()
               if k in OBJECTIVES.get(kind).config.model_fields}
    objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": kind, **options}), AROUND)
    return DeepSpeedEngine(objective, OptimizerConfig(clip=0.5), stage,
                           8 // workers, torch.device("cpu"))

def share(objective, seed):
    batch = random_batch(objective, 8, 16, seed)
    part = slice(rank * 8 // workers, (rank + 1) * 8 // workers)
    return Batch(batch.samples[part], batch.keys[part],
                 {name: view[part] for name, view in batch.views.items()})

def steps(made, first, last):
    rows = []
    for number in range(first, last):
        result = made.step(share(made.objective, number), 1e-3)
        made.objective.after_step((number + 1) / 7)
        loss = made.mean(result.output.loss.detach().clone().view(1))
        rows.append([loss.item(), float(result.grad_norm)])
    return rows

found = {}
for name in sys.argv[4:]:
    name, _, origin = name.partition("@")
    kind, stage, *precision = name.split(":")
    stage = EngineConfig(zero_stage=int(stage), precision=(precision or ["fp32"])[0])
    if origin:
        made = engine(stage, kind, seed=1)
        made.load(Path(origin))
        name = f"{name}@{Path(origin).name}"
        folder = out / name
        folder.mkdir(exist_ok=True)
        dist.barrier()
        made.save(folder)
        found[name] = {"resumed": steps(made, 4, 7)}
        continue
    made = engine(stage, kind)
    rows = steps(made, 0, 4)
    folder = out / name
    folder.mkdir(exist_ok=True)
    dist.barrier()
    made.save(folder)
    dist.barrier()
    files = sorted(p.name for p in folder.rglob("*"))
    weights = {k: v.clone() for k, v in made.weights().items()}
    went_on = steps(made, 4, 7)
    other = engine(stage, kind, seed=1)
    other.load(folder)
    resumed = steps(other, 4, 7)
    found[name] = {"rows": rows, "went_on": went_on, "resumed": resumed, "files": files,
                   "weights": {k: [float(v.double().sum()), v.numel()]
                               for k, v in weights.items()}}
if rank == 0:
    (out / f"found-{workers}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""


def launch(workers: int, out: Path, names: list[str]) -> dict[str, dict[str, object]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(workers):
        environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": workers}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(rank), str(port), str(out), *names],
                env={**os.environ, **{k: str(v) for k, v in environment.items()}},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=Path(__file__).parents[2],
            )
        )
    logs = [process.communicate(timeout=240)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(logs)[-3000:]
    found: dict[str, dict[str, object]] = json.loads((out / f"found-{workers}.json").read_text())
    return found


EVERY = [f"{kind}:0" for kind in OBJECTIVES.names()]
# A teacher follows shards under stage 3, and prototypes are used by their length.
KINDS = [*EVERY, "clip:1", "clip:2", "clip:3", "byol:3", "swav:3", "clip:0:bf16", "clip:2:bf16"]
STAGES = range(4)
# Each on one worker and on four: every stage from itself, and some from another one.
CHANGES = [(stage, stage) for stage in STAGES] + [(0, 3), (3, 1), (2, 0)]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return {workers: tmp_path_factory.mktemp(f"workers{workers}") for workers in (1, 2, 4)}


@pytest.fixture(scope="module")
def found(places: dict[int, Path]) -> dict[int, dict[str, dict[str, object]]]:
    return {
        workers: launch(workers, places[workers], EVERY if workers == 1 else KINDS)
        for workers in (1, 2)
    }


@pytest.fixture(scope="module")
def resumed(found: object, places: dict[int, Path]) -> dict[int, dict[str, dict[str, object]]]:
    names = [f"clip:{now}@{places[2]}/clip:{before}" for before, now in CHANGES]
    return {workers: launch(workers, places[workers], names) for workers in (1, 4)}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(("before", "now"), CHANGES)
def test_a_commit_of_two_workers_goes_on_on_any_number_and_under_any_stage(
    found, resumed, places: dict[int, Path], workers: int, before: int, now: int
) -> None:
    saved = tensors(places[2] / f"clip:{before}")
    name = f"clip:{now}@clip:{before}"
    again = tensors(places[workers] / name)
    assert saved.keys() == again.keys()
    assert {key.partition("/")[0] for key in saved} >= {"weight", "exp_avg", "exp_avg_sq", "step"}
    assert all(torch.equal(saved[key], again[key]) for key in saved)
    expected = found[2][f"clip:{before}"]["went_on"]
    for (loss, norm), (other, other_norm) in zip(
        expected, resumed[workers][name]["resumed"], strict=True
    ):
        assert other == pytest.approx(loss, rel=1e-4)
        assert other_norm == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("kind", EVERY)
def test_two_workers_make_the_updates_of_one(found, kind: str) -> None:
    one, two = found[1][kind]["rows"], found[2][kind]["rows"]
    for (loss, norm), (other_loss, other_norm) in zip(one, two, strict=True):
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert other_norm == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_zero_stage_makes_the_updates_of_stage_0(found, stage: int) -> None:
    expected, got = found[2]["clip:0"], found[2][f"clip:{stage}"]
    for (loss, norm), (other_loss, other_norm) in zip(expected["rows"], got["rows"], strict=True):
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert other_norm == pytest.approx(norm, rel=1e-3)
    assert expected["weights"].keys() == got["weights"].keys()
    for name, (total, count) in expected["weights"].items():
        assert got["weights"][name] == [pytest.approx(total, rel=1e-4, abs=1e-4), count]


@pytest.mark.parametrize("stage", [0, 2])
def test_bf16_follows_fp32(found, stage: int) -> None:
    exact, rough = found[2][f"clip:{stage}"]["rows"], found[2][f"clip:{stage}:bf16"]["rows"]
    for (loss, norm), (other_loss, other_norm) in zip(exact, rough, strict=True):
        assert other_loss == pytest.approx(loss, rel=2e-2)
        assert other_loss != loss
        assert other_norm == pytest.approx(norm, rel=5e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_engine_goes_on_as_if_it_had_not_stopped(found, kind: str) -> None:
    assert found[2][kind]["resumed"] == found[2][kind]["went_on"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_holds_tensors_alone(found, kind: str) -> None:
    expected = ["state-00000.safetensors", "state-00001.safetensors"]
    assert found[2][kind]["files"] == expected
