"""A run on a cluster of two nodes of one machine, one of which goes: killed, or announced.

Run as a program, because a cluster of its own cannot live beside the tests' shared one:
``python -m tests.integration.two_nodes whole|kill|drain|grow TARS OUT``.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster

from cluster.profile import Profile
from cluster.run import train_run
from pipelines.reader_config import ReaderConfig
from tests.integration.conftest import lines_of, tar_recipe
from trainers.checkpoint import committed

# A node holds one worker with its readers, so that two workers take two nodes.
Strike = Callable[[Cluster], None]
CPUS = 2
# A node takes seconds to come and is looked for every five: the run must not be over by then.
SAMPLES = {"whole": 4_800, "kill": 4_800, "drain": 4_800, "grow": 19_200}
PROFILE = Profile(
    workers=2,
    min_workers=1,
    cpus_per_worker=1.5,
    reader=ReaderConfig(tasks_ahead=1, cpus=0.5, cache=0),
    ledger=True,
    wait_for_workers=120,
)


def main(what: str, tars: str, out: str) -> None:
    """Train, and do that to the second node once there is a commit; prints what happened when."""
    with socket.socket() as free:  # another cluster on this machine may have the usual one
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": CPUS, "dashboard_port": port}
    )
    if what != "grow":
        cluster.add_node(num_cpus=CPUS)
    # Small steps: with large ones rounding grows until two runs have nothing to do with each other.
    optimizer = {"learning_rate": 1e-4, "warmup": 0}
    recipe = tar_recipe(
        tars, samples=SAMPLES[what], commit_every=480, log_every=1, optimizer=optimizer
    )
    told = {"began": time.time()}
    strikes = {"kill": _kill, "drain": _drain, "grow": _grow}
    striker = threading.Thread(
        target=_strike, args=(strikes.get(what), cluster, Path(out), told), daemon=True
    )
    striker.start()
    train_run(
        recipe, PROFILE, out, command="test", watch=_unwatched, say=print, address=cluster.address
    )
    striker.join(5)
    print(json.dumps(told))
    ray.shutdown()
    cluster.shutdown()


def _unwatched(run: str, planned: int) -> contextlib.AbstractContextManager[None]:
    del run, planned
    return contextlib.nullcontext()


def _strike(act: Strike | None, cluster: Cluster, out: Path, told: dict[str, float]) -> None:
    if act is None:
        return
    while not committed(str(out)):
        time.sleep(0.05)
    told["struck"] = time.time()
    act(cluster)
    if act is _kill:
        while len([n for n in ray.nodes() if n["Alive"]]) == 2:
            time.sleep(0.05)
        told["noticed"] = time.time()
    while not any("went on from" in e["text"] and e["samples"] for e in events_of(out)):
        time.sleep(0.05)
    lines = len(lines_of(out))
    while len(lines_of(out)) <= lines:
        time.sleep(0.05)
    told["went_on"] = time.time()


def events_of(out: Path) -> list[dict[str, Any]]:
    """What happened to a run."""
    events: list[dict[str, Any]] = json.loads((out / "run.json").read_text())["events"]
    return events


def _kill(cluster: Cluster) -> None:
    cluster.remove_node(_second(cluster), allow_graceful=False)


def _drain(cluster: Cluster) -> None:
    """Announce that the node goes in 30 seconds, as a cloud does."""
    client = GcsClient(address=cluster.address)
    deadline = int((time.time() + 30) * 1000)
    client.drain_node(_second(cluster).node_id, 2, "preemption", deadline)


def _grow(cluster: Cluster) -> None:
    """Not by the cluster's own method, which wants the main thread."""
    ray_command = str(Path(sys.executable).parent / "ray")
    line = [ray_command, "start", f"--address={cluster.address}", f"--num-cpus={CPUS}", "--block"]
    quiet = subprocess.DEVNULL
    atexit.register(subprocess.Popen(line, stdout=quiet, stderr=quiet).terminate)


def _second(cluster: Cluster) -> Any:
    return next(iter(cluster.worker_nodes))


if __name__ == "__main__":
    main(*sys.argv[1:])
