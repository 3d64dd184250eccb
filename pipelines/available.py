"""Memory and cores that this machine, and the container that the process is in, have for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Of control groups of version 2 and 1: the limit, what is taken, and what of that is files.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int:
    """Bytes that processes here may take before the system is out of memory.

    What the system keeps of files counts: it makes room where it is asked to. A container, a
    batch system and a service have limits of their own, each within those around it.

    Args:
        proc: Where the kernel tells of the machine and of this process.
        groups: Where control groups are.
    """
    machine = _of(proc / "meminfo", "MemAvailable:", 1024)
    if machine is None:  # another system than Linux
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(0, min([machine, *_left(proc / "self" / "cgroup", groups)]))


def available_cores(groups: Path = _GROUPS) -> int:
    """Cores that this process may use: fewer than the machine's in a container, or where bound.

    Args:
        groups: Where control groups are.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    limit = groups / "cpu.max"
    quota, *period = limit.read_text().split() if limit.is_file() else ("max",)
    if period and quota.isdigit() and int(period[0]):
        cores = min(cores, -(-int(quota) // int(period[0])))
    return max(1, cores)


def _left(mine: Path, groups: Path) -> Iterator[int]:
    """Bytes that each group around this process has left."""
    # Within a container its own group is the root of what it sees, whatever its name outside.
    places = [(groups, "/", _V2), (groups / "memory", "/", _V1)]
    for line in mine.read_text().splitlines() if mine.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            places.append((groups, path, _V2))
        elif "memory" in controllers.split(","):
            places.append((groups / "memory", path, _V1))
    for root, path, (limit, usage, files) in places:
        inner = root / path.lstrip("/")
        for group in (inner, *(p for p in inner.parents if p.is_relative_to(root))):
            most, used = _number(group / limit), _number(group / usage)
            if most is not None and used is not None:
                yield most - used + (_of(group / "memory.stat", files, 1) or 0)


def _of(path: Path, name: str, unit: int) -> int | None:
    """The number after a name in a file of lines; None where there is none."""
    if not path.is_file():
        return None
    rows = (line.split() for line in path.read_text().splitlines())
    return next((unit * int(row[1]) for row in rows if len(row) > 1 and row[0] == name), None)


def _number(path: Path) -> int | None:
    """What a file of one number holds; None where it holds a word, or is not there."""
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None
