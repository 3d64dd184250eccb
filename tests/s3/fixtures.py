"""Fixtures of an S3 server: ``pytest_plugins = ["tests.s3.fixtures"]`` in a test module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3.proxy import FaultProxy
from tests.s3.server import S3Server, serve


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The one S3 server of the test run; ``environment`` points storage at it."""
    with serve(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[S3Server]:
    """The S3 server, with storage pointed at it for one test."""
    with s3_server.environment():
        yield s3_server


@pytest.fixture
def faults(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy before the S3 server, with storage pointed at it, and impatient, for one test."""
    with (
        FaultProxy(s3_server.port) as proxy,
        s3_server.environment(proxy.endpoint, EAGLERAY_STORAGE_TIMEOUT="0.3"),
    ):
        yield proxy
