from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pipelines.core import ConfigError
from trainers.blocks import blocks, checkpoint_blocks, compile_parts
from trainers.momentum import Teacher


class Block(nn.Module):
    """A layer with random numbers, which counts how often it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(4, 4)])
        self.runs = 0

    def forward(self, inputs: Tensor, *, gain: float = 1.0) -> Tensor:
        self.runs += 1
        return nn.functional.dropout(self.inner[0](inputs).tanh(), 0.5) * gain


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = nn.Sequential(nn.Linear(4, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = layer(inputs, gain=2.0)
        return self.head(inputs)


class Both(nn.Module):
    """A student and its teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(Tower())
        self.teacher = Teacher(self.student)


def test_blocks_are_what_outermost_lists_hold_and_no_teachers() -> None:
    both = Both()
    assert list(blocks(both)) == list(both.student[0].layers)  # type: ignore[arg-type]


def test_blocks_run_twice_with_the_same_random_numbers_and_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain = Tower()
    saving, inputs = copy.deepcopy(plain), torch.rand(8, 4)
    names = [name for name, _ in saving.named_parameters()]
    checkpoint_blocks(saving)
    for tower in (plain, saving):
        torch.manual_seed(1)
        tower(inputs).sum().backward()
    assert [block.runs for block in plain.layers] == [1, 1]
    assert [block.runs for block in saving.layers] == [2, 2]
    assert [name for name, _ in saving.named_parameters()] == names
    for mine, theirs in zip(saving.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)  # type: ignore[arg-type]


def test_without_gradients_blocks_run_once() -> None:
    tower = Tower()
    checkpoint_blocks(tower)
    with torch.no_grad():
        tower(torch.rand(2, 4))
    assert [block.runs for block in tower.layers] == [1, 1]


def test_a_tower_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="has blocks; set it to false"):
        checkpoint_blocks(nn.Sequential(nn.Linear(2, 2)))


class Mixed(Both):
    """A part with blocks, one without, one that is a list of blocks, and a teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(1, 1), nn.Tanh())
        self.scales = nn.ModuleList([nn.Linear(1, 1)])


def test_blocks_that_learn_are_compiled_and_parts_without_any_with_their_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append(self))
    monkeypatch.setattr("shutil.which", lambda name: name)
    mixed = Mixed()
    compile_parts(mixed, torch.device("cpu"))
    tower: Tower = mixed.student[0]  # type: ignore[assignment]
    assert compiled == [*tower.layers, mixed.head, mixed.head[0], mixed.scales[0]]


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"no g\+\+ or clang\+\+; install one"):
        compile_parts(Both(), torch.device("cpu"))
    monkeypatch.setenv("CXX", "other")
    with pytest.raises(ConfigError, match="no other; install one"):
        compile_parts(Both(), torch.device("cpu"))
