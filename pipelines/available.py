"""Memory that this machine, and the container that the process is in, still have."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def available_memory(meminfo: Path = _MEMINFO, group: Path = _GROUP) -> int:
    """Bytes that processes here may take before the system is out of memory.

    What the system keeps of files counts: it makes room where it is asked to.

    Args:
        meminfo: What the kernel tells of the machine.
        group: Folder of the container's limits, of version 2 control groups.
    """
    machine = _of(meminfo, "MemAvailable:", 1024)
    if machine is None:  # another system than Linux
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most, used = _number(group / "memory.max"), _number(group / "memory.current")
    if most is None or used is None:
        return machine
    files = _of(group / "memory.stat", "inactive_file", 1) or 0
    return max(0, min(machine, most - used + files))


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
