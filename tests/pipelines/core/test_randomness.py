from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core import permutation
from pipelines.core.randomness import integers, mix, normal, sample_keys, uniform

MASK = (1 << 64) - 1
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def reference_mix(x: int) -> int:
    """SplitMix64 on Python's own integers, written from the paper."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def unsigned(x: torch.Tensor) -> list[int]:
    return [value & MASK for value in x.tolist()]


def keys(count: int, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    samples = torch.arange(count)
    return sample_keys(seed, torch.full_like(samples, epoch), samples)


def test_splitmix64_gives_the_published_numbers():
    # The first outputs of the generator seeded with 1234567, as printed by the reference C code.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + step * golden) & MASK for step in range(5)]
    assert [reference_mix(state) for state in states] == published
    assert unsigned(mix(torch.from_numpy(np.array(states, np.uint64).view(np.int64)))) == published


@given(st.lists(INT64, min_size=1, max_size=20))
def test_mix_is_the_same_in_torch_in_numpy_and_in_python(values):
    numbers = np.array(values, np.int64)
    expected = [reference_mix(value & MASK) for value in values]
    assert unsigned(mix(torch.from_numpy(numbers))) == expected
    assert permutation.mix(numbers.view(np.uint64)).tolist() == expected


@given(seed=INT64, epoch=st.integers(0, 1 << 40), sample=st.integers(0, 1 << 62))
def test_sample_keys_follow_their_definition(seed, epoch, sample):
    key = sample_keys(seed, torch.tensor([epoch]), torch.tensor([sample]))
    state = reference_mix(reference_mix(seed & MASK) ^ epoch)
    assert unsigned(key) == [reference_mix(state ^ sample)]


def test_uniform_follows_its_definition():
    key = keys(3, seed=5)
    expected = [
        [(reference_mix(k ^ reference_mix(c + (7 << 32))) >> 40) / (1 << 24) for c in range(4)]
        for k in unsigned(key)
    ]
    assert uniform(key, 7, 4).tolist() == expected


def test_frozen_numbers():
    # A change here changes what every run sees: say so in CHANGELOG.
    key = sample_keys(3, torch.tensor([0, 1]), torch.tensor([0, 41]))
    assert key.tolist() == [6084141021458535187, -4909654645938292910]
    numbers = [[1226103, 5693425], [11191877, 10529740]]
    assert (uniform(key, 16, 2) * (1 << 24)).to(torch.int64).tolist() == numbers


@given(st.lists(INT64, min_size=1, max_size=50), st.integers(0, 1 << 20))
def test_uniform_lies_in_zero_to_one_without_one(values, stream):
    numbers = uniform(torch.tensor(values), stream, 8)
    assert numbers.dtype == torch.float32
    assert bool(((numbers >= 0) & (numbers < 1)).all())


def test_the_largest_number_is_below_one_in_float32():
    assert torch.tensor((1 << 24) - 1).to(torch.float32) * (1.0 / (1 << 24)) < 1


def test_a_number_depends_on_its_key_alone():
    key = keys(64)
    whole = uniform(key, 3, 5)
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform(key[shuffled], 3, 5), whole[shuffled])
    for place in range(0, 64, 7):
        assert torch.equal(uniform(key[place : place + 1], 3, 5)[0], whole[place])
    assert torch.equal(uniform(key, 3, 2), whole[:, :2])


def test_keys_differ_between_samples_epochs_and_seeds():
    many = torch.cat([keys(500, seed, epoch) for seed in range(4) for epoch in range(5)])
    assert len(set(many.tolist())) == len(many)


@pytest.mark.parametrize("stream", [0, 1, 16, 1024])
def test_numbers_are_uniform(stream):
    numbers = uniform(keys(20_000), stream, 2).flatten().numpy()
    counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
    expected = len(numbers) / 100
    chi_square = float((((counts - expected) ** 2) / expected).sum())
    # 99 degrees of freedom: mean 99, standard deviation 14; the numbers are fixed by the hash.
    assert 99 - 4 * 14 < chi_square < 99 + 5 * 14


def test_streams_counters_and_neighbouring_samples_are_uncorrelated():
    count = 20_000
    columns = torch.cat(
        [uniform(keys(count), stream, 3) for stream in (0, 1, 2, 16, 17, 1024)]
        + [uniform(keys(count, epoch=1), 0, 3), uniform(keys(count, seed=1), 0, 3)],
        dim=1,
    )
    columns = torch.cat([columns, columns.roll(1, dims=0)[:, :3]], dim=1)
    correlation = torch.corrcoef(columns.T) - torch.eye(columns.shape[1])
    assert correlation.abs().max() < 5 / math.sqrt(count)


def test_normal_numbers_have_the_moments_of_a_normal():
    numbers = normal(keys(50_000), 0, 2).double()
    assert numbers.shape == (50_000, 2)
    assert bool(torch.isfinite(numbers).all())
    flat = numbers.flatten()
    moments = [float((flat**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.05)
    assert float((flat.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.005)
    assert abs(float(torch.corrcoef(numbers.T)[0, 1])) < 0.02


def test_normal_is_box_muller_of_the_uniform_numbers():
    u = uniform(keys(100), 3, 4).double().numpy()
    expected = np.sqrt(-2 * np.log1p(-u[:, :2])) * np.cos(2 * np.pi * u[:, 2:])
    np.testing.assert_allclose(normal(keys(100), 3, 2).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("high", [1, 2, 3, 10])
def test_integers_cover_their_range_evenly(high):
    counts = torch.bincount(integers(keys(30_000), 4, high), minlength=high)
    assert len(counts) == high
    assert (counts / 30_000 - 1 / high).abs().max() < 0.01
