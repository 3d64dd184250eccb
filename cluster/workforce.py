"""How many workers an attempt has: a pure choice among what the cluster's nodes can hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ray
from ray._private.state import available_resources_per_node
from ray.autoscaler.sdk import request_resources
from ray.util import placement_group, remove_placement_group

from cluster.profile import Profile
from pipelines.core import StorageError, UserError
from pipelines.shards import storage

Node = Mapping[str, float]
"""Resources of a node by name, such as ``{"CPU": 8.0, "GPU": 1.0}``."""

LOOK = 5.0  # seconds between two looks at the cluster
_SELDOM = 3600.0  # the same, at most, where runs left for room that was not there
_SURE = 2  # looks in a row that must find room before a run is interrupted for it
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
        tasks: Resources of read tasks that must have room, or no batch would ever come.
    """

    batch: int
    least: int
    most: int
    worker: Node
    reading: float
    tasks: Sequence[Node] = ()

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
        return cls(shared, least, profile.workers, worker_resources(profile), reading, tasks)


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
    return _largest(need, _room(need, nodes), _cpus(nodes))


def _room(need: Need, nodes: Sequence[Node]) -> int:
    """Workers for which nodes have room, each whole on one of them, without their readers."""
    return sum(
        min(int((node.get(name, 0.0) + _SLACK) / amount) for name, amount in need.worker.items())
        for node in nodes
    )


def _cpus(nodes: Sequence[Node]) -> float:
    return sum(node.get("CPU", 0.0) for node in nodes)


def _largest(need: Need, room: int, cpus: float) -> int:
    """The largest number, of at most ``room``, that a run may have and whose readers fit."""
    each = need.worker["CPU"] + need.reading
    fits = [
        n
        for n in range(need.least, min(need.most, room) + 1)
        if need.batch % n == 0 and n * each <= cpus + _SLACK
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
    """Ask an autoscaler for room, where the number of workers may vary.

    A fixed number asks for itself; a varying one asks for what there is room for.
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
        if not told and waited > _FREE:
            say(f"waiting for room for {need}")
            told = True
        time.sleep(1.0)


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
    readers = " and their readers" if need.tasks else ""
    return UserError(f"no room for {need}{readers} in {patience:g} s; add nodes, or {_LESS}")


def check_room(need: Need, nodes: Sequence[Node]) -> None:
    """Refuse what will never fit: on nodes to which none are added.

    Raises:
        UserError: There is no room for the fewest workers.
    """
    if not fitting(replace(need, reading=0.0), nodes):
        has = "; ".join(_text({name: n.get(name, 0.0) for name in need.worker}) for n in nodes)
        raise UserError(
            f"no room for {need} on this machine, which has {has}; {_LESS}, "
            "or give a --cluster that has them"
        )


def _text(node: Node) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in node.items())


class Growth:
    """Asks a run with fewer workers than it might have to leave once there is room for more.

    Args:
        need: What is asked for.
        workers: That it has.
        url: File that asks its workers to commit and leave.
        say: Tells the user a line.
        look: Looks at the cluster.
        every: Seconds between two looks.

    Attributes:
        asked: Whether it asked them.
    """

    def __init__(
        self,
        need: Need,
        workers: int,
        url: str,
        say: Callable[[str], None],
        look: Callable[[], tuple[list[Node], list[Node]]] = cluster_nodes,
        every: float = LOOK,
    ):
        self._need, self._workers, self._url = need, workers, url
        self._say, self._look, self._every = say, look, every
        self.asked = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="growth", daemon=True)

    def __enter__(self) -> Growth:
        if self._workers < self._need.most:
            storage.remove(self._url)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self._workers < self._need.most:
            self._thread.join()
            storage.remove(self._url)

    def _watch(self) -> None:
        seen = 0
        while not self._closed.wait(self._every):
            try:
                whole, free = self._look()
            except Exception as error:  # a cluster whose head is away for a while: of any type
                reason = (str(error) or type(error).__name__).splitlines()[0]
                self._say(f"could not look for room for more workers: {reason}")
                seen = 0
                continue
            seen = seen + 1 if grows(self._need, self._workers, whole, free) else 0
            if seen >= _SURE and self._ask():
                return

    def _ask(self) -> bool:
        try:
            storage.write_text(self._url, f'{{"workers": {self._workers}}}')
        except StorageError as error:
            self._say(f"could not ask for more workers, and will again: {error}")
            return False
        self.asked = True
        return True


def next_look(every: float, asked: bool, before: int, now: int) -> float:
    """Seconds between looks for room in the next attempt.

    Readers that wait have given their share back, so that what is free may look like more than
    there is for a larger run. One that left and is no larger now looks less often, so that it
    does not leave and come back without end.

    Args:
        every: The same of the last attempt.
        asked: Whether its workers were asked to leave for room.
        before: How many they were.
        now: How many the next attempt has.
    """
    if not asked:
        return every
    return LOOK if now > before else min(_SELDOM, 4 * every)


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
    taken = workers * (need.worker["CPU"] + need.reading)
    found = _largest(need, workers + _room(need, free), _cpus(free) + taken)
    return min(found, fitting(need, whole)) > workers
