from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.core import ConfigError
from pipelines.views import FilmFramesView, LongEnoughView, ViewBuilder
from pipelines.views.film import film_frames, fresh, own_frames


def test_a_film_lasts_up_to_its_last_frame_once() -> None:
    times = torch.stack([torch.arange(10).clamp(max=frames - 1) / 2 for frames in (1, 3, 9, 10)])
    assert film_frames(times).tolist() == [1, 3, 9, 10]


@pytest.mark.parametrize(
    ("shown", "frames"),
    [
        ([0, 0, 1, 1, 2, 2], 6),
        ([0, 0, 1, 2, 3, 3], 6),
        ([0, 0, 1, 1, 2, 2, 2, 2], 6),  # the last one as often as the others
        ([0, 1, 2, 2, 2, 3, 3, 3], 8),
        ([0, 1, 2, 3, 3, 3], 4),
        ([0, 0, 0, 0], 1),
    ],
)
def test_a_slow_film_shows_its_last_frame_as_often_as_others(shown: list[int], frames: int) -> None:
    assert film_frames(torch.tensor([shown]) / 4).tolist() == [frames]


def test_own_frames_come_first_and_in_order() -> None:
    times = torch.tensor([[0, 0, 1, 2, 2], [0, 1, 2, 3, 4], [7, 7, 7, 7, 7]]) / 8
    count, order = own_frames(times)
    assert count.tolist() == [3, 5, 1]
    assert order.tolist() == [[0, 2, 3, 1, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    assert fresh(times).sum(1).tolist() == count.tolist()


def test_views_are_of_every_sample_as_often_as_it_is_there() -> None:
    times = np.array([[0, 0, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]], np.float32)
    given = pa.table(
        {
            "epoch": [0, 0, 0],
            "sample": [0, 1, 2],
            "video.times": pa.FixedSizeListArray.from_arrays(pa.array(times.reshape(-1)), 4),
        }
    )
    spec = {"film": FilmFramesView(), "long": LongEnoughView(frames=3)}
    batch = ViewBuilder(spec, 0, None, None, torch.device("cpu"), repeats=2)(given)
    assert batch.views["film"].tolist() == [4, 4, 3, 3, 4, 4]
    assert batch.views["long"].tolist() == [False, False, True, True, True, True]
    for view in spec.values():
        with pytest.raises(ConfigError, match=r"set data\.decode\.video"):
            ViewBuilder({"view": view}, 0, None, None, torch.device("cpu"))(
                given.select(["epoch", "sample"])
            )
