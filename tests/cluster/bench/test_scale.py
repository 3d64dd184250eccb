from __future__ import annotations

from cluster.bench.scale import simulate


def test_a_billion_samples_open_in_little_memory() -> None:
    found = simulate(10**9, 100_000, 1024, 32_768)
    assert found["peak_megabytes"] < 300
    assert set(found["seek_seconds"]) == {"at 1%", "at 37%", "at 99%"}
    assert found["open_seconds"] > 0
    assert found["plan_microseconds"]["mean"] > 0
