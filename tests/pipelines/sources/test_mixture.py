from __future__ import annotations

import pickle

import numpy as np
import pytest

from pipelines.core import ConfigError, validate
from pipelines.core.source import Part, RawSample
from pipelines.order import MixedOrder
from pipelines.reader import DataConfig, Reader, Share
from pipelines.sources.mixture import Mixture
from pipelines.sources.synthetic import Synthetic


def config(*weights: float, sizes: tuple[int, ...] = (10, 4, 7)) -> Mixture.Config:
    return Mixture.Config.model_validate(
        {
            "of": [
                {"source": {"kind": "synthetic", "samples": n, "size": 16, "seed": n}, "weight": w}
                for n, w in zip(sizes, weights, strict=False)
            ]
        }
    )


def alone(samples: int) -> list[RawSample]:
    source = Synthetic(Synthetic.Config(samples=samples, size=16, seed=samples))
    return list(source.read(np.arange(samples)))


def test_sample_numbers_count_through_all_data_sets():
    source = Mixture(config(1, 1, 1))
    expected = [*alone(10), *alone(4), *alone(7)]
    assert list(source.read(np.arange(21))) == expected
    asked = np.random.default_rng(0).integers(0, 21, 50)
    assert list(source.read(asked)) == [expected[i] for i in asked]
    assert list(source.read(np.array([], dtype=np.int64))) == []


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((1, 1, 1), [3333] * 3),
        ((0.7, 0.2, 0.1), [7000, 2000, 1000]),
        ((10_000_000, 700), [999_930, 70]),  # 7 parts in 100,000: the finer unit
    ],
)
def test_weights_become_whole_numbers(weights, shares):
    parts = Mixture(config(*weights)).parts
    assert [part.weight for part in parts] == shares
    assert [part.size for part in parts] == [10, 4, 7][: len(weights)]


def test_batches_of_any_worker_count_have_the_composition():
    data = {
        "source": {"kind": "mixture", **config(3, 1).model_dump(mode="json")},
        "decode": {"size": None, "text": {"caption": "txt"}},
    }
    reader = Reader(Mixture(config(3, 1)), DataConfig.model_validate(data), 5)
    assert isinstance(reader.order, MixedOrder)
    for workers in (1, 2, 4):
        for batch in range(6):
            tables = [
                next(reader.batches(Share(8, rank, workers, batch, batch + 1)))
                for rank in range(workers)
            ]
            samples = np.concatenate([table["sample"].to_numpy() for table in tables])
            assert (samples < 10).sum() == 6
            assert samples.tolist() == reader.order.at(8 * batch, 8 * batch + 8)[1].tolist()


def test_it_pickles_and_its_digest_is_that_of_its_data():
    source = Mixture(config(1, 1))
    again = pickle.loads(pickle.dumps(source))
    assert again.digest == source.digest
    assert Mixture(config(1, 5)).digest == source.digest
    assert Mixture(config(1, 1, sizes=(4, 10))).digest != source.digest
    assert (source.shards, list(source.faults)) == (0, [])
    assert list(again.parts) == [Part(10, 5000), Part(4, 5000)]


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ([{"source": {"kind": "synthetic"}, "weight": 1}], "of"),
        ([{"source": {"kind": "synthetic"}, "weight": 0}] * 2, "of.0.weight"),
        ([{"source": {"kind": "syntetic"}, "weight": 1}] * 2, "did you mean 'synthetic'"),
    ],
)
def test_a_mixture_that_is_none_is_refused(of, message):
    with pytest.raises(ConfigError, match=message):
        validate(Mixture.Config, {"of": of}, "here")


def test_a_weight_that_would_become_another_one_is_refused():
    with pytest.raises(ConfigError, match=r"a weight of 100 beside 1e\+09 in all is too small"):
        Mixture(config(1e9, 100))


def test_a_mixture_in_a_mixture_is_refused():
    inner = {"kind": "mixture", **config(1, 1).model_dump(mode="json")}
    of = [{"source": inner, "weight": 1}, {"source": {"kind": "synthetic"}, "weight": 1}]
    with pytest.raises(ConfigError, match="list its data sets in the outer one"):
        validate(Mixture.Config, {"of": of}, "here")
