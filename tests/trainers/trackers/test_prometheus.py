from __future__ import annotations

import re

import pytest

from trainers.trackers import prometheus
from trainers.trackers.prometheus import Prometheus


class Recorded:
    """A gauge that keeps what it is told."""

    made: list[Recorded]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]):
        self.name, self.tag_keys = name, tag_keys
        self.seen: list[tuple[float, dict[str, str]]] = []
        self.made.append(self)

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tag_keys)
        self.seen.append((value, tags))


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    Recorded.made = []
    monkeypatch.setattr(prometheus, "Gauge", Recorded)
    return Recorded.made


def test_every_metric_is_one_gauge_with_its_latest_value(gauges: list[Recorded]) -> None:
    made = Prometheus(Prometheus.Config(), run="runs/a", samples=0)
    made.log({"loss": 1.0}, samples=8)
    made.log({"loss": 0.5}, samples=16)
    assert {gauge.name: gauge.seen for gauge in gauges} == {
        "eagleray_loss": [(1.0, {"run": "runs/a"}), (0.5, {"run": "runs/a"})],
        "eagleray_samples": [(8.0, {"run": "runs/a"}), (16.0, {"run": "runs/a"})],
    }


def test_names_are_such_as_prometheus_allows(gauges: list[Recorded]) -> None:
    made = Prometheus(Prometheus.Config(), run="runs/a", samples=0)
    made.log({"top-1 (%)": 1.0, "größe/x": 2.0}, samples=8)
    assert all(re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", gauge.name) for gauge in gauges)


def test_no_credential_becomes_a_tag(
    gauges: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "hunter2hunter2")
    Prometheus(Prometheus.Config(), run="s3://b/hunter2hunter2", samples=0).log({}, samples=8)
    assert gauges[0].seen[0][1] == {"run": "s3://b/***"}


@pytest.mark.ray
def test_rays_own_gauges_take_it(ray_cluster: object) -> None:
    made = Prometheus(Prometheus.Config(), run="runs/a", samples=0)
    made.log({"loss": 1.0, "top-1": 0.5}, samples=8)
    names = [gauge.info["name"] for gauge in made._gauges.values()]
    assert names == ["eagleray_loss", "eagleray_top_1", "eagleray_samples"]
