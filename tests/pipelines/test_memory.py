from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipelines.memory import huge_pages, kept_in_threads, shipped_jemalloc

SCRIPT = """
import resource, sys, threading
from pipelines.memory import keep_freed_memory

def work():
    if sys.argv[1] == "keep":
        assert keep_freed_memory()
    for number in range(12):
        block = b"x" * (80 << 20)  # over the largest threshold, and the largest arena of a thread
        if number == 2:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        del block
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[2] == "main":
    work()
else:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


def _has_huge_pages() -> bool:
    """Whether the system gives them to who asks, and glibc (2.35) can ask."""
    chosen = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    name, version = platform.libc_ver()
    new = name == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
    return new and chosen.exists() and "[never]" not in chosen.read_text()


def faults(mode: str, thread: str = "main", environment: Mapping[str, str] | None = None) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode, thread],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **(environment or {})},
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_large_blocks_are_not_mapped_anew() -> None:
    assert faults("keep") < faults("default") / 10


@pytest.mark.skipif(not _has_huge_pages(), reason="no transparent huge pages, or an old glibc")
def test_a_thread_maps_them_anew_in_huge_pages() -> None:
    assert faults("keep", "thread") > 10_000  # what the environment is for
    assert faults("keep", "thread", huge_pages({})) < faults("keep", "thread") / 10


def test_tunables_that_are_set_are_kept() -> None:
    one = "glibc.malloc.hugetlb=1"
    assert huge_pages({}) == huge_pages({"GLIBC_TUNABLES": ""}) == {"GLIBC_TUNABLES": one}
    mine = {"GLIBC_TUNABLES": "glibc.malloc.check=1:glibc.malloc.arena_max=2"}
    assert huge_pages(mine) == {"GLIBC_TUNABLES": f"{mine['GLIBC_TUNABLES']}:{one}"}
    chosen = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=2"}
    assert huge_pages(chosen) == chosen


@pytest.mark.skipif(shipped_jemalloc() is None, reason="Ray brings no jemalloc here")
def test_a_thread_keeps_what_it_frees() -> None:
    allocator = kept_in_threads({}, shipped_jemalloc())
    assert faults("keep", "thread", allocator) < faults("keep", "thread", huge_pages({})) / 10


def test_an_allocator_that_was_chosen_is_kept() -> None:
    library = Path("/ray/core/libjemalloc.so")
    ours = kept_in_threads({}, library)
    assert ours["LD_PRELOAD"] == str(library)
    assert kept_in_threads({"LD_PRELOAD": "/lib/libtcmalloc.so.4"}, library) == {}
    beside = kept_in_threads({"LD_PRELOAD": "/lib/other.so"}, library)
    assert beside["LD_PRELOAD"] == f"/lib/other.so:{library}"
    told = kept_in_threads({"MALLOC_CONF": "dirty_decay_ms:5"}, library)
    assert told["MALLOC_CONF"] == f"{ours['MALLOC_CONF']},dirty_decay_ms:5"
    assert kept_in_threads({}, None) == huge_pages({})
