from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from cluster.profile import Profile
from cluster.session import Session, connect
from pipelines.core import UserError

if TYPE_CHECKING:
    from ray._private.parameter import RayParams

OTHER = """
import time
from cluster.profile import Profile
from cluster.ray_jobs import RayJobs
from cluster.session import connect
with connect(Profile(workers=1), dashboard=True) as session:
    jobs = RayJobs(session.dashboard, {})
    for attempt in range(60):
        try:
            jobs.start("one", "true")
            break
        except RuntimeError:
            time.sleep(0.5)
    while jobs.status("one") in ("waiting", "running"):
        time.sleep(0.2)
    print(jobs.status("one"), session.dashboard)
"""

LATE = """
import cluster
import ray
try:
    ray.put(1)
except Exception as error:
    print(ray.is_initialized(), type(error).__name__)
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


def test_what_asks_ray_after_a_command_is_done_starts_no_cluster() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, check=True, timeout=150
    )
    assert done.stdout.split() == ["False", "RaySystemError"]


@pytest.fixture
def environments() -> list[dict[str, str]]:
    """What each cluster of one's own was started in."""
    return []


@pytest.fixture
def started(
    monkeypatch: pytest.MonkeyPatch, environments: list[dict[str, str]]
) -> list[tuple[dict[str, Any], RayParams]]:
    """What each cluster of one's own was started with; none is."""
    import ray
    from ray._private import parameter

    calls: list[tuple[dict[str, Any], RayParams]] = []

    class Context:
        dashboard_url = None

    def init(**options: Any) -> Context:
        calls.append((options, parameter.RayParams()))
        environments.append(dict(os.environ))
        return Context()

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return calls


def test_a_dashboard_only_where_it_is_asked_for(
    started: list[tuple[dict[str, Any], RayParams]],
) -> None:
    with connect(Profile()) as session:
        assert session.dashboard == ""
    with connect(Profile(), dashboard=True):
        pass
    assert [options["include_dashboard"] for options, _ in started] == [False, True]


def test_no_log_monitor_and_any_port_for_a_cluster_of_ones_own(
    started: list[tuple[dict[str, Any], RayParams]],
) -> None:
    from ray._private import parameter

    with connect(Profile()):
        pass
    ((_, found),) = started
    assert (found.include_log_monitor, found.dashboard_agent_listen_port) == (False, 0)
    assert found.no_monitor
    assert parameter.RayParams().include_log_monitor is not False


def test_processes_that_would_idle_are_spared_unless_asked_for(
    started: list[tuple[dict[str, Any], RayParams]],
    environments: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher, first = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "RAY_prestart_worker_first_driver"
    monkeypatch.delenv(watcher, raising=False)
    monkeypatch.delenv(first, raising=False)
    with connect(Profile()):
        assert {watcher, first}.isdisjoint(os.environ)
    monkeypatch.setenv(watcher, "1")
    with connect(Profile()):
        assert os.environ[watcher] == "1"
    assert [(e[watcher], e[first]) for e in environments] == [("0", "0"), ("1", "0")]
    assert len(started) == 2


def test_without_a_dashboard_nothing_is_measured_for_one(
    started: list[tuple[dict[str, Any], RayParams]],
    environments: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collection = "RAY_enable_metrics_collection"
    monkeypatch.delenv(collection, raising=False)
    with connect(Profile()):
        assert collection not in os.environ
    with connect(Profile(), dashboard=True):
        pass
    assert [e.get(collection) for e in environments] == ["0", None]
    assert len(started) == 2


def test_no_cluster_at_an_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**options: object) -> None:
        raise ConnectionError("Version mismatch:\n    Ray: 2.9\n")

    monkeypatch.setattr(ray, "init", refuse)
    message = r"cannot use a Ray cluster at 10\.0\.0\.1:6379: Version mismatch: Ray: 2\.9"
    with pytest.raises(UserError, match=message) as caught, connect(Profile(), "10.0.0.1:6379"):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://me:hunter22@head:8265", "me:hunter22@head:6379"])
@pytest.mark.parametrize("given", [True, False])
def test_an_address_with_credentials_is_refused_and_not_repeated(
    address: str, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(UserError, match=r"\*\*\*@head:.* must not hold credentials") as caught,
        connect(Profile(), address if given else None),
    ):
        pass
    assert "hunter22" not in str(caught.value)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_what_schedulers_send_stops_a_command_as_ctrl_c_does() -> None:
    with pytest.raises(KeyboardInterrupt), connect(Profile()):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is not signal.default_int_handler


@pytest.mark.ray
def test_elsewhere_than_in_the_main_thread_no_signal_is_touched(ray_cluster: Session) -> None:
    found: list[str] = []

    def look() -> None:
        with connect(Profile()) as session:
            found.append(session.dashboard)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(60)
    assert found == [ray_cluster.dashboard]
