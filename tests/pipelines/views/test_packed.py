from __future__ import annotations

import pyarrow as pa
import pytest
import torch

from pipelines.core.batch import Batch
from pipelines.views import Augmented, unpack

VIEWS = {
    "a": torch.rand(4, 3, 5, 5),
    "x:y": torch.arange(8).view(4, 2),  # a name with the mark in it
    "present": torch.tensor([True, False, True, True]),
    "identity": torch.arange(4),
}


def table(rows: int = 4) -> pa.Table:
    numbers = list(range(rows))
    texts = [str(n) for n in numbers]
    return pa.table(
        {
            "sample": numbers,
            "epoch": [0] * rows,
            "key": texts,
            "fault": [""] * rows,
            "image": [bytes(100)] * rows,
        }
    )


def views(given: pa.Table) -> Batch:
    samples = torch.tensor(given["sample"].to_pylist())
    return Batch(samples, samples * 7, {name: view[samples] for name, view in VIEWS.items()})


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_views_travel_as_they_are_however_tables_are_cut(threads: None) -> None:
    packed = Augmented(views, threads=1)(table())
    assert set(packed.column_names) >= {"sample", "epoch", "key", "fault"}
    assert "image" not in packed.column_names
    parts = pa.concat_tables([packed.slice(0, 1), packed.slice(1, 3)])
    for whole in (packed, parts):
        batch = unpack(whole, torch.device("cpu"))
        assert batch.samples.tolist() == [0, 1, 2, 3]
        assert batch.keys.tolist() == [0, 7, 14, 21]
        assert batch.views.keys() == VIEWS.keys()
        for name, view in VIEWS.items():
            assert batch.views[name].dtype == view.dtype, name
            assert torch.equal(batch.views[name], view), name
    last = unpack(packed.slice(2, 2), torch.device("cpu"))
    assert torch.equal(last.views["a"], VIEWS["a"][2:])
    last.views["a"].zero_()  # a copy: what Ray holds is read-only


def test_all_views_of_a_repeated_sample_travel_in_its_row(threads: None) -> None:
    views_of = {name: view.repeat_interleave(2, 0) for name, view in VIEWS.items()}
    views_of["a"] = torch.rand(8, 3, 5, 5)
    batch = Batch(torch.arange(4).repeat_interleave(2), torch.arange(8), views_of)
    packed = Augmented(lambda given: batch, threads=1)(table())
    assert packed.num_rows == 4
    found = unpack(packed.slice(1, 2), torch.device("cpu"))
    assert found.samples.tolist() == [1, 1, 2, 2]
    assert found.keys.tolist() == [2, 3, 4, 5]
    for name, view in views_of.items():
        assert torch.equal(found.views[name], view[2:6]), name
