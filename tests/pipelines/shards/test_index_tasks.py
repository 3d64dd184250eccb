from __future__ import annotations

import pytest

from pipelines.shards.index import build_index, scan_here
from pipelines.shards.index_tasks import scan_on_cluster


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_tasks_scan_as_this_process_does(tmp_path, make_tar):
    urls = [
        str(make_tar(tmp_path / f"{n}.tar", {f"{n}-{i}": {"txt": b"x"} for i in range(n + 1)}))
        for n in range(3)
    ]
    assert list(scan_on_cluster(urls)) == list(scan_here(urls))
    assert build_index(urls, scan_on_cluster).digest == build_index(urls).digest
