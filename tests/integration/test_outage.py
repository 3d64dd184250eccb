"""An object store that answers nothing for a minute: the run waits, and nothing else differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.shards import storage
from tests.integration.conftest import tar_recipe
from tests.s3.proxy import FaultProxy, Plan
from tests.s3.server import S3Server

pytest_plugins = ["tests.s3.fixtures"]
pytestmark = pytest.mark.slow
MINUTE = 60


def upload(tars: str, bucket: str) -> str:
    """Copy tars into a bucket; returns their pattern there."""
    for url in storage.expand(tars):
        storage.write_atomic(f"{bucket}/{url.rpartition('/')[2]}", storage.read_bytes(url))
    return f"{bucket}/{tars.rpartition('/')[2]}"


@contextmanager
def training(recipe: Path, out: str, endpoint: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Train, with data and run in the bucket, on a cluster of its own; ended with the body."""
    profile = recipe.with_name("profile.yaml")
    profile.write_text("workers: 1\nreader: {cache: 0}\n")  # every epoch is read
    words = ["train", str(recipe), "--out", out, "--profile", str(profile)]
    line = [sys.executable, "-m", "cluster", *words]
    with log.open("w") as sink:
        process = subprocess.Popen(
            line, stdout=sink, stderr=sink, env={**os.environ, "AWS_ENDPOINT_URL": endpoint}
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def lines(run: str) -> list[dict[str, Any]]:
    url = f"{run}/metrics.jsonl"
    if not storage.exists(url):
        return []
    return [json.loads(line) for line in storage.read_text(url).splitlines()]


@pytest.mark.timeout(900)
def test_a_store_that_is_down_for_a_minute_costs_time_alone(
    s3: S3Server, tars: str, tmp_path: Path
) -> None:
    bucket = s3.make_bucket("outage")
    # Small windows: the stream cannot have read ahead of the outage.
    recipe = tar_recipe(upload(tars, bucket), samples=8_000, commit_every=480, log_every=1)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    with FaultProxy(s3.port) as proxy:
        runs = {name: f"{bucket}/{name}" for name in ("whole", "struck")}
        log = tmp_path / "whole.log"
        with training(tmp_path / "recipe.yaml", runs["whole"], s3.endpoint, log) as whole:
            assert whole.wait(300) == 0, log.read_text()[-900:]
        log = tmp_path / "struck.log"
        with training(tmp_path / "recipe.yaml", runs["struck"], proxy.endpoint, log) as struck:
            while not lines(runs["struck"]):
                assert struck.poll() is None, log.read_text()[-900:]
                time.sleep(0.1)
            proxy.plan = Plan(["503", "reset"])
            time.sleep(MINUTE)
            before = lines(runs["struck"])
            proxy.plan = Plan(rate=0.0)
            assert struck.wait(400) == 0, log.read_text()[-900:]
    assert proxy.injected.total() > 0
    assert len(before) < len(lines(runs["whole"]))
    assert [(x["samples"], x["loss"]) for x in lines(runs["struck"])] == [
        (x["samples"], x["loss"]) for x in lines(runs["whole"])
    ]
