from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from pipelines.core import fused as module
from pipelines.core.fused import fused


class OnGpu(torch.Tensor):
    """Says that it is on a GPU."""

    is_cuda = True


def add(a: Tensor, b: int) -> Tensor:
    """Add."""
    return a + b


@pytest.fixture(autouse=True)
def _forget():
    module._compiled.cache_clear()
    yield
    module._compiled.cache_clear()


def test_on_a_cpu_a_function_is_called_as_it_is(monkeypatch):
    monkeypatch.setattr(module, "_compiled", None)
    work = fused(add)
    assert work(torch.ones(2), 1).tolist() == [2, 2]
    assert work.__doc__ == "Add."


def test_on_a_gpu_it_is_compiled_once(monkeypatch):
    made = []

    def compile_(work, **options):
        made.append(work)
        return lambda *values: "compiled"

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(module, "lacks", lambda: "")
    work = fused(add)
    values = torch.ones(2).as_subclass(OnGpu)
    assert [work(values, 1), work(values, 2)] == ["compiled", "compiled"]
    assert made == [add]


@pytest.mark.parametrize("lacking", ["g++", "triton"])
def test_where_compiling_is_impossible_the_log_says_so_and_the_function_runs(
    monkeypatch, caplog, lacking
):
    monkeypatch.delenv("CXX", raising=False)
    there = None if lacking == "g++" else "/bin/true"
    monkeypatch.setattr(module.shutil, "which", lambda name: there)
    found = None if lacking == "triton" else object()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: found)
    with caplog.at_level(logging.WARNING, logger="pipelines.core.fused"):
        result = fused(add)(torch.ones(2).as_subclass(OnGpu), 1)
    assert result.tolist() == [2, 2]
    assert len(caplog.records) == 1
    assert "slower" in caplog.text
