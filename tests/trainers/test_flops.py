from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipelines.core.batch import Batch
from tests.trainers.conftest import AROUND, SMALL_TOWERS, random_batch
from trainers import flops
from trainers.core.collective import world
from trainers.core.engine import EngineConfig
from trainers.core.objective import LossOutput, Objective
from trainers.flops import Effort, computed_per_sample, flops_per_sample, peak, utilisation
from trainers.objectives import OBJECTIVES


class Tower(Objective):
    """A network whose products can be counted by hand."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.views = {}
        self.network = network

    def forward(self, batch: Batch) -> LossOutput:
        return LossOutput(self.network(batch.views["x"]).square().mean())

    def encoders(self) -> dict[str, nn.Module]:
        return {}


def batch_of(values: torch.Tensor) -> Batch:
    return Batch(torch.arange(len(values)), torch.arange(len(values)), {"x": values})


class Attention(nn.Module):
    """A projection to queries, keys and values, and attention of one head."""

    def __init__(self, width: int):
        super().__init__()
        self.project = nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x)[:, None].chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v)


def test_what_is_compiled_is_still_compiled_after_it_was_counted() -> None:
    """The compiler leaves functions alone for good that it first meets beneath a counter."""
    made: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        made.append(1)
        return graph.forward

    draw = torch.compile(lambda x: x * 2 + 1, backend=backend, dynamic=False)

    class Draws(Tower):
        def forward(self, batch: Batch) -> LossOutput:
            return LossOutput(self.network(draw(batch.views["x"])).square().mean())

    found = flops_per_sample(Draws(nn.Linear(4, 1)), batch_of(torch.rand(8, 4)))
    assert found == flops_per_sample(Tower(nn.Linear(4, 1)), batch_of(torch.rand(8, 4)))
    assert not made
    draw(torch.rand(3, 4))
    assert made


@pytest.mark.parametrize("count", [2, 50])
def test_linear_layers_are_counted_by_hand(count: int) -> None:
    network = nn.Sequential(nn.Linear(10, 20), nn.GELU(), nn.Linear(20, 5))
    # Forward both; backward the weights' gradients of both, and the inputs' of the second.
    by_hand = 2 * (10 * 20 + 20 * 5) + 2 * (10 * 20 + 20 * 5) + 2 * 20 * 5
    assert flops_per_sample(Tower(network), batch_of(torch.rand(count, 10))) == by_hand


def test_a_convolution_is_counted_by_hand() -> None:
    network = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    forward = 2 * 8 * 8 * 3 * 4 * 9
    assert flops_per_sample(Tower(network), batch_of(torch.rand(4, 3, 8, 8))) == 2 * forward


@pytest.mark.parametrize("groups", [2, 8])
def test_a_convolution_in_groups_is_counted_by_hand(groups: int) -> None:
    first = nn.Conv2d(8, 8, 1, bias=False)  # so that the second passes a gradient on
    network = nn.Sequential(first, nn.Conv2d(8, 8, 7, padding=3, groups=groups, bias=False))
    point, wide = 2 * 8 * 8 * 8 * 8, 2 * 8 * 8 * 8 * (8 // groups) * 49
    counted = flops_per_sample(Tower(network), batch_of(torch.rand(4, 8, 8, 8)))
    assert counted == 2 * point + 3 * wide


def test_attention_is_counted_whichever_kernel_computes_it() -> None:
    tokens, width = 12, 16
    projection = 2 * tokens * width * 3 * width
    products = 2 * 2 * tokens * tokens * width
    counted = flops_per_sample(Tower(Attention(width)), batch_of(torch.rand(3, tokens, width)))
    assert counted == 2 * projection + 3 * products


@pytest.mark.parametrize(
    ("engine", "again"),
    [
        ({}, 0.0),
        ({"checkpoint_activations": True}, 2 / 3),  # a block's last layer is not needed again
        ({"accumulate": 4}, 0.75),
        ({"checkpoint_activations": True, "accumulate": 4}, 0.75 + 2 / 3),
    ],
)
def test_what_is_computed_again_to_spare_memory_is_counted(
    engine: dict[str, object], again: float
) -> None:
    tower = {"kind": "vit", "width": 64, "layers": 6, "heads": 2, "patch": 8}
    objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": "simclr", "image": tower}), AROUND)
    batch = random_batch(objective, 4, AROUND.size)
    found = computed_per_sample(objective, batch, EngineConfig.model_validate(engine))
    once = flops_per_sample(objective, batch)
    # A pass forward is a third of both, nearly all of it in blocks.
    assert found / once == pytest.approx(1 + again / 3, rel=0.02)


def test_nothing_is_left_behind() -> None:
    objective = Tower(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)))
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    batch = batch_of(torch.rand(2, 4))
    randomness = torch.get_rng_state()
    flops_per_sample(objective, batch)
    assert torch.equal(randomness, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())
    assert all(parameter.grad is None for parameter in objective.parameters())


@pytest.mark.parametrize("kind", OBJECTIVES.names())
def test_every_objective_can_be_counted(kind: str) -> None:
    fields = OBJECTIVES.get(kind).config.model_fields
    towers = {name: tower for name, tower in SMALL_TOWERS.items() if name in fields}
    objective: Objective = OBJECTIVES.build(OBJECTIVES.parse({"kind": kind, **towers}), AROUND)
    assert flops_per_sample(objective, random_batch(objective, 4, AROUND.size)) > 0


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
        ("NVIDIA H100 PCIe", "fp16", 756e12),
        ("NVIDIA H200", "fp32", 67e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA L4", "bf16", 121e12),
        ("NVIDIA L40S", "bf16", 362e12),
        ("NVIDIA B200", "bf16", 2250e12),
        ("Tesla V100-SXM2-16GB", "fp16", 125e12),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16", None),
        ("NVIDIA A10", "bf16", None),
    ],
)
def test_peaks_are_found_by_whole_words(
    device: str, precision: str, expected: float | None
) -> None:
    assert peak(device, precision) == expected


def test_a_share_of_the_peak_counts_every_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    found = utilisation(312e12, torch.device("cuda", 0), "bf16", 2)
    assert found == {"flops_per_second": 312e12, "mfu": 0.5}
    assert utilisation(1e9, torch.device("cpu"), "fp32", 2) == {"flops_per_second": 1e9}


def test_a_run_tells_its_rate_once_its_first_batch_is_counted() -> None:
    objective = Tower(nn.Linear(10, 20))
    effort = Effort(objective, torch.device("cpu"), "fp32", workers=3)
    assert effort.rates(5.0) == {}
    nn.init.constant_(objective.network.weight, float("nan"))  # the copy was made before
    effort.count(batch_of(torch.rand(4, 10)))
    assert effort.rates(5.0) == {"flops_per_second": 5.0 * 2 * (2 * 10 * 20)}


def test_what_would_not_fit_beside_training_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    small = SimpleNamespace(total_memory=8 * 4 * 220 - 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: small)
    effort = Effort(Tower(nn.Linear(10, 20)), torch.device("cuda", 0), "fp32", workers=1)
    effort.count(batch_of(torch.rand(4, 10)))
    assert effort.rates(5.0) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_where_there_is_no_memory_to_count_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def full(*_: object) -> float:
        raise torch.OutOfMemoryError

    effort = Effort(Tower(nn.Linear(10, 20)), torch.device("cpu"), "fp32", workers=workers)
    monkeypatch.setattr(flops, "_count", full)
    effort.count(batch_of(torch.rand(4, 10)))
    assert effort.rates(5.0) == {}


def test_no_worker_waits_for_another_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert world() == (1, 2)
    seen: list[tuple[int, int]] = []
    tower = Tower(nn.Linear(10, 20))
    tower.network.register_forward_pre_hook(lambda *_: seen.append(world()))
    assert flops_per_sample(tower, batch_of(torch.rand(4, 10))) > 0
    assert seen == [(0, 1)]
    assert world() == (1, 2)
