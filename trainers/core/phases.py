"""Where a step's time goes, by phase; measuring waits for no device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

PHASES = ("augment", "forward", "backward", "optimizer")
_MOST = 1 << 14  # marks that wait to be read


class Phases:
    """Sums up the time of phases: by the clock on a CPU, by events on a GPU.

    A GPU works behind the program that asks it to, so only marks in its own queue tell how long
    a phase took there. They are read when the sums are asked for. Time in which the queue was
    empty within a phase, because the program was slower, is the phase's.

    Args:
        device: Where the phases' work is done.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self._marks: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count what is done within as a phase's, one of ``PHASES``; phases do not overlap."""
        if self._device.type == "cuda":
            begun, ended = _mark(), _mark()
            begun.record()
            yield
            ended.record()
            self._marks.append((name, begun, ended))
            if len(self._marks) >= _MOST:  # nobody asks
                self._read()
        else:
            began = time.perf_counter()
            yield
            self._seconds[name] += time.perf_counter() - began

    def take(self) -> dict[str, float]:
        """Seconds of every phase since the last time; waits for a GPU to finish them."""
        self._read()
        taken, self._seconds = self._seconds, dict.fromkeys(PHASES, 0.0)
        return taken

    def _read(self) -> None:
        if self._marks:
            self._marks[-1][2].synchronize()
        for name, begun, ended in self._marks:
            self._seconds[name] += begun.elapsed_time(ended) / 1000
        self._marks = []


def _mark() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def peak_memory(device: torch.device) -> int:
    """Bytes that were held at most: of a GPU by this process's tensors, else of the host by it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Not getrusage, whose peak is at least that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
