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
with connect(Profile(workers=1)) as session:
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


def test_no_cluster_at_an_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**options: object) -> None:
        raise ConnectionError("nobody\nthere")

    monkeypatch.setattr(ray, "init", refuse)
    message = r"no Ray cluster at 10\.0\.0\.1:6379: nobody"
    with pytest.raises(UserError, match=message) as caught, connect(Profile(), "10.0.0.1:6379"):
        pass
    assert "\n" not in str(caught.value)
