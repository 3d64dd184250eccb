from __future__ import annotations

import weakref
from typing import Any, cast

import pytest
import torch

from trainers import on_device
from trainers.on_device import OnDevice

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
NO_CONTEXT = RuntimeError("CUDA error: out of memory")
NO_LIBRARY = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Where models were loaded, and GPUs chosen; a model is its device."""
    found: list[object] = []

    def load(commit: object, device: torch.device, kept: object) -> torch.device:
        found.append(device)
        return device

    monkeypatch.setattr(torch.cuda, "set_device", lambda device: found.append(f"set {device}"))
    monkeypatch.setattr("gc.collect", lambda: None)  # of all that tests hold: a second each time
    monkeypatch.setattr(on_device, "load_model", load)
    monkeypatch.setattr(on_device, "evaluate", lambda model, *_: model)
    return found


def judge(device: torch.device = GPU) -> Any:
    return OnDevice(cast(Any, "the commit"), device)


def test_a_gpu_is_the_processs_own_before_anything_is_on_it(used: list[object]) -> None:
    made = judge()
    assert [made.evaluated(name) for name in "ab"] == [GPU, GPU]
    assert used == ["set cuda:1", GPU, "set cuda:1"]


def test_a_gpu_of_no_number_is_the_one_that_the_process_has(
    used: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def numbered(device: torch.device) -> None:
        assert device.index is not None  # as torch.cuda.set_device asks

    monkeypatch.setattr(torch.cuda, "set_device", numbered)
    any_gpu = torch.device("cuda")
    assert judge(any_gpu).evaluated("a") == any_gpu
    assert judge().evaluated("a") == GPU


def test_a_torch_asks_for_the_number_of_the_gpu_that_it_sets() -> None:
    with pytest.raises(ValueError, match=r"Expected a torch\.device with a specified index"):
        torch.cuda.set_device(torch.device("cuda"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), NO_CONTEXT, NO_LIBRARY])
@pytest.mark.parametrize("place", ["set_device", "load_model", "evaluate"])
def test_what_finds_no_room_on_a_gpu_is_computed_on_the_cpu_from_then_on(
    used: list[object], monkeypatch: pytest.MonkeyPatch, error: RuntimeError, place: str
) -> None:
    module = torch.cuda if place == "set_device" else on_device
    real = getattr(module, place)

    def refuse(*given: object) -> object:
        if GPU in given:
            raise error
        return real(*given)

    monkeypatch.setattr(module, place, refuse)
    made = judge()
    assert [made.evaluated(name) for name in "ab"] == [CPU, CPU]
    assert used[-1] == CPU
    assert used.count(CPU) == 1


def test_what_did_not_fit_is_let_go_before_it_is_computed_elsewhere(
    used: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Held:
        pass

    left: list[weakref.ref[Held]] = []

    def evaluate(model: torch.device, *_: object) -> torch.device:
        if model == GPU:
            held = Held()
            left.append(weakref.ref(held))
            raise torch.OutOfMemoryError
        assert left[0]() is None
        return model

    monkeypatch.setattr(on_device, "evaluate", evaluate)
    assert judge().evaluated("a") == CPU


def test_other_faults_are_told_and_so_is_a_cpu_without_room(
    used: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(on_device, "evaluate", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        judge().evaluated("a")
    monkeypatch.setattr(on_device, "load_model", lambda *_: broken())
    with pytest.raises(RuntimeError, match="mat1"):
        judge(CPU).evaluated("a")
