from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.bench.loader import Loading, candidates, check_installed, pillow
from cluster.bench.photographs import jpeg, write_photographs
from pipelines.core import UserError
from pipelines.decode.image import decode_image

NAMES = ["ours", "decode_limit", "webdataset", "ray_read_webdataset"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore")  # what the other loaders tell their own developers
@pytest.mark.parametrize("name", NAMES)
def test_every_candidate_loads(tmp_path: Path, name: str) -> None:
    url = write_photographs(tmp_path, 48, distinct=4)
    measures = candidates(Loading(url, size=32, batch=8, seconds=0.2, cores=1))
    assert [*measures] == [*NAMES, "ray_read_webdataset_crowded"]
    assert measures[name]() > 0


def test_a_peer_that_is_missing_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="webdataset is not installed: pip install webdataset"):
        check_installed()


def test_the_peer_sees_the_same_picture() -> None:
    """Mean absolute difference in grey levels; how much of it is the filter stands in README."""
    differences = []
    for seed in range(8):
        data = jpeg(seed)
        side = min(Image.open(io.BytesIO(data)).size)
        for size in (side, 256):
            ours = decode_image(data, size).astype(int)
            differences.append(np.abs(ours - pillow(data, size).astype(int)).mean())
    assert max(differences[::2]) < 0.5  # not resized: only the decoders differ
    assert max(differences[1::2]) < 4.0
