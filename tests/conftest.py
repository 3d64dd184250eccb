"""What all tests share: how examples are drawn, one thread of mathematics, Ray, and tars."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import fsspec
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# Seconds between two looks at whether training workers are done: many runs here take a few.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")

# Here, so that a test draws the same examples whichever others run with it. No deadline: that of
# a busy machine says nothing about the code.
settings.register_profile(
    "eagleray", deadline=None, derandomize=True, database=None, max_examples=60
)
settings.load_profile("eagleray")


Samples = Mapping[str, Mapping[str, bytes]]


def _tar(files: Iterable[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=format) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.fixture(scope="session")
def tar_bytes() -> Callable[..., bytes]:
    """(name, data) pairs to the bytes of a tar."""
    return _tar


@pytest.fixture(scope="session")
def make_tar() -> Callable[[Path, Samples], Path]:
    """Write ``{key: {extension: bytes}}`` as a plain tar."""

    def make(path: Path, samples: Samples) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        files = [(f"{key}.{ext}", data) for key, m in samples.items() for ext, data in m.items()]
        path.write_bytes(_tar(files))
        return path

    return make


@pytest.fixture
def memory() -> Iterator[str]:
    """A fresh folder of fsspec's memory filesystem."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield "memory://bucket"
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[object]:
    """The one local cluster of the test run, as a ``cluster.session.Session``."""
    from cluster.profile import Profile
    from cluster.session import connect

    with connect(Profile(workers=2), dashboard=True) as session:
        yield session
