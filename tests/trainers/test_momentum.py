from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trainers.momentum import Teacher, rising

SCRIPT = """
import gc
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from pipelines.core.batch import Batch
from tests.trainers.conftest import SMALL_TOWERS, random_batch
from trainers.core.engine import EngineConfig, OptimizerConfig
from trainers.core.objective import Surroundings
from trainers.deepspeed_engine import DeepSpeedEngine
from trainers.objectives import OBJECTIVES

rank, workers, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group("gloo", rank=rank, world_size=workers, init_method=f"file://{folder}/meet")

def engine(stage, parts, seed):
    torch.manual_seed(seed)
    # The heads' matrices of 400 * 400 are sharded, everything else is also kept whole.
    options = {"kind": "moco", "image": SMALL_TOWERS["image"], "hidden": 400, "momentum": 0.5}
    objective = OBJECTIVES.build(OBJECTIVES.parse(options), Surroundings(size=16))
    config = EngineConfig(zero_stage=stage, accumulate=parts)
    return DeepSpeedEngine(objective, OptimizerConfig(), config, 8 // workers, torch.device("cpu"))

def run(made, first, last):
    for number in range(first, last):
        batch = random_batch(made.objective, 8, 16, number)
        part = slice(rank * 8 // workers, (rank + 1) * 8 // workers)
        views = {name: view[part] for name, view in batch.views.items()}
        made.step(Batch(batch.samples[part], batch.keys[part], views), 1e-3)
        made.objective.after_step(number / 10)
    return {name: value.clone() for name, value in made.weights().items()}

gc.freeze()  # stage 3 collects garbage whenever an engine is made
found = {}
for name, stage, parts in (("0", 0, 1), ("3", 3, 1), ("3 parts", 3, 2)):
    made = engine(stage, parts, 0)
    middle = run(made, 0, 3)
    made.save(folder / name)
    dist.barrier()
    other = engine(stage, parts, 1)
    other.load(folder / name)
    found[name] = middle, run(made, 3, 6), run(other, 3, 6)
if rank == 0:
    torch.save(found, folder / "found.pt")
dist.destroy_process_group()
"""
ENGINES = ["0", "3", "3 parts"]
EVERY = [(workers, engine) for workers in (1, 2) for engine in ENGINES]
Weights = dict[str, Tensor]


class Counting(nn.Module):
    """Parameters of two shapes, a shared one, a statistic and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 2)
        self.second.weight = self.first.weight
        self.register_buffer("statistic", torch.zeros(2))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.first(inputs) + self.second(inputs)


def disturb(module: nn.Module, random: np.random.Generator) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.tensor(random.normal(size=parameter.shape))
        module.statistic += 1.5  # type: ignore[operator]
        module.count += 1  # type: ignore[operator]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 1000))
def test_parameters_equal_a_naive_average_and_buffers_the_students(
    momenta: list[float], seed: int
) -> None:
    random = np.random.default_rng(seed)
    student = Counting().double()
    teacher = Teacher(student)
    expected = {name: value.detach().numpy().copy() for name, value in student.named_parameters()}
    for momentum in momenta:
        disturb(student, random)
        teacher.update(student, momentum)
        for name, value in student.named_parameters():
            expected[name] = momentum * expected[name] + (1 - momentum) * value.detach().numpy()
    for name, value in teacher.module.named_parameters():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-9, atol=1e-12)
    assert teacher.module.count.item() == len(momenta)
    assert torch.equal(teacher.module.statistic, student.statistic)


def test_it_starts_as_its_student_and_shares_nothing_with_it() -> None:
    student = nn.Sequential(nn.Identity(), Counting())
    teacher, inputs = Teacher(student), torch.rand(4, 3)
    before = teacher(inputs, 1)
    torch.testing.assert_close(before, student[1](inputs))
    disturb(student[1], np.random.default_rng(0))
    assert torch.equal(teacher(inputs, 1), before)
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize(("momentum", "same_as_student"), [(0.0, True), (1.0, False)])
def test_momentum_0_copies_and_1_keeps(momentum: float, same_as_student: bool) -> None:
    student = Counting()
    teacher = Teacher(student)
    kept = teacher.module.first.weight.clone()
    disturb(student, np.random.default_rng(0))
    teacher.update(student, momentum)
    expected = student.first.weight if same_as_student else kept
    assert torch.equal(teacher.module.first.weight, expected)


def test_no_gradient_passes() -> None:
    teacher = Teacher(nn.Sequential(Counting()))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(torch.rand(4, 3, requires_grad=True), 0).requires_grad


def test_a_state_restores_the_teacher_and_not_its_student() -> None:
    student = Counting()
    teacher = Teacher(student)
    disturb(student, np.random.default_rng(0))
    teacher.update(student, 0.5)
    other = Teacher(student)
    assert not torch.equal(other.module.first.weight, teacher.module.first.weight)
    other.load_state_dict(teacher.state_dict())
    for name, value in other.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name]), name


def test_a_student_of_another_structure_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Teacher(Counting()).update(nn.Linear(3, 2), 0.5)


def test_momentum_rises_from_its_start_to_1() -> None:
    values = [rising(0.9, step / 100) for step in range(101)]
    assert values[0] == pytest.approx(0.9)
    assert values[50] == pytest.approx(0.95)
    assert values[-1] == 1.0
    assert values == sorted(values)


def launch(workers: int, folder: Path) -> dict[str, tuple[Weights, Weights, Weights]]:
    for name in ENGINES:
        (folder / name).mkdir()
    processes = []
    for rank in range(workers):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": workers, "OMP_NUM_THREADS": 1}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(rank), str(workers), str(folder)],
                env={**os.environ, **{k: str(v) for k, v in place.items()}},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=Path(__file__).parents[2],
            )
        )
    logs = [process.communicate(timeout=240)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(logs)[-3000:]
    found: dict[str, tuple[Weights, Weights, Weights]] = torch.load(folder / "found.pt")
    return found


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[int, dict[str, tuple[Weights, Weights, Weights]]]:
    return {n: launch(n, tmp_path_factory.mktemp(f"workers{n}")) for n in (1, 2)}


@pytest.mark.parametrize(("workers", "engine"), EVERY[1:])
def test_shards_make_the_updates_of_one_workers_whole_weights(trained, workers, engine) -> None:
    expected, weights = trained[1]["0"][1], trained[workers][engine][1]
    assert expected.keys() == weights.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4, msg=name)
    # The tolerance tells a teacher from one that stood still, lagged, or moved twice.
    moved = (
        trained[1]["0"][1]["teacher.module.1.4.weight"]
        - trained[1]["0"][0]["teacher.module.1.4.weight"]
    )
    assert moved.abs().max() > 5e-4


@pytest.mark.parametrize(("workers", "engine"), EVERY)
def test_a_saved_teacher_goes_on_as_if_it_had_not_stopped(trained, workers, engine) -> None:
    _, went_on, resumed = trained[workers][engine]
    for name, value in went_on.items():
        assert torch.equal(resumed[name], value), name
