from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.decode import audio
from pipelines.decode.audio import AudioConfig, decode_window
from pipelines.decode.errors import SampleError, reading
from pipelines.decode.media import opened

RATE = 16_000


def window(data: bytes, config: AudioConfig, key: int = 0, start: float | None = None):
    out = np.full(config.samples, 7.0, np.float32)
    with reading("audio"), opened(data) as container:
        return out, decode_window(container, config, key, start, out)


def lag(delivered, signal, rate, start, reach=2400):
    """By how many samples a window comes later than it should, and how well it fits."""
    place = round(start * rate)
    padded = np.pad(signal, (reach, reach + len(delivered)))
    around = padded[place : place + len(delivered) + 2 * reach]
    fits = np.correlate(around, delivered, "valid")
    best = int(np.argmax(fits))
    part = around[best : best + len(delivered)]
    return reach - best, np.corrcoef(part, delivered)[0, 1]


@pytest.mark.parametrize(
    ("format", "codec", "delay"),
    [
        ("wav", "pcm_s16le", 0),
        ("wav", "pcm_u8", 0),
        ("wav", "pcm_s24le", 0),
        ("wav", "pcm_s32le", 0),
        ("wav", "pcm_f32le", 0),
        ("wav", "pcm_f64le", 0),
        ("flac", "flac", 0),
        ("mp4", "aac", 0),
        ("mp3", "libmp3lame", 1105),  # its clock begins with the encoder's own delay
        ("ogg", "libopus", 0),
        ("matroska", "aac", 0),
        ("matroska", "flac", 0),
        ("webm", "libopus", 0),
        ("avi", "pcm_s16le", 0),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.3, 1.23456, 4.9])
def test_a_window_begins_with_the_sample_of_its_time(sound, noise, format, codec, delay, start):
    rate = 48_000 if codec == "libopus" else RATE
    signal = noise(6.0, rate)
    config = AudioConfig(rate=rate, seconds=0.5)
    delivered, at = window(sound(signal, format, codec, rate), config, start=start)
    late, fit = lag(delivered, signal, rate, start)
    assert at == start
    rounding = rate // 1000 if format in ("matroska", "webm") else 0  # whole milliseconds
    assert abs(late - delay) <= rounding
    assert fit > 0.98


def chirp(seconds):
    """A sine whose frequency grows from 100 Hz, at any times."""
    return 0.5 * np.sin(2 * np.pi * (100 * seconds + 150 * seconds**2))


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 44_101])
@pytest.mark.parametrize("start", [0.0, 1.5, 2.8])
@pytest.mark.parametrize("target", [8000, 16_000, 44_100])
def test_another_rate_keeps_every_sample_at_its_time(sound, rate, start, target):
    signal = chirp(np.arange(4 * rate) / rate).astype(np.float32)
    config = AudioConfig(rate=target, seconds=0.25)
    delivered, _ = window(sound(signal, "wav", "pcm_f32le", rate), config, start=start)
    nearest = round(start * rate) / rate
    expected = chirp(nearest + np.arange(config.samples) / target)
    inner = slice(40, -1) if start == 0.0 else slice(None)  # the sound's own sudden beginning
    assert np.abs(delivered - expected)[inner].max() < 3e-3


def test_a_click_is_where_it_was(sound):
    signal = np.zeros(3 * 48_000, np.float32)
    signal[round(1.7 * 48_000)] = 0.9
    config = AudioConfig(rate=16_000, seconds=1.0)
    delivered, _ = window(sound(signal, "flac", "flac", 48_000), config, start=1.2)
    assert int(np.argmax(np.abs(delivered))) == 8000


def test_random_windows_follow_the_key_and_cover_the_sound(sound, noise):
    signal = noise(4.0, RATE)
    data = sound(signal, "flac", "flac")
    config = AudioConfig(seconds=0.5)
    starts = []
    for key in range(-20, 20):
        delivered, at = window(data, config, key)
        assert np.array_equal(delivered, window(data, config, key)[0])
        place = round(at * RATE)
        assert delivered == pytest.approx(signal[place : place + config.samples], abs=1e-4)
        starts.append(at)
    assert len(set(starts)) == 40
    assert min(starts) < 0.3
    assert 3.2 < max(starts) <= 3.5


@pytest.mark.parametrize(("sampling", "start"), [("start", 0.0), ("centre", 1.5)])
def test_a_window_may_lie_at_a_fixed_place(sound, noise, sampling, start):
    config = AudioConfig(seconds=1.0, sampling=sampling)
    assert window(sound(noise(4.0, RATE)), config, key=3)[1] == start


def test_a_short_sound_ends_in_silence(sound, noise):
    signal = noise(0.4, RATE)
    delivered, at = window(sound(signal), AudioConfig(seconds=1.0), key=5)
    assert at == 0.0
    assert delivered[:6400] == pytest.approx(signal, abs=1e-4)
    assert not delivered[6400:].any()


@pytest.mark.parametrize("start", [-0.2, 0.35, 2.0])
def test_outside_of_the_track_there_is_silence(sound, noise, start):
    signal = noise(0.5, RATE)
    config = AudioConfig(seconds=0.3)
    delivered, _ = window(sound(signal), config, start=start)
    padded = np.pad(signal, 4 * RATE)
    place = 4 * RATE + round(start * RATE)
    assert delivered == pytest.approx(padded[place : place + config.samples], abs=1e-4)


def test_stereo_becomes_the_mean_of_its_channels(sound, noise):
    left = noise(1.0, RATE)
    both = np.stack([left, -0.5 * left])
    for format, codec in [("wav", "pcm_s16le"), ("flac", "flac")]:
        config = AudioConfig(seconds=0.5, sampling="start")
        delivered, _ = window(sound(both, format, codec), config)
        assert delivered == pytest.approx(0.25 * left[:8000], abs=1e-4)


def test_only_what_the_window_needs_is_decoded(sound, noise, monkeypatch):
    data = sound(noise(20.0, RATE), "flac", "flac")
    monkeypatch.setattr(audio, "_MOST", 24 - 500)  # frames of 72 ms for 0.5 + 0.5 seconds
    window(data, AudioConfig(seconds=0.5), start=18.0)
    monkeypatch.setattr(audio, "_MOST", 5 - 500)
    with pytest.raises(SampleError, match="more than 5 frames to decode for one window"):
        window(data, AudioConfig(seconds=0.5), start=18.0)


def test_a_sound_that_does_not_say_how_long_it_is_is_counted(sound, noise):
    signal = noise(4.0, RATE)
    data = sound(signal, "matroska", "flac", live="1")
    with opened(data) as container:
        assert container.duration is None
    delivered, at = window(data, AudioConfig(seconds=0.5, sampling="centre"))
    assert at == pytest.approx(1.75, abs=0.1)
    assert lag(delivered, signal, RATE, at)[0] in range(-8, 9)


def test_a_sound_shorter_than_it_says_gives_a_window_from_what_there_is(sound, noise):
    data = sound(noise(4.0, RATE), "flac", "flac")
    blocks = data.index(b"fLaC") + 8 + 10  # in its first metadata block
    packed = int.from_bytes(data[blocks : blocks + 8], "big")
    packed = packed >> 36 << 36 | 400 * RATE
    longer = data[:blocks] + packed.to_bytes(8, "big") + data[blocks + 8 :]
    delivered, at = window(longer, AudioConfig(seconds=0.5, sampling="centre"))
    assert at == pytest.approx(1.75, abs=0.1)
    assert np.abs(delivered).max() > 0.1


def test_floats_that_are_no_sound_are_put_right(sound, noise):
    data = bytearray(sound(0.1 * noise(1.0, RATE), "wav", "pcm_f32le"))
    for number, bad in enumerate([np.nan, np.inf, -np.inf, 1e30, 9.0]):
        place = len(data) - 4000 - 40 * number
        data[place : place + 4] = struct.pack("<f", bad)
    for rate in (RATE, 8000):
        delivered, _ = window(bytes(data), AudioConfig(rate=rate, seconds=1.0))
        assert np.isfinite(delivered).all()
        assert np.abs(delivered).max() <= 1.0
        assert np.abs(delivered[: rate // 2]).max() > 0.01


@pytest.mark.parametrize("rate", [0, 1, 999, 768_001, 2**31 - 1, 2**32 - 1])
def test_a_wild_rate_is_refused(sound, noise, rate):
    data = bytearray(sound(noise(1.0, RATE)))
    data[24:28] = struct.pack("<I", rate)
    with pytest.raises(SampleError):
        window(bytes(data), AudioConfig(seconds=600.0))


@pytest.mark.parametrize("data", [b"", b"\0" * 3000, b"RIFF\0\0\0\0WAVEfmt ", b"fLaC" + b"\1" * 99])
def test_what_is_not_a_sound_is_refused(data):
    with pytest.raises(SampleError, match=r"^(not a readable audio \(|no )"):
        window(data, AudioConfig())


def test_damage_never_raises_anything_else_and_is_not_printed(sound, noise, capfd):
    """Anything but SampleError would stop a run where it should cost one sample."""
    kinds = [
        ("wav", "pcm_s16le", RATE),
        ("wav", "pcm_f32le", RATE),
        ("flac", "flac", RATE),
        ("mp3", "libmp3lame", RATE),
        ("ogg", "libopus", 48_000),
        ("mp4", "aac", RATE),
    ]
    whole = [sound(noise(2.0, rate), format, codec, rate) for format, codec, rate in kinds]
    chance = random.Random(0)
    config = AudioConfig(rate=8000, seconds=0.5)
    refused = 0
    for turn in range(600):
        data = bytearray(whole[turn % len(whole)])
        if turn % 10 == 9:
            del data[chance.randrange(len(data)) :]
        for _ in range(chance.choice([1, 4, 40]) if data else 0):
            # Most of the damage goes where the headers are.
            reach = chance.choice([min(len(data), 100), min(len(data), 600), len(data)])
            data[chance.randrange(reach)] = chance.randrange(256)
        try:
            delivered, _ = window(bytes(data), config, key=turn)
            assert np.abs(delivered).max() <= 1.0
        except SampleError:
            refused += 1
    assert 60 < refused < 540
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("options", [{"rate": 10}, {"seconds": 0}, {"seconds": 1e9}])
def test_a_window_that_cannot_be_is_refused(options):
    with pytest.raises(ValidationError):
        AudioConfig(**options)
