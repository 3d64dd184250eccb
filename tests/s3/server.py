"""An S3 server of this machine, and the environment in which clients find it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import fsspec.asyn
import s3fs

from pipelines.shards import storage_places

JUICEFS = Path(sys.executable).with_name("juicefs")
ACCESS, SECRET = "eagleray-tests", "a-secret-of-the-tests"


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Attributes:
        port: Of 127.0.0.1.
        process: Its process number, to read the CPU time it took.
    """

    port: int
    process: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def environment(self, endpoint: str = "", **variables: str) -> Iterator[None]:
        """Point storage at the server, or at a proxy before it; nothing of it stays after.

        Args:
            endpoint: Another endpoint than the server's own.
            **variables: Further environment variables.
        """
        given = {
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        with mock.patch.dict(os.environ, {**given, **variables}):
            forget_clients()
            try:
                yield
            finally:
                forget_clients()

    def make_bucket(self, name: str) -> str:
        """Make a bucket, inside ``environment``; returns its URL."""
        storage_places.locate("s3://")[0].mkdir(name)
        return f"s3://{name}"


def forget_clients() -> None:
    """Close the S3 clients of this process: the next use reads the environment again."""
    for fs in list(s3fs.S3FileSystem._cache.values()):
        if fs._s3 is not None:
            fsspec.asyn.sync(fs.loop, fs._s3creator.__aexit__, None, None, None)
    s3fs.S3FileSystem.clear_instance_cache()
    storage_places._filesystem.cache_clear()


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[S3Server]:
    """Run a server whose data lie in a folder.

    Args:
        folder: An empty folder, or one served before.
        *options: Further options of the gateway, such as ``--read-only``.
    """
    meta = f"sqlite3://{folder}/meta.db"
    if not (folder / "meta.db").exists():
        bucket = ("--storage", "file", "--bucket", f"{folder}/data/")
        make = [JUICEFS, "format", meta, "tests", *bucket, "--trash-days", "0"]
        subprocess.run(make, check=True, capture_output=True, timeout=60)
    port, metrics = _free_port(), _free_port()
    command = [
        JUICEFS, "gateway", meta, f"127.0.0.1:{port}", "--multi-buckets", "--keep-etag",
        "--no-banner", "--no-usage-report", "--no-bgjob", "--backup-meta", "0",
        "--attr-cache", "0", "--metrics", f"127.0.0.1:{metrics}",
        "--cache-dir", f"{folder}/cache", "--log", f"{folder}/log", *options,
    ]  # fmt: skip
    keys = {"MINIO_ROOT_USER": ACCESS, "MINIO_ROOT_PASSWORD": SECRET}
    with (
        (folder / "output").open("wb") as output,
        subprocess.Popen(
            command, env={**os.environ, **keys}, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _wait(process, port, folder / "output")
            yield S3Server(port, process.pid)
        finally:
            process.kill()


def _wait(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    last = time.monotonic() + 60
    while time.monotonic() < last and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the S3 server did not start: {output.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
