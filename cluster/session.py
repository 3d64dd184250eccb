"""The Ray cluster of a command: an existing one, or one of its own."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray._private import parameter
from ray._private.node import Node
from ray.exceptions import AuthenticationError

from cluster.profile import Profile
from cluster.stopping import stopped_as_by_hand
from pipelines.core import UserError
from pipelines.shards.storage import refuse_secrets
from pipelines.unseen import COLLECTED

TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN in the environment"
_SMALLEST_STORE = 512 << 20
_LONGEST = 500  # characters of an error of the library's
# Of a cluster that goes with its command: workers started before anything asks for one, which
# training cannot use, or kept when they are done, and who asks whether a node is announced to go.
_SPARED = {
    "RAY_prestart_worker_first_driver": "0",
    "RAY_num_workers_soft_limit": "1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
# Without a dashboard nobody asks for the metrics of Ray's processes.
_UNSEEN = {COLLECTED: "0", "REPORTER_UPDATE_INTERVAL_MS": "60000"}


@dataclass(frozen=True)
class Session:
    """A connected cluster.

    Attributes:
        dashboard: URL that jobs are submitted to, or empty.
        mine: Whether it was started here, and so has this machine only.
    """

    dashboard: str
    mine: bool


def logical_cpus(profile: Profile) -> int:
    """Logical CPUs of a cluster of one's own: workers, their readers, and evaluation jobs.

    More than the machine's cores where those are few: they only bound what is
    admitted at once, and the system's scheduler shares the real ones.
    """
    reading = profile.workers * profile.reader.tasks_ahead * profile.reader.cpus
    training = profile.workers * profile.cpus_per_worker
    evaluating = profile.evaluations.at_once * profile.evaluations.cpus
    return max(os.cpu_count() or 1, int(training + reading + evaluating + 1.999))


def object_store(profile: Profile) -> int:
    """Bytes of the object store of a cluster of one's own: what readers may have waiting, and more.

    Ray's default, a third of the memory, is used up round and round, so that the memory of a
    run grows with its length until all of it is taken.
    """
    return max(_SMALLEST_STORE, profile.workers * profile.reader.memory * 5 // 4 + (256 << 20))


def check_address(address: str) -> None:
    """Refuse an address with credentials, since addresses are shown and kept.

    Raises:
        UserError: It holds some; the message does not repeat them.
    """
    url = address if "://" in address else f"ray://{address}"
    refuse_secrets(url, TOKEN)


@contextmanager
def connect(
    profile: Profile, address: str | None = None, dashboard: bool = False
) -> Iterator[Session]:
    """Connect to the cluster at ``address`` or $RAY_ADDRESS, or start one on this machine.

    Args:
        profile: What a cluster of one's own must hold.
        address: Of a cluster that is there.
        dashboard: Whether one of one's own has a dashboard, which takes jobs and tells
            Prometheus where metrics are. Its processes start for seconds and take some of a
            core from then on.

    Raises:
        UserError: There is no cluster at the address, or it holds credentials.
    """
    # A reader that waits a second for its next task would be ended, and its successor would
    # import the same again.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
    # Statistics of event loops, which only Ray's own log has, are a third of what an idle process
    # of Ray's takes; a run has a dozen of them beside the training.
    os.environ.setdefault("RAY_event_stats", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    address = address or os.environ.get("RAY_ADDRESS")
    check_address(address or "")
    mine = not address and not ray.is_initialized()
    url = _start(profile, address, dashboard)
    try:
        # Ray's own handler, set when it connects, ends the process three seconds after SIGTERM,
        # whatever it does.
        with stopped_as_by_hand():
            yield Session(url, mine)
    finally:
        if mine:
            ray.shutdown()


def _start(profile: Profile, address: str | None, dashboard: bool) -> str:
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if ray.is_initialized():
        options["ignore_reinit_error"] = True
    elif address:
        options["address"] = address
    else:
        # Not one that somebody else started here, or that died and left its address behind.
        options |= {"address": "local", "num_cpus": logical_cpus(profile)}
        options["include_dashboard"] = dashboard
        options["object_store_memory"] = object_store(profile)
    try:
        with warnings.catch_warnings(), _own_settings(dashboard):
            warnings.simplefilter("ignore")  # the library's own deprecations
            url = str(ray.init(**options).dashboard_url or "")
            _quieten_data()
            return url if "://" in url or not url else f"http://{url}"
    except (ConnectionError, RuntimeError, ValueError, AuthenticationError) as error:
        where = f"at {address}" if address else "on this machine"
        raise UserError(f"cannot use a Ray cluster {where}: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """What an error says, on one line: the library lists its reasons below each other."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (" ".join(lines) or type(error).__name__)[:_LONGEST]


def _quieten_data() -> None:
    """Keep Ray Data's lines about every graph in its log file, away from the user's terminal."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.ERROR)


@contextmanager
def _own_settings(dashboard: bool) -> Iterator[None]:
    """Set what ``ray.init`` cannot.

    The agent that runs jobs wants a fixed port: a second cluster's jobs on this machine would wait
    for ever. The log monitor sends workers' lines to the driver's terminal, which shows none, and
    the monitor starts nodes where there is only this one. Without a dashboard its process would
    count usage. What is spared are processes that idle: each wakes a hundred times a second,
    beside a step.
    """
    original, server = parameter.RayParams, Node.start_api_server
    parameter.RayParams = partial(
        original, dashboard_agent_listen_port=0, include_log_monitor=False, no_monitor=True
    )
    if not dashboard:
        Node.start_api_server = _no_server
    wanted = _SPARED if dashboard else _SPARED | _UNSEEN
    mine = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        parameter.RayParams, Node.start_api_server = original, server
        for name in mine:
            del os.environ[name]


def _no_server(node: Node, **options: object) -> None:
    """In place of the dashboard's."""
    del node, options
