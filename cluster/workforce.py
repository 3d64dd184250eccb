"""How many workers an attempt has: a pure choice among what the cluster's nodes can hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ray
from ray._private.state import available_resources_per_node
from ray.autoscaler.sdk import request_resources
from ray.util import placement_group, remove_placement_group

from cluster.profile import Profile
from pipelines.core import UserError

Node = Mapping[str, float]
"""Resources of a node by name, such as ``{"CPU": 8.0, "GPU": 1.0}``."""

_ASKED = 60.0  # seconds that room for the fewest workers is asked for at a time
_FREE = 30.0  # seconds that an ended attempt's resources may take to be free again
_SLACK = 1e-6
_LESS = "lower workers or min_workers in the profile"


@dataclass(frozen=True)
class Need:
    """What a run asks of a cluster.

    Attributes:
        batch: What the workers must divide: the global batch, less what each cuts into parts.
        least: Fewest workers.
        most: Most workers.
        worker: Resources of a worker.
        reading: Logical CPUs of a worker's readers, on any node.
        drawing: GPUs of the fewest readers of a worker, which they keep while they wait.
        drawn: GPUs of all of its readers, which they may have while it trains.
        tasks: Resources of read tasks that must have room, or no batch would ever come.
    """

    batch: int
    least: int
    most: int
    worker: Node
    reading: float
    tasks: Sequence[Node] = ()
    drawing: float = 0.0
    drawn: float = 0.0

    @property
    def each(self) -> Node:
        """What a worker takes with its readers, in all."""
        gpus = self.worker.get("GPU", 0.0) + self.drawing
        return {"CPU": self.worker["CPU"] + self.reading, "GPU": gpus}

    @property
    def fewest(self) -> int:
        """Fewest workers that divide the batch; the least where none does."""
        numbers = range(self.least, self.most + 1)
        return next((n for n in numbers if self.batch % n == 0), self.least)

    @property
    def varies(self) -> bool:
        """Whether an attempt may have fewer workers than the most."""
        return self.least < self.most

    def __str__(self) -> str:
        workers = f"{self.least} to {self.most}" if self.varies else f"{self.most}"
        return f"{workers} workers of {_text(self.worker)}"

    @classmethod
    def of(cls, profile: Profile, batch: int) -> Need:
        """What a profile asks for, to train with a global batch that fits it."""
        least = profile.workers if profile.min_workers is None else profile.min_workers
        reading = profile.reader.tasks_ahead * profile.reader.cpus
        shared = batch // profile.engine.accumulate
        tasks = read_tasks(profile, profile.workers)
        worker, gpus = worker_resources(profile), profile.reader.gpus
        drawn = profile.reader.tasks_ahead * gpus
        return cls(shared, least, profile.workers, worker, reading, tasks, gpus, drawn)


def worker_resources(profile: Profile) -> dict[str, float]:
    """Resources of a training worker."""
    gpus = {"GPU": 1.0} if profile.device == "cuda" else {}
    return {"CPU": profile.cpus_per_worker, **gpus}


def read_tasks(profile: Profile, workers: int) -> list[Node]:
    """Resources of the fewest read tasks that so many workers can train with.

    A task that waits gives its CPUs back, so that one place is enough for all; GPUs it keeps.
    """
    cpus, gpus = profile.reader.cpus, profile.reader.gpus
    task = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    return [task] * (workers if gpus else 1) if task else []


def fitting(need: Need, nodes: Sequence[Node]) -> int:
    """The most workers that these nodes hold, that divide the batch, within the bounds; 0 for none.

    Args:
        need: What is asked for.
        nodes: What each node has.
    """
    return _largest(need, _room(need, nodes), _total(nodes))


def _room(need: Need, nodes: Sequence[Node]) -> int:
    """Workers for which nodes have room, each whole on one of them, without their readers."""
    return sum(
        min(int((node.get(name, 0.0) + _SLACK) / amount) for name, amount in need.worker.items())
        for node in nodes
    )


def _total(nodes: Sequence[Node]) -> Node:
    return {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}


def _largest(need: Need, room: int, total: Node) -> int:
    """The largest number, of at most ``room``, that a run may have and whose readers fit."""
    fits = [
        n
        for n in range(need.least, min(need.most, room) + 1)
        if need.batch % n == 0
        and all(n * amount <= total[name] + _SLACK for name, amount in need.each.items())
    ]
    return max(fits, default=0)


def choose(need: Need, whole: Sequence[Node], free: Sequence[Node], waited: float) -> int | None:
    """Decide how many workers an attempt starts with, or None to look again later.

    What is free is less than the whole while the last attempt is being cleared away, and
    where others use the cluster: after a while what is free has to do.

    Args:
        need: What is asked for.
        whole: What the nodes that stay have.
        free: What of it is free.
        waited: Seconds since the first look.
    """
    best, now = fitting(need, whole), fitting(need, free)
    return now if now and (now >= best or waited >= _FREE) else None


def cluster_nodes() -> tuple[list[Node], list[Node]]:
    """What the connected cluster's nodes have, and what of it is free; without those that go."""
    going = ray._private.state.state.get_draining_nodes() or {}
    free = available_resources_per_node()
    here = [n for n in ray.nodes() if n["Alive"] and n["NodeID"] not in going]
    return [n["Resources"] for n in here], [free.get(n["NodeID"], {}) for n in here]


@contextmanager
def demand(need: Need) -> Iterator[None]:
    """Ask an autoscaler for room to grow into, where the number of workers may vary.

    What a run cannot do without it asks for as it waits. This counts what others use as room,
    and a cluster knows the last such request alone.
    """
    if not need.varies:
        yield
        return
    # Readers ask for themselves: what does not fit as a whole would be left out as a whole.
    request_resources(bundles=[dict(need.worker)] * need.most)
    try:
        yield
    finally:
        request_resources(bundles=[])


def wait_for_workers(
    need: Need,
    patience: float,
    say: Callable[[str], None],
    look: Callable[[], tuple[list[Node], list[Node]]] = cluster_nodes,
) -> int:
    """Wait until the cluster has room, and say for how many workers.

    Args:
        need: What is asked for.
        patience: Seconds to wait at most.
        say: Tells the user that the run waits.
        look: Looks at the cluster.

    Raises:
        UserError: There was no room in time.
    """
    if not need.varies:
        _wait_for_all(need, patience, say)
        return need.most
    started, told = time.monotonic(), False
    while True:
        waited = time.monotonic() - started
        whole, free = look()
        found = choose(need, whole, free, waited)
        if found is not None:
            return found
        if waited > patience:
            raise _no_room(need, patience)
        if waited > _FREE:
            if not told:
                say(f"waiting for room for {need}")
            told = True
            _ask_for_the_fewest(need, min(_ASKED, patience - waited))
        time.sleep(1.0)


def _ask_for_the_fewest(need: Need, patience: float) -> None:
    """Reserve room for them and give it back: an autoscaler adds that to what is in use."""
    fewest = need.fewest
    drawing = need.tasks[:fewest] if need.drawing else ()
    cpus = fewest * need.reading - sum(task.get("CPU", 0.0) for task in drawing)
    # Of one CPU at most, so that readers may be on small nodes.
    reading = [1.0] * int(cpus) + [cpus % 1] * (cpus % 1 > _SLACK)
    wanted = [*[need.worker] * fewest, *drawing, *({"CPU": some} for some in reading)]
    group = placement_group([dict(bundle) for bundle in wanted])
    try:
        group.wait(patience)
    finally:
        remove_placement_group(group)


def _wait_for_all(need: Need, patience: float, say: Callable[[str], None]) -> None:
    """Reserve room for all workers and give it back: an autoscaler adds it to what is in use."""
    # Without a place to read a run would hold its devices and wait for its first batch.
    group = placement_group([*([dict(need.worker)] * need.most), *map(dict, need.tasks)])
    try:
        if group.wait(min(_FREE, patience)):
            return
        say(f"waiting for room for {need}")
        if not group.wait(max(0.0, patience - _FREE)):
            raise _no_room(need, patience)
    finally:
        remove_placement_group(group)


def _no_room(need: Need, patience: float) -> UserError:
    return UserError(f"no room for {need}{_readers(need)} in {patience:g} s; add nodes, or {_LESS}")


def check_room(need: Need, nodes: Sequence[Node]) -> None:
    """Refuse what will never fit: on nodes to which none are added.

    Raises:
        UserError: There is no room for the fewest workers.
    """
    if not fitting(replace(need, reading=0.0), nodes):
        readers = _readers(need) if need.drawing else ""
        has = "; ".join(_text({name: n.get(name, 0.0) for name in need.worker}) for n in nodes)
        raise UserError(
            f"no room for {need}{readers} on this machine, which has {has}; {_LESS}, "
            "or give a --cluster that has them"
        )


def _readers(need: Need) -> str:
    return " and their readers" if need.tasks else ""


def _text(node: Node) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in node.items())


def grows(need: Need, workers: int, whole: Sequence[Node], free: Sequence[Node]) -> bool:
    """Whether more workers would fit if these left: into what they give back and what is free.

    What they give back holds as many again, on the nodes where they are. Their readers' part of
    it is free already where those wait, so the whole cluster must have room as well.

    Args:
        need: What is asked for.
        workers: That the run has.
        whole: What the nodes that stay have.
        free: What is free on each node.
    """
    spare, taken = _total(free), replace(need, drawing=need.drawn).each
    total = {name: spare[name] + workers * amount for name, amount in taken.items()}
    found = _largest(need, workers + _room(need, free), total)
    return min(found, fitting(need, whole)) > workers
