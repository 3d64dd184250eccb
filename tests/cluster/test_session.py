from __future__ import annotations

import subprocess
import sys

import pytest

from cluster.profile import Profile
from cluster.session import Session, connect
from pipelines.core import UserError

OTHER = """
import time
from cluster.profile import Profile
from cluster.ray_jobs import RayJobs
from cluster.session import connect
with connect(Profile(workers=1), jobs=True) as session:
    jobs = RayJobs(session.dashboard, {})
    for attempt in range(60):
        try:
            jobs.start("one", "true")
            break
        except RuntimeError:
            time.sleep(0.5)
    while jobs.status("one") == "running":
        time.sleep(0.2)
    print(jobs.status("one"), session.dashboard)
"""


@pytest.mark.ray
def test_a_running_cluster_is_used_and_not_shut_down(ray_cluster: Session) -> None:
    import ray

    with connect(Profile()) as session:
        assert session.dashboard == ray_cluster.dashboard
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_second_cluster_on_the_machine_runs_jobs_as_well(ray_cluster: Session) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER], capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 0, done.stderr[-2000:]
    status, dashboard = done.stdout.split()
    assert status == "succeeded"
    assert dashboard != ray_cluster.dashboard


def test_a_cluster_that_takes_no_jobs_starts_no_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    asked: list[object] = []

    class Started:
        dashboard_url = None

    def init(**options: object) -> Started:
        asked.append(options["include_dashboard"])
        return Started()

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with connect(Profile()) as session:
        assert session.dashboard == ""
    with connect(Profile(), jobs=True):
        pass
    assert asked == [False, True]


def test_no_log_monitor_and_any_port_for_a_cluster_of_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray
    from ray._private import parameter

    original = parameter.RayParams
    made: list[object] = []

    class Started:
        dashboard_url = None

    def init(**options: object) -> Started:
        made.append(parameter.RayParams())
        return Started()

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with connect(Profile()):
        pass
    (found,) = made
    assert isinstance(found, original)
    assert (found.include_log_monitor, found.dashboard_agent_listen_port) == (False, 0)
    assert parameter.RayParams is original


def test_no_cluster_at_an_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**options: object) -> None:
        raise ConnectionError("nobody\nthere")

    monkeypatch.setattr(ray, "init", refuse)
    message = r"no Ray cluster at 10\.0\.0\.1:6379: nobody"
    with pytest.raises(UserError, match=message) as caught, connect(Profile(), "10.0.0.1:6379"):
        pass
    assert "\n" not in str(caught.value)
