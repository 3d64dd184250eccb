"""What all tests share: one thread of mathematics, one Ray cluster, and tars."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import fsspec
import pytest
import torch

torch.set_num_threads(1)

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
