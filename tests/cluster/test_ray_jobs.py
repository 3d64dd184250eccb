from __future__ import annotations

import os
import time
import uuid
from typing import Any

import pytest
import ray
from ray.exceptions import AuthenticationError, RaySystemError

from cluster import ray_jobs
from cluster.ray_jobs import RayJobs, beside_gpus, client
from cluster.session import Session
from cluster.workforce import Node
from pipelines.core import UserError


def test_no_server_is_one_line() -> None:
    with pytest.raises(UserError, match=r"no Ray job server at http://127\.0\.0\.1:1") as caught:
        client("http://127.0.0.1:1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:hunter22@head:1", "http://head:1/?token=hunter22"])
def test_an_address_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError, match="must not hold credentials; set RAY_AUTH_MODE") as caught:
        client(url)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_the_environment_does_not_send_jobs_elsewhere(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:2")
    with pytest.raises(UserError, match=r"at http://127\.0\.0\.1:1.*127\.0\.0\.1:1"):
        client("http://127.0.0.1:1")
    assert os.environ[name] == "http://127.0.0.1:2"


def test_a_cluster_that_wants_a_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> None:
        raise AuthenticationError("Token authentication is enabled but ...")

    monkeypatch.setattr(ray_jobs, "JobSubmissionClient", refuse)
    with pytest.raises(UserError, match=r"at http://h:1 wants a token; set RAY_AUTH_MODE=token"):
        client("http://h:1")


HEAD = {"CPU": 4.0, "node:10.0.0.1": 1.0, "node:__internal_head__": 1.0}
FULL = {"CPU": 8.0, "GPU": 8.0, "node:10.0.0.2": 1.0}
ROOMY = {"CPU": 8.0, "GPU": 8.0, "node:10.0.0.3": 1.0}
FREE = [{"CPU": 4.0}, {"CPU": 1.0}, {"CPU": 2.0}]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([HEAD, FULL, ROOMY], {"node:10.0.0.3": 0.001}),
        ([HEAD | {"GPU": 1.0}], {"node:10.0.0.1": 0.001}),
        ([HEAD], {}),
        ([], {}),
    ],
)
def test_a_job_without_a_gpu_of_its_own_goes_where_gpus_and_the_most_free_cpus_are(
    nodes: list[Node], expected: Node
) -> None:
    assert beside_gpus(lambda: (nodes, FREE[: len(nodes)])) == expected


def test_a_head_that_is_away_is_a_refusal_of_the_job() -> None:
    def away() -> tuple[list[Node], list[Node]]:
        raise RaySystemError("the head is away")

    with pytest.raises(RuntimeError, match=r"could not look for GPUs: .*the head is away"):
        beside_gpus(away)


@pytest.mark.ray
def test_a_job_takes_what_it_is_told_beside_cpus_and_gpus(
    ray_cluster: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, name = ray.nodes()[0]["Resources"], f"placed-{uuid.uuid4().hex[:6]}"
    own = next(key for key in here if key.startswith("node:") and "head" not in key)
    there = {own: 0.001}
    jobs, asked = RayJobs(ray_cluster.dashboard, {}, where=lambda: there), list[object]()
    _wait_for_the_agent(jobs)
    submit = jobs._client.submit_job

    def noted(**words: Any) -> str:
        asked.append(words["entrypoint_resources"])
        return submit(**words)

    monkeypatch.setattr(jobs._client, "submit_job", noted)
    jobs.start(name, "true")
    deadline = time.monotonic() + 60
    while jobs.status(name) != "succeeded" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert jobs.status(name) == "succeeded"
    assert asked == [there]


@pytest.mark.ray
def test_jobs_end_well_fail_and_are_stopped(ray_cluster: Session) -> None:
    jobs = RayJobs(ray_cluster.dashboard, {})
    tag = uuid.uuid4().hex[:6]
    commands = {"good": "true", "bad": "echo the reason; exit 3", "long": "sleep 600"}
    _wait_for_the_agent(jobs)
    for name, command in commands.items():
        jobs.start(f"{name}-{tag}", command)
        jobs.start(f"{name}-{tag}", command)  # the same job, not a second one
    ended: dict[str, str] = {}
    deadline = time.monotonic() + 60
    while len(ended) < 2 and time.monotonic() < deadline:
        for name in ("good", "bad"):
            if jobs.status(f"{name}-{tag}") not in ("waiting", "running"):
                ended[name] = jobs.status(f"{name}-{tag}")
        time.sleep(0.2)
    assert ended == {"good": "succeeded", "bad": "failed"}
    while jobs.last_words(f"bad-{tag}") != "the reason" and time.monotonic() < deadline:
        time.sleep(0.2)  # a log arrives a little after its job's end
    assert jobs.last_words(f"bad-{tag}") == "the reason"
    while jobs.status(f"long-{tag}") == "waiting" and time.monotonic() < deadline:
        time.sleep(0.2)  # the others may have ended before this one's turn came
    assert jobs.status(f"long-{tag}") == "running"
    names = {jobs.running(f"{name}-{tag[:3]}") for name in commands}
    assert names == {None, f"long-{tag}"}
    jobs.stop(f"long-{tag}")
    while jobs.status(f"long-{tag}") == "running" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert jobs.status(f"long-{tag}") == "failed"
    jobs.stop(f"long-{tag}")  # twice is no error


def _wait_for_the_agent(jobs: RayJobs) -> None:
    """A cluster answers a little before it can run jobs."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return jobs.start(f"first-{uuid.uuid4().hex[:6]}", "true")
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@pytest.mark.ray
def test_a_job_for_which_there_is_no_room_waits(ray_cluster: Session) -> None:
    jobs, name = RayJobs(ray_cluster.dashboard, {}, cpus=1000), f"large-{uuid.uuid4().hex[:6]}"
    _wait_for_the_agent(jobs)
    jobs.start(name, "true")
    try:
        time.sleep(1.0)
        assert jobs.status(name) == "waiting"
        assert jobs.running(name) == name
    finally:
        jobs.stop(name)
