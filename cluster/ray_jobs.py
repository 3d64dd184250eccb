"""Jobs on a Ray cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.evaluation_jobs import Status
from cluster.session import TOKEN, check_address, one_line
from cluster.workforce import Node, cluster_nodes
from pipelines.core import UserError

_OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # the library prefers them to its argument
_HEAD = "node:__internal_head__"
_TRACE = 0.001  # of a resource that every node has once: as little as can be taken
_PREAMBLE = "Running entrypoint for job"
_ENDED = {JobStatus.SUCCEEDED: "succeeded", JobStatus.FAILED: "failed", JobStatus.STOPPED: "failed"}
_TOLD = _ENDED | {JobStatus.PENDING: "waiting"}


def client(address: str) -> JobSubmissionClient:
    """Connect to the job server at an address, whatever the environment says of another.

    Raises:
        UserError: Nothing answers there, or the address holds credentials.
    """
    check_address(address)
    try:
        with _hidden(_OVERRIDES):
            return JobSubmissionClient(address)
    except AuthenticationError:
        raise UserError(f"the Ray cluster at {address} wants a token; {TOKEN}") from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"no Ray job server at {address}: {one_line(error)}") from None


@contextlib.contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Take variables out of the environment while the body runs."""
    values = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(values)


def beside_gpus(look: Callable[[], tuple[list[Node], list[Node]]] = cluster_nodes) -> Node:
    """Resources that put a job on a node with GPUs without taking one; none where no node has.

    Ray would put it on the head, or on nodes without GPUs while they have room. Of several it is
    the one with the most CPUs that are free.

    Args:
        look: Tells what the cluster's nodes have, and what of it is free.

    Raises:
        RuntimeError: The cluster's head does not answer.
    """
    try:
        whole, free = look()
    except Exception as error:  # of any type, while the head is away
        raise RuntimeError(f"could not look for GPUs: {one_line(error)}") from error
    pairs = [(node, spare) for node, spare in zip(whole, free, strict=True) if node.get("GPU")]
    if not pairs:
        return {}
    roomy, _ = max(pairs, key=lambda pair: pair[1].get("CPU", 0.0))
    own = (name for name in roomy if name.startswith("node:") and name != _HEAD)
    return dict.fromkeys(own, _TRACE)


class RayJobs:
    """Starts and watches jobs.

    Args:
        address: URL of the cluster's dashboard.
        environment: Ray runtime environment of every job.
        cpus: Logical CPUs of a job.
        gpus: GPUs of a job.
        where: Tells, for each job anew, what else it takes, by name.
    """

    def __init__(
        self,
        address: str,
        environment: dict[str, Any],
        cpus: float = 0,
        gpus: float = 0,
        where: Callable[[], Node] = dict,
    ):
        self._client = client(address)
        self._environment, self._cpus, self._gpus = environment, cpus, gpus
        self._where = where

    def start(self, name: str, command: str) -> None:
        """Start a job; one of the same name that exists already is left to run."""
        if self._exists(name):
            return
        self._client.submit_job(
            entrypoint=command,
            submission_id=name,
            runtime_env=self._environment or None,
            entrypoint_num_cpus=self._cpus,
            entrypoint_num_gpus=self._gpus,
            entrypoint_resources=dict(self._where()) or None,
        )

    def running(self, beginning: str) -> str | None:
        """A job that runs and whose name begins so."""
        jobs = [job for job in self._client.list_jobs() if job.status not in _ENDED]
        names = (job.submission_id or "" for job in jobs)
        return next((name for name in names if name.startswith(beginning)), None)

    def status(self, name: str) -> Status:
        """Where it stands."""
        found: Any = _TOLD.get(self._client.get_job_status(name), "running")
        status: Status = found
        return status

    def stop(self, name: str) -> None:
        """End it."""
        with contextlib.suppress(RuntimeError):  # it ended by itself in the meantime
            self._client.stop_job(name)

    def last_words(self, name: str) -> str:
        """Last line that it printed."""
        lines = self._client.get_job_logs(name).splitlines()
        said = [line for line in lines if line.strip() and not line.startswith(_PREAMBLE)]
        return said[-1][:300] if said else ""

    def _exists(self, name: str) -> bool:
        try:
            self._client.get_job_status(name)
        except RuntimeError:
            return False
        return True
