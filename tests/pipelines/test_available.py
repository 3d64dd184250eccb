from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.available import available_memory

KIB = 1024


def places(folder: Path, group: dict[str, str]) -> tuple[Path, Path]:
    meminfo = folder / "meminfo"
    meminfo.write_text("MemTotal:  900 kB\nMemFree:  10 kB\nMemAvailable:  500 kB\n")
    for name, text in group.items():
        (folder / name).write_text(text)
    return meminfo, folder


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({}, 500 * KIB),  # what is kept of files is available, MemFree is not all there is
        ({"memory.max": "max\n", "memory.current": "999\n"}, 500 * KIB),
        ({"memory.max": f"{300 * KIB}\n", "memory.current": f"{100 * KIB}\n"}, 200 * KIB),
        ({"memory.max": f"{9000 * KIB}\n", "memory.current": "0\n"}, 500 * KIB),
        ({"memory.max": "100\n", "memory.current": "200\n"}, 0),
        (
            {
                "memory.max": f"{300 * KIB}\n",
                "memory.current": f"{300 * KIB}\n",
                "memory.stat": f"anon 7\nfile {99 * KIB}\ninactive_file {50 * KIB}\n",
            },
            50 * KIB,
        ),
    ],
)
def test_memory_is_the_machines_or_what_the_container_has_left(
    group: dict[str, str], expected: int, tmp_path: Path
) -> None:
    assert available_memory(*places(tmp_path, group)) == expected


def test_a_system_that_tells_nothing_has_all_of_its_memory(tmp_path: Path) -> None:
    assert available_memory(tmp_path / "none", tmp_path) > 1 << 28


def test_this_machine_has_some_left_and_no_more_than_all() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_memory() <= total
