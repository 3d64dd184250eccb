"""What will go wrong with a run, found before it starts: checks as pure functions of facts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from packaging.requirements import Requirement

from cluster.look import SHARED, Data, Machine
from cluster.profile import Profile, check_fit
from cluster.session import object_store
from cluster.workforce import Need, Node, fitting, read_tasks, worker_resources
from pipelines.core import UserError
from pipelines.decode import Decoder
from pipelines.read_once import least_bytes
from pipelines.shards import storage
from trainers.core.engine import SWAP_BUFFERS, SWAPPED
from trainers.recipe import Recipe
from trainers.swap import SwapFolder, check_lockable
from trainers.trackers import TRACKERS

Level = Literal["ok", "warning", "error"]
_TEXT = 2048  # bytes of a sample's texts, of which nothing is known
_SKEW = 5.0  # seconds between nodes from which on logs mislead; object stores refuse 900


@dataclass(frozen=True)
class Finding:
    """What a check says: how bad it is, and what to do about it."""

    level: Level
    check: str
    text: str


def examine(
    recipe: Recipe, profile: Profile, machine: Machine, data: Data, here: bool = True
) -> Iterator[Finding]:
    """Make every check that needs no cluster.

    Args:
        recipe: What is to be learned.
        profile: Where.
        machine: That starts the run.
        data: Of the recipe.
        here: Whether the workers are on this machine, and not on a cluster that is there already.
    """
    yield from versions(machine)
    yield fit(recipe, profile)
    yield from schedule(recipe)
    if here:
        yield devices(profile, machine)
        yield from judges(recipe, profile, machine)
        yield from memory(profile, machine)
        yield from kept(recipe, profile, machine, data)
        yield from disk(profile, machine)
    yield from ahead(recipe, profile)
    yield from dataset(recipe, profile, data)


def versions(machine: Machine) -> Iterator[Finding]:
    """Packages that are missing or of a version that does not fit."""
    bad = False
    for text in machine.needs:
        need = Requirement(text)
        found = machine.versions.get(need.name)
        if found is None or not need.specifier.contains(found, prereleases=True):
            bad = True
            have = f"is {found}" if found else "is missing"
            yield Finding("error", "versions", f"{need.name} {have}; pip install '{need}'")
    if not bad:
        yield Finding("ok", "versions", f"all {len(machine.needs)} packages fit")


def fit(recipe: Recipe, profile: Profile) -> Finding:
    """Whether workers and parts divide the global batch."""
    try:
        check_fit(recipe, profile)
    except UserError as error:
        return Finding("error", "batch", str(error))
    local, parts = recipe.global_batch // profile.workers, profile.engine.accumulate
    cut = f", in {parts} parts" if parts > 1 else ""
    text = f"{local} samples a step on each of {profile.workers} workers{cut}"
    return Finding("ok", "batch", text)


def schedule(recipe: Recipe) -> Iterator[Finding]:
    """Whether the learning rate gets to its peak."""
    warmup = recipe.optimizer.warmup
    if warmup >= recipe.samples:
        text = f"optimizer.warmup of {warmup:,} samples is not over in a run of {recipe.samples:,}"
        yield Finding("warning", "schedule", f"{text}: the rate only rises; lower it")


def devices(profile: Profile, machine: Machine) -> Finding:
    """Whether there are cores and GPUs for the workers."""
    if _elsewhere(profile, machine):
        text = "the profile trains on CUDA, and this machine has none; right on a cluster that has"
        return Finding("warning", "devices", text)
    wanted, who = _taken(profile, profile.workers, "GPU")
    if machine.gpus < wanted:
        text = f"{who} take {wanted:g} GPUs, {machine.gpus} are here"
        return Finding("warning", "devices", f"{text}; the others must be elsewhere")
    if profile.device == "cpu" and profile.workers > machine.cpus:
        text = f"{profile.workers} workers share {machine.cpus} cores; fewer are not slower"
        return Finding("warning", "devices", text)
    return Finding("ok", "devices", f"{machine.cpus} cores, {machine.gpus} GPUs")


def judges(recipe: Recipe, profile: Profile, machine: Machine) -> Iterator[Finding]:
    """Whether evaluation jobs find a GPU of their own beside those that train."""
    each = profile.evaluations.gpus
    if not recipe.evaluations or not each or _elsewhere(profile, machine):
        return
    wanted, who = _taken(profile, profile.workers, "GPU")
    if wanted + each > machine.gpus:
        yield Finding(
            "warning",
            "evaluations",
            f"a job takes {each:g} GPUs, and {who} take {wanted:g} of {machine.gpus}: jobs wait "
            "until training has ended, and no commit is removed before; set evaluations.gpus to 0",
        )


def _taken(profile: Profile, workers: int, name: str) -> tuple[float, str]:
    """How much of a resource workers take with the read tasks they need, and who takes it."""
    reading = sum(task.get(name, 0.0) for task in read_tasks(profile, workers))
    who = "workers and their readers" if reading else "workers"
    return workers * worker_resources(profile).get(name, 0.0) + reading, who


def room(recipe: Recipe, profile: Profile, nodes: Sequence[Node]) -> Finding:
    """Whether a cluster's nodes have room for the fewest workers, and for their readers.

    Args:
        recipe: What is to be learned.
        profile: Where.
        nodes: What each node has, whether it is free or not.
    """
    need = Need.of(profile, recipe.global_batch)
    reading = need.reading if need.varies else 0.0
    if not fitting(replace(need, reading=reading, drawing=0.0), nodes):
        text = f"no room for {need} on its {len(nodes)} nodes"
    elif short := _short(profile, need.fewest, nodes):
        text = short
    else:
        return Finding("ok", "cluster", f"has room for {need}")
    return Finding("warning", "cluster", f"{text}; right where an autoscaler adds nodes")


def _short(profile: Profile, workers: int, nodes: Sequence[Node]) -> str:
    """What nodes lack for so many workers and their readers, in all; empty for nothing."""
    for name in ("CPU", "GPU"):
        there = sum(node.get(name, 0.0) for node in nodes)
        wanted, who = _taken(profile, workers, name)
        if wanted > there + 1e-6:
            return f"{who} take {wanted:g} {name}s, {there:g} are there"
    return ""


def _elsewhere(profile: Profile, machine: Machine) -> bool:
    """Whether the run can only be meant for another machine."""
    return profile.device == "cuda" and machine.gpus == 0


def memory(profile: Profile, machine: Machine) -> Iterator[Finding]:
    """Whether the object store fits the shared memory, and the machine."""
    store = object_store(profile)
    if machine.shared is not None and machine.shared < store:
        elsewhere = _elsewhere(profile, machine)
        yield Finding(
            "warning" if elsewhere else "error",
            "shared memory",
            f"{_gib(machine.shared)} free in {SHARED}, the readers' store takes {_gib(store)}: "
            "Ray would put it on disk; lower reader.memory, or start the container with "
            f"--shm-size{'; right on a cluster that has it' if elsewhere else ''}",
        )
    elif store > machine.memory // 2:
        yield Finding(
            "warning",
            "memory",
            f"the readers' store takes {_gib(store)} of {_gib(machine.memory)} available memory; "
            "lower reader.memory or reader.tasks_ahead",
        )
    else:
        yield Finding("ok", "memory", f"the readers' store takes {_gib(store)}")


def kept(recipe: Recipe, profile: Profile, machine: Machine, data: Data) -> Iterator[Finding]:
    """Whether the machine has room for the samples that its workers keep."""
    if _elsewhere(profile, machine):
        return
    decoder, limit = Decoder(recipe.data.decode), profile.cache
    each = least_bytes(decoder, data.samples, recipe.samples, profile.workers, limit)
    if each and (recipe.data.decode.text or recipe.data.decode.document):
        each = min(limit, each + data.samples * _TEXT)
    all_, store = profile.workers * each, object_store(profile)
    # Where they are few it is the store's fault alone, which is told already.
    if all_ > machine.memory // 16 and all_ + store > machine.memory // 2:
        yield Finding(
            "warning",
            "memory",
            f"samples that {profile.workers} workers keep take about {_gib(all_)}, and the "
            f"readers' store {_gib(store)}, of {_gib(machine.memory)} available memory; lower "
            "reader.cache, 0 keeps none",
        )


def disk(profile: Profile, machine: Machine) -> Iterator[Finding]:
    """Whether an optimizer can lie on a disk of this machine, where workers are on it."""
    if profile.engine.offload.optimizer != "nvme":
        return
    folder = profile.engine.offload.folder
    elsewhere = _elsewhere(profile, machine)
    level: Level = "warning" if elsewhere else "error"
    where = "; right if workers' nodes have it" if elsewhere else ""
    if not machine.aio:
        text = "offload to nvme needs libaio and a C++ compiler on every node"
        yield Finding(level, "disk", f"{text} (Debian: apt install libaio-dev g++){where}")
    try:
        check_lockable(SWAP_BUFFERS * 4 * SWAPPED)
        SwapFolder(folder).close()
    except UserError as error:
        yield Finding(level, "disk", f"{error}{where}")
        return
    free = shutil.disk_usage(folder).free
    text = f"{_gib(free)} free in {folder} here; `eagleray plan` tells what a worker needs there"
    yield Finding("ok", "disk", text)


def ahead(recipe: Recipe, profile: Profile) -> Iterator[Finding]:
    """Whether the readers' memory has room for what all of them read at once."""
    if profile.augment == "readers":  # what they make of a sample has a size of its own
        return
    batch = recipe.global_batch // profile.workers * Decoder(recipe.data.decode).row_bytes
    reader = profile.reader
    if (least := reader.least(batch)) > reader.memory:
        yield Finding(
            "warning",
            "readers",
            f"reader.memory has room for {reader.memory / batch:.1f} batches of {_mib(batch)}, in "
            f"which {reader.tasks_ahead} read tasks wait for each other; set it to {least} or more",
        )


def dataset(recipe: Recipe, profile: Profile, data: Data) -> Iterator[Finding]:
    """Whether the data can be opened, and is enough for the batch and the readers."""
    if data.fault:
        yield Finding("error", "data", data.fault)
        return
    if data.unindexed:
        text = (
            "training would read them first: `eagleray index URL` does so once, ahead, and with "
            "`--keep RUN` where the data are read-only"
        )
        yield Finding("warning", "data", f"{data.unindexed}; {text}")
        return
    if data.samples < recipe.global_batch:
        text = f"{data.samples} samples, fewer than the global batch of {recipe.global_batch}"
        yield Finding("error", "data", f"{text}; set global_batch")
        return
    epochs = recipe.samples / data.samples
    text = f"{data.samples:,} samples, {epochs:.2g} epochs"
    yield Finding("ok", "data", text)
    readers = profile.workers * profile.reader.tasks_ahead
    if 0 < data.shards < readers:  # without any, samples are made and not read
        text = (
            f"{data.shards} shards for {readers} read tasks: several read one file at once, which "
        )
        yield Finding("warning", "shards", text + "an object store may throttle; pack more shards")


def evaluations(recipe: Recipe, faults: Sequence[str]) -> Iterator[Finding]:
    """Whether the data of all evaluations can be found."""
    for fault in faults:
        yield Finding("error", "evaluations", fault)
    if recipe.evaluations and not faults:
        text = f"the data of {len(recipe.evaluations)} are there"
        yield Finding("ok", "evaluations", text)


def writable(url: str, here: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Whether a run can be written to its place, and what the clock there says."""
    probe = storage.join(url, ".doctor")
    try:
        before = here()
        storage.write_text(probe, "")
        written, after = storage.changed(probe), here()
        storage.remove(probe)
    except UserError as error:
        yield Finding("error", "out", str(error))
        return
    yield Finding("ok", "out", f"{storage.join(url)} can be written")
    if written is not None:
        yield _apart(max(before - written, written - after), "out's clock")


def trackers(profile: Profile, run: str, here: bool = True) -> Iterator[Finding]:
    """Whether metrics can go where they should.

    Args:
        profile: Where they should.
        run: URL of the run.
        here: Whether the workers are on this machine, and its packages theirs.
    """
    level: Level = "error" if here else "warning"
    fine = []
    for tracker in profile.trackers:
        try:
            tracker.check(run)
        except UserError as error:
            yield Finding(level, "trackers", str(error))
        else:
            fine.append(TRACKERS.kind_of(tracker))
    if fine:
        yield Finding("ok", "trackers", f"metrics go to {', '.join(fine)}")


def skew(clocks: Iterable[float], here: Callable[[], float]) -> Finding:
    """Whether nodes' clocks agree with this machine's, up to the time that asking takes.

    Args:
        clocks: Seconds since 1970 on each node, asked one after the other.
        here: The same on this machine.
    """
    worst = 0.0
    before = here()
    for clock in clocks:
        after = here()
        worst = max(worst, before - clock, clock - after)
        before = here()
    return _apart(worst, "the cluster's clock")


def _apart(seconds: float, whose: str) -> Finding:
    if seconds > _SKEW:
        text = f"{whose} is {seconds:.0f} s off; credentials and logs need it right (NTP)"
        return Finding("error" if seconds > 60 else "warning", "clocks", text)
    return Finding("ok", "clocks", f"{whose} agrees with this machine's")


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
