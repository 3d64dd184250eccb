"""What ``doctor`` looks at: this machine, the data, and the clocks of a cluster."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import ray
from packaging.requirements import Requirement
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.available import available_cores, available_memory
from pipelines.core import Config, UserError
from pipelines.reader import open_source
from pipelines.shards import storage
from pipelines.shards.index import Listed, Scanned, scan_into
from trainers.apart import check_apart
from trainers.recipe import EVALUATIONS, Recipe

SHARED = "/dev/shm"
_HEADER = Path("/usr/include/libaio.h")
_BRIEFLY = 10.0  # seconds after which no further shard is scanned


@dataclass(frozen=True)
class Machine:
    """What the checks know of the machine that starts the run.

    Attributes:
        cpus: Cores.
        memory: Bytes that processes may still take.
        shared: Bytes free in shared memory; None where there is none.
        gpus: CUDA devices.
        aio: Whether a disk can be read past the system's cache: its library and a C++ compiler.
        versions: Installed version by package; None where it is missing.
        needs: The package's requirements, as in its metadata.
    """

    cpus: int
    memory: int
    shared: int | None
    gpus: int
    aio: bool
    versions: Mapping[str, str | None]
    needs: Sequence[str]


@dataclass(frozen=True)
class Data:
    """What the checks know of the data.

    Attributes:
        samples: How many there are.
        shards: In how many files.
        fault: Why it cannot be opened, or nothing.
        unindexed: What of it is not in its index yet, so that it is not known how much there is.
    """

    samples: int = 0
    shards: int = 0
    fault: str = ""
    unindexed: str = ""


class _Unindexed(UserError):
    """Shards are left that no index has."""


def look_at_machine() -> Machine:
    """Gather the facts of this machine."""
    import torch

    needs = [text for text in requires("eagleray") or () if "extra ==" not in text]
    return Machine(
        cpus=available_cores(),
        memory=available_memory(),
        shared=shutil.disk_usage(SHARED).free if Path(SHARED).is_dir() else None,
        gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0,
        aio=_HEADER.exists() and shutil.which("c++") is not None,
        versions={name: _version(name) for name in (Requirement(text).name for text in needs)},
        needs=needs,
    )


def look_at_data(recipe: Recipe, run: str | None = None) -> Data:
    """Open the data of a recipe; what is not indexed is scanned for some seconds only.

    Args:
        recipe: What is to be learned.
        run: Where; it holds the index of data that are read-only.
    """
    try:
        source = open_source(recipe.data.source, fallback=run, scan=_scan_briefly)
    except _Unindexed as error:
        return Data(unindexed=str(error))
    except UserError as error:
        return Data(fault=str(error))
    return Data(sum(part.size for part in source.parts), source.shards)


def _scan_briefly(listed: Sequence[Listed], folder: str) -> Iterator[Scanned]:
    """Scan shards one after the other; all of a large data set would be read from end to end."""
    began = time.monotonic()
    for done, (url, stamp) in enumerate(listed):
        if time.monotonic() - began > _BRIEFLY:
            raise _Unindexed(f"{len(listed) - done} shards are not indexed yet")
        yield scan_into(url, stamp, folder)


def look_at_evaluations(recipe: Recipe) -> list[str]:
    """Find the data of a recipe's evaluations. Returns why some cannot be opened, or be asked."""
    faults = []
    for config in recipe.evaluations:
        name = f"{EVALUATIONS.kind_of(config)} {getattr(config, 'name', '')}".strip()
        fields = (getattr(config, field, None) for field in ("data", "reference"))
        given = [asked for asked in fields if asked is not None]
        found = [fault for asked in given if (fault := _fault_of(_find, asked))]
        if not found and len(given) == 2:
            found = [fault for fault in [_fault_of(check_apart, *given)] if fault]
        faults += [f"{name}: {fault}" for fault in found]
    return faults


def _find(asked: str | Config) -> None:
    # Tars are only listed: an evaluation set's index may take long to make.
    if isinstance(asked, str):
        storage.listing(asked)
    else:
        open_source(asked, scan=_scan_briefly)


def _fault_of(act: Callable[..., None], *asked: str | Config) -> str:
    """Why something cannot be done; nothing where it can, or where that would take long to see."""
    try:
        act(*asked)
    except _Unindexed:
        return ""
    except UserError as error:
        return str(error)
    return ""


def clocks() -> Iterator[float]:
    """Ask each node of the connected cluster for its time, when the next one is wanted."""
    # A function around the built-in one, which Ray does not take.
    ask = ray.remote(num_cpus=0)(lambda: time.time())
    for node in ray.nodes():
        if node["Alive"]:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            yield ray.get(ask.options(scheduling_strategy=place).remote())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
