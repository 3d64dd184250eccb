from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from pipelines.core.source import Part
from pipelines.decode import Decoder, DecoderConfig
from pipelines.sources.synthetic import Synthetic


def make(samples: int = 30, size: int = 32, seed: int = 0) -> Synthetic:
    return Synthetic(Synthetic.Config(samples=samples, size=size, seed=seed))


def test_a_sample_is_the_same_in_any_order_and_process():
    source, again = make(), pickle.loads(pickle.dumps(make()))
    whole = list(source.read(np.arange(30)))
    asked = np.random.default_rng(0).integers(0, 30, 20)
    assert list(again.read(asked)) == [whole[i] for i in asked]


def test_samples_and_seeds_differ():
    pictures = [raw.members["png"] for seed in (0, 1) for raw in make(seed=seed).read(np.arange(9))]
    assert len(set(pictures)) == 18


def test_captions_and_labels_say_what_is_drawn():
    raws = list(make().read(np.arange(9)))
    assert len({raw.members["txt"] for raw in raws}) == 9
    for raw in raws:
        label = json.loads(raw.members["json"])
        assert raw.members["txt"].decode() == f"{label['group']} {label['tags'][0]}"


@pytest.mark.parametrize("size", [16, 33, 64])
def test_pictures_have_their_colour_and_size(size):
    decode = Decoder(DecoderConfig(size=size, text={"group": "json.group"}))
    for raw in make(size=size).read(np.arange(9)):
        sample = decode(raw)
        assert sample.image.shape == (size, size, 3)
        # The drawn shape is the most saturated part: its strongest channel is the caption's.
        spread = np.ptp(sample.image.astype(int), axis=2)
        drawn = sample.image[spread > 100].mean(axis=0)
        assert ["red", "green", "blue"][int(drawn.argmax())] == sample.texts["group"]


def test_it_is_one_part_that_no_file_holds():
    source = make(10)
    assert list(source.parts) == [Part(10)]
    assert source.shards == 0
    assert list(source.faults) == []


def test_the_digest_is_the_config():
    assert make().digest == make().digest
    assert len({make().digest, make(31).digest, make(size=64).digest, make(seed=1).digest}) == 4
