from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.available import available_cores, available_memory

KIB = 1024


def places(folder: Path, mine: str, groups: dict[str, str]) -> tuple[Path, Path]:
    proc, root = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 900 kB\nMemFree: 10 kB\nMemAvailable: 500 kB\n")
    (proc / "self" / "cgroup").write_text(mine)
    for name, text in groups.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return proc, root


def v2(group: str, most: object, used: int, files: int = 0) -> dict[str, str]:
    stat = f"anon 7\nfile 99999\ninactive_file {files * KIB}"
    limit = most if isinstance(most, str) else str(int(str(most)) * KIB)
    return {
        f"{group}memory.max": limit,
        f"{group}memory.current": str(used * KIB),
        f"{group}memory.stat": stat,
    }


def v1(group: str, most: int, used: int, files: int = 0) -> dict[str, str]:
    return {
        f"memory/{group}memory.limit_in_bytes": str(most * KIB),
        f"memory/{group}memory.usage_in_bytes": str(used * KIB),
        f"memory/{group}memory.stat": f"inactive_file 1\ntotal_inactive_file {files * KIB}",
    }


@pytest.mark.parametrize(
    ("mine", "groups", "expected"),
    [
        ("", {}, 500),  # what is kept of files is available, MemFree is not all there is
        ("0::/\n", v2("", "max", 999), 500),
        ("0::/\n", v2("", 300, 100), 200),
        ("0::/\n", v2("", 9000, 0), 500),
        ("0::/\n", v2("", 100, 200), 0),
        ("0::/\n", v2("", 300, 300, files=50), 50),
        ("0::/job/step\n", v2("job/step/", "max", 100) | v2("job/", 150, 120), 30),
        ("0::/job/step\n", v2("job/step/", 110, 100) | v2("job/", 150, 120), 10),
        ("4:cpu:/x\n3:memory:/job\n", v1("", 1 << 40, 200) | v1("job/", 90, 70, files=5), 25),
        ("3:memory:/outside/name\n", v1("", 90, 70), 20),  # as a container sees it
        ("3:hugetlb,memory:/job\n0::/\n", v1("job/", 90, 70), 20),
    ],
)
def test_memory_is_the_machines_or_what_a_group_has_left(
    mine: str, groups: dict[str, str], expected: int, tmp_path: Path
) -> None:
    assert available_memory(*places(tmp_path, mine, groups)) == expected * KIB


def test_a_system_that_tells_nothing_has_all_of_its_memory(tmp_path: Path) -> None:
    assert available_memory(tmp_path / "none", tmp_path / "none") > 1 << 28


def test_this_machine_has_some_left_and_no_more_than_all() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_memory() <= total


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 8), ("250000 100000", 3), ("1600000 100000", 8), ("1 100000", 1), (None, 8)],
)
def test_cores_are_those_that_a_container_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    if limit:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert available_cores(tmp_path) == cores
