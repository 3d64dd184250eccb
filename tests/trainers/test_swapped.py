"""Optimizers on a disk: which group is read when, and the same updates as in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from trainers.swapped import by_group, group_size, in_memory, keep_gradients, part, swaps

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from pipelines.core.batch import Batch
from tests.trainers.conftest import AROUND, random_batch
import trainers.deepspeed_engine as engines
from trainers.core.engine import EngineConfig, OptimizerConfig
from trainers.objectives import OBJECTIVES

rank, workers, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
torch.set_num_threads(1)
dist.init_process_group("gloo", rank=rank, world_size=workers,
                        init_method=f"file://{out}/meet-{workers}")
Path(f"{out}/nvme").mkdir(exist_ok=True)
engines.SWAPPED = 200_000  # a worker's part of a tower is several groups, all over the least size
DISK = {"optimizer": "nvme", "folder": f"{out}/nvme"}
ENGINES = {
    "memory": {"zero_stage": 3, "offload": {"optimizer": "cpu"}},
    "whole": {},
    "disk": {"zero_stage": 3, "offload": DISK},
    "both": {"zero_stage": 3, "offload": {**DISK, "parameters": "cpu"}},
    "ema": {"zero_stage": 3, "offload": DISK},
    "fp16": {"zero_stage": 3, "offload": DISK, "precision": "fp16"},
    "parts": {"zero_stage": 3, "offload": DISK, "accumulate": 2},
    "blocks": {"zero_stage": 3, "offload": DISK, "checkpoint_activations": True},
}

def engine(name, seed):
    torch.manual_seed(seed)
    # A width of which no part begins where a disk's sector does.
    tower = {"width": 516, "layers": 1, "heads": 4}
    objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": "masked_language", "tower": tower}),
                                 AROUND)
    optimizer = OptimizerConfig(clip=0.5, ema=0.9 if name == "ema" else None)
    config = EngineConfig.model_validate(ENGINES[name])
    made = engines.DeepSpeedEngine(objective, optimizer, config, 8 // workers,
                                   torch.device("cpu"))
    if made._scale:
        made._scale.state = 2.0**8, 0.0
    return made

def steps(made, first, last):
    rows = []
    for number in range(first, last):
        batch = random_batch(made.objective, 8, 16, number)
        mine = slice(rank * 8 // workers, (rank + 1) * 8 // workers)
        views = {name: view[mine] for name, view in batch.views.items()}
        result = made.step(Batch(batch.samples[mine], batch.keys[mine], views), 1e-3)
        loss = made.mean(result.output.loss.detach().clone().view(1))
        rows.append([loss.item(), float(result.grad_norm)])
    return rows

found = {}
for word in sys.argv[4:]:
    name, _, origin = word.partition("@")
    if origin:
        made = engine(name, 1)
        made.load(out / origin)
        folder = out / word
        folder.mkdir(exist_ok=True)
        dist.barrier()
        made.save(folder)
        found[word] = {"resumed": steps(made, 3, 5)}
        continue
    made, early, folder = engine(name, 0), out / f"{name}-early", out / name
    early.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    dist.barrier()
    made.save(early)
    rows = steps(made, 0, 3)
    made.save(folder)
    dist.barrier()
    files = len(list(Path(f"{out}/nvme").rglob("*.swp"))) if name != "memory" else 0
    went_on = steps(made, 3, 5)
    made.load(folder)  # as after a batch that broke
    other = engine(name, 1)
    other.load(early)
    found[name] = {"rows": rows, "anew": steps(other, 0, 3), "files": files,
                   "went_on": went_on, "again": steps(made, 3, 5)}
if rank == 0:
    (out / f"found-{workers}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""


class Fake:
    """A library's optimizer of three parameters in two groups, the second of them on a disk."""

    def __init__(self) -> None:
        self.module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(3, 1, bias=False)})
        named = dict(self.module.named_parameters())
        self.names = {id(p): name for name, p in named.items()}
        self.grad_position = {"a.weight": (1, 2, 4), "a.bias": (0, 0, 2), "b.weight": (1, 6, 3)}
        self.fp32_partitioned_groups_flat = [torch.arange(9.0) + 10 * n for n in range(2)]
        moments = {flat: {"exp_avg": -flat} for flat in self.fp32_partitioned_groups_flat}
        self.optimizer = SimpleNamespace(state=moments)
        self.calls: list[tuple[str, int]] = []

    def get_param_id(self, parameter: nn.Parameter) -> str:
        return self.names[id(parameter)]

    def _swappable_optimizer_subgroup(self, group: int) -> bool:
        return group == 1

    def __getattr__(self, name: str) -> Any:
        return lambda group: self.calls.append((name, group))


def test_parameters_are_told_apart_by_where_they_are() -> None:
    fake = Fake()
    fake.module["b"].requires_grad_(requires_grad=False)
    groups = {group: [name for name, _ in named] for group, named in by_group(fake.module, fake)}
    assert groups == {1: ["a.weight"], None: ["a.bias", "b.weight"]}
    alone = by_group(fake.module, torch.optim.SGD(fake.module.parameters()))
    assert [(group, len(named)) for group, named in alone] == [(None, 3)]


@pytest.mark.parametrize(
    ("write", "last"),
    [(True, "_optimizer_states_and_gradient_swap_out"), (False, "_release_swap_buffers")],
)
def test_a_group_on_a_disk_is_read_once_and_written_if_it_changed(write: bool, last: str) -> None:
    fake = Fake()
    for group in (None, 0, 1):
        with in_memory(fake, group, write):
            assert swaps(fake, group) == (group == 1)
    assert fake.calls == [("_optimizer_states_and_gradient_swap_in", 1), (last, 1)]


def test_gradients_stay_in_memory() -> None:
    written = []
    swapper = SimpleNamespace(swap_out_gradients=lambda *given: written.append(given))
    keep_gradients(SimpleNamespace(optimizer_swapper=swapper))
    gradients = [torch.ones(2), torch.ones(3)]
    swapper.swap_out_gradients(
        parameter="flat", gradient_offsets=[0, 2], gradient_tensors=gradients
    )
    assert written == [("flat", [0, 2], gradients)]
    assert [gradient.swappable for gradient in gradients] == [False, False]  # type: ignore[attr-defined]


def test_gradients_on_a_gpu_are_kept_on_its_host() -> None:
    there, here, written = mock.Mock(), SimpleNamespace(), list[object]()
    there.to.side_effect = {"cpu": here}.get
    swapper = SimpleNamespace(swap_out_gradients=lambda *given: written.append(given))
    keep_gradients(SimpleNamespace(optimizer_swapper=swapper))
    swapper.swap_out_gradients("flat", [0], [there])
    assert written == [("flat", [0], [here])]
    assert here.swappable is False


@pytest.mark.parametrize(("most", "size"), [(1, 1 + 2), (2, 4), (100, 5)])
def test_the_largest_group_is_complete_with_one_parameter_more(most: int, size: int) -> None:
    assert group_size(Fake().module, 2, most) == size


def test_a_part_is_where_the_library_has_it() -> None:
    fake = Fake()
    weight = fake.module["b"].weight
    assert part(fake, weight, None).tolist() == [16, 17, 18]
    assert part(fake, weight, "exp_avg").tolist() == [-16, -17, -18]
    part(fake, weight, None).zero_()
    assert fake.fp32_partitioned_groups_flat[1][6:].tolist() == [0, 0, 0]


NAMES = ["memory", "whole", "disk", "both", "ema", "fp16", "parts", "blocks"]


def launch(workers: int, out: Path, words: list[str]) -> dict[str, dict[str, Any]]:
    logs = [out / f"log-{workers}-{rank}.txt" for rank in range(workers)]
    processes = []
    for rank, log in enumerate(logs):
        with log.open("w") as output:
            command = [sys.executable, "-c", SCRIPT, str(rank), str(workers), str(out), *words]
            processes.append(
                subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=Path(__file__).parents[2],
                )
            )
    codes = [process.wait(timeout=900) for process in processes]
    assert not any(codes), "\n".join(log.read_text() for log in logs)[-3000:]
    found: dict[str, dict[str, Any]] = json.loads((out / f"found-{workers}.json").read_text())
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swapped")


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, dict[str, Any]]:
    from trainers.deepspeed_engine import deepspeed

    if not deepspeed.ops.op_builder.AsyncIOBuilder().is_compatible():
        pytest.skip("needs libaio and a C++ compiler (Debian: apt install libaio-dev g++)")
    return launch(2, place, NAMES)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # what reads the disk is compiled first, for two minutes
@pytest.mark.parametrize("name", NAMES[2:])
def test_updates_are_those_in_memory(found: dict[str, dict[str, Any]], name: str) -> None:
    assert found[name]["files"] > 0
    loss, norm = (2e-2, 5e-2) if name == "fp16" else (1e-5, 1e-4)
    for mine, theirs in zip(found[name]["rows"], found["memory"]["rows"], strict=True):
        assert mine[0] == pytest.approx(theirs[0], rel=loss)
        assert mine[1] == pytest.approx(theirs[1], rel=norm)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("loaded", "first"),
    [("again", "went_on"), ("anew", "rows")],
    ids=["into a trained engine", "from before the first update"],
)
def test_what_is_loaded_goes_on_from_there(
    found: dict[str, dict[str, Any]], name: str, loaded: str, first: str
) -> None:
    for mine, theirs in zip(found[name][loaded], found[name][first], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_goes_on_with_its_optimizer_on_a_disk_or_no_more(
    found: dict[str, dict[str, Any]], place: Path
) -> None:
    resumed = launch(1, place, ["disk@whole", "whole@disk", "disk@disk"])
    for word, told in resumed.items():
        origin = word.partition("@")[2]
        saved, again = tensors(place / origin), tensors(place / word)
        assert saved.keys() == again.keys()
        assert all(torch.equal(saved[key], again[key]) for key in saved)
        for mine, theirs in zip(told["resumed"], found[origin]["went_on"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4)
    assert list((place / "nvme").iterdir()) == []


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}
