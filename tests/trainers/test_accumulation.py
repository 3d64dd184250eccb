from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.conftest import SMALL_TOWERS, random_batch
from tests.trainers.two_workers import plain_passes
from trainers.accumulation import Passes, accumulate
from trainers.core.engine import OptimizerConfig
from trainers.core.objective import Objective, Surroundings
from trainers.core.phases import Phases
from trainers.objectives import OBJECTIVES
from trainers.torch_engine import TorchEngine

SIZE = 32
HEADS = {"hidden": 32, "projection": 16}


def build(kind: str) -> Objective:
    torch.manual_seed(0)
    options = {"image": SMALL_TOWERS["image"], **HEADS}
    fields = OBJECTIVES.get(kind).config.model_fields
    chosen = {name: value for name, value in options.items() if name in fields}
    config = OBJECTIVES.parse({"kind": kind, **chosen})
    objective: Objective = OBJECTIVES.build(config, Surroundings(size=SIZE))
    return objective


def counted(objective: nn.Module, *names: str) -> Counter[str]:
    """Count the calls of an objective's methods from now on."""
    calls: Counter[str] = Counter()
    for name in names:
        original = getattr(objective, name)

        def called(*args: Any, name: str = name, original: Any = original) -> Any:
            calls[name] += 1
            return original(*args)

        setattr(objective, name, called)
    return calls


def test_samples_that_are_compared_are_encoded_twice_but_for_one_part() -> None:
    objective = build("moco")
    calls = counted(objective, "encode", "targets", "compare")
    accumulate(objective, random_batch(objective, 8, SIZE), 4, plain_passes())
    assert calls == {"encode": 4 + 3, "targets": 4, "compare": 1}


def test_a_mean_over_samples_needs_no_second_pass() -> None:
    objective = build("rotation")
    calls = counted(objective, "forward")
    accumulate(objective, random_batch(objective, 8, SIZE), 4, plain_passes())
    assert calls == {"forward": 4}


@pytest.mark.parametrize("kind", ["simclr", "rotation"])
@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_returned_holds_no_graph(kind: str, parts: int) -> None:
    objective = build(kind)
    output = accumulate(objective, random_batch(objective, 4, SIZE), parts, plain_passes())
    assert not output.loss.requires_grad


@pytest.mark.parametrize("kind", ["simclr", "rotation"])
def test_a_losss_scale_is_that_of_the_gradient(kind: str) -> None:
    gradients = []
    for scale in (1.0, 1024.0):
        objective = build(kind).double()
        batch = random_batch(objective, 8, SIZE)
        batch.views.update({n: v.double() for n, v in batch.views.items()})  # type: ignore[attr-defined]
        passes = Passes(
            Phases(torch.device("cpu")),
            lambda work: work(),
            lambda loss, scale=scale: (loss * scale).backward(),
            scale,
        )
        accumulate(objective, batch, 2, passes)
        gradients.append([p.grad for p in objective.parameters() if p.grad is not None])
    for plain, scaled in zip(*gradients, strict=True):
        assert torch.equal(plain * 1024, scaled)  # a power of two rounds nothing


def test_both_passes_of_each_kind_are_counted_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(now)))
    objective, phases = build("simclr"), Phases(torch.device("cpu"))
    passes = Passes(phases, lambda work: work(), torch.autograd.backward)
    accumulate(objective, random_batch(objective, 6, SIZE), 3, passes)
    spent = phases.take()
    assert (spent["forward"], spent["backward"], spent["optimizer"]) == (3, 3, 0)


class Held:
    """Counts the bytes that graphs keep for their backward passes, without weights."""

    def __init__(self, module: nn.Module):
        self._weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self.now = self.most = 0

    def __enter__(self) -> Held:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept[0])
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _pack(self, tensor: Tensor) -> list[Tensor]:
        class Kept(list):  # type: ignore[type-arg]  # a plain list takes no weak reference
            pass

        kept = Kept([tensor])
        if tensor.untyped_storage().data_ptr() not in self._weights:
            self._add(tensor.nbytes)
            weakref.finalize(kept, self._add, -tensor.nbytes)
        return kept

    def _add(self, count: int) -> None:
        self.now += count
        self.most = max(self.most, self.now)


@pytest.mark.parametrize("kind", ["simclr", "byol", "rotation"])
def test_only_a_parts_activations_are_held(kind: str) -> None:
    most = []
    for parts in (1, 4):
        objective = build(kind)
        with Held(objective) as held:
            accumulate(objective, random_batch(objective, 32, SIZE), parts, plain_passes())
        assert held.now == 0
        most.append(held.most)
    assert most[1] < 0.3 * most[0]


@pytest.mark.parametrize("kind", ["simclr", "rotation"])
def test_the_plain_engine_makes_the_same_updates(kind: str) -> None:
    engines = [
        TorchEngine(build(kind), OptimizerConfig(), torch.device("cpu"), parts) for parts in (1, 4)
    ]
    for seed in range(3):
        batch = random_batch(engines[0].objective, 8, SIZE, seed)
        whole, cut = (engine.step(batch, 1e-3) for engine in engines)
        torch.testing.assert_close(cut.output.loss, whole.output.loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(cut.grad_norm, whole.grad_norm, rtol=1e-4, atol=0)
