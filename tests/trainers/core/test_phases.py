from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from trainers.core.phases import PHASES, Phases, peak_memory

CPU = torch.device("cpu")


def test_times_of_a_phase_add_up_until_they_are_taken() -> None:
    phases = Phases(CPU)
    for _ in range(2):
        with phases("forward"):
            time.sleep(0.02)
    taken = phases.take()
    assert set(taken) == set(PHASES)
    assert taken["forward"] >= 0.04
    assert taken["backward"] == 0.0
    assert phases.take() == dict.fromkeys(PHASES, 0.0)


def test_a_phase_that_is_none_is_refused() -> None:
    with pytest.raises(KeyError), Phases(CPU)("lunch"):
        pass


class Event:
    """A mark in a queue whose clock the test sets."""

    now = 0.0
    waited: list[Event]

    def __init__(self, enable_timing: bool):
        assert enable_timing

    def record(self) -> None:
        self.at = Event.now

    def synchronize(self) -> None:
        self.waited.append(self)

    def elapsed_time(self, other: Event) -> float:
        return 1000 * (other.at - self.at)


def test_on_a_gpu_its_own_marks_count_and_only_taking_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    Event.waited = []
    phases = Phases(torch.device("cuda", 0))
    for name, seconds in (("augment", 1.0), ("forward", 2.0), ("forward", 4.0)):
        with phases(name):
            Event.now += seconds
        Event.now += 0.5  # between phases
    assert Event.waited == []
    assert phases.take() == {"augment": 1.0, "forward": 6.0, "backward": 0.0, "optimizer": 0.0}
    assert len(Event.waited) == 1
    assert phases.take() == dict.fromkeys(PHASES, 0.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_work_is_timed_though_it_runs_behind() -> None:
    device = torch.device("cuda", 0)
    values = torch.rand(4096, 4096, device=device)
    phases = Phases(device)
    with phases("forward"):
        for _ in range(50):
            values = values @ values
    assert phases.take()["forward"] > 0.005


def test_memory_is_this_processs_peak() -> None:
    def told(name: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) * 1024

    held = torch.ones(32 << 20)
    size = held.numel() * held.element_size()
    del held  # what was held counts, and not what is
    assert peak_memory(CPU) == pytest.approx(told("VmHWM"), rel=0.03)
    assert peak_memory(CPU) > told("VmRSS") + size / 2
