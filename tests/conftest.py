"""What all tests share: one thread of mathematics, and one Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[object]:
    """The one local cluster of the test run, as a ``cluster.session.Session``."""
    from cluster.profile import Profile
    from cluster.session import connect

    with connect(Profile(workers=2)) as session:
        yield session
