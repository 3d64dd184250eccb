from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.decode.audio import AudioConfig, decode_window, wav_window
from pipelines.decode.media import opened
from pipelines.decode.wav import parse

RATE = 11_025
BITS = {"pcm_u8": 8, "pcm_s16le": 16, "pcm_s24le": 24, "pcm_s32le": 32}


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def riff(*chunks: bytes) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def form(channels: int = 1, bits: int = 16, tag: int = 1, rate: int = RATE) -> bytes:
    block = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits))


def extensible(bits: int, valid: int) -> bytes:
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    return chunk(b"fmt ", form(1, bits, 0xFFFE)[8:] + struct.pack("<HHI", 22, valid, 0) + guid)


def stored(frames: int, channels: int = 1, bits: int = 16) -> bytes:
    random = np.random.default_rng(frames)
    return chunk(b"data", random.bytes(frames * channels * bits // 8))


def by_ffmpeg(data: bytes, config: AudioConfig, key: int) -> tuple[np.ndarray, float]:
    out = np.full(config.samples, 7.0, np.float32)
    with opened(data) as container:
        return out, decode_window(container, config, key, None, out)


def directly(data: bytes, config: AudioConfig, key: int) -> tuple[np.ndarray, float]:
    out = np.full(config.samples, 7.0, np.float32)
    wav = parse(data)
    assert wav is not None
    return out, wav_window(wav, config, key, None, out)


@pytest.mark.parametrize("codec", BITS)
@pytest.mark.parametrize("seconds", [0.25, 3.0])
@pytest.mark.parametrize("sampling", ["start", "centre", "random"])
@pytest.mark.parametrize("target", [8000, RATE])
def test_it_gives_what_ffmpeg_gives(sound, noise, codec, seconds, sampling, target):
    mono = noise(2.0, RATE)
    for signal in (mono, np.stack([mono, mono[::-1]])):
        data = sound(signal, "wav", codec, RATE)
        assert parse(data).bits == BITS[codec]
        config = AudioConfig(rate=target, seconds=seconds, sampling=sampling)
        for key in (0, 12345):
            expected, start = by_ffmpeg(data, config, key)
            found, at = directly(data, config, key)
            assert at == pytest.approx(start, abs=1e-9)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_channels_and_other_chunks_are_as_for_ffmpeg(channels, bits):
    noted = chunk(b"LIST", b"INFOISFT\x03\0\0\0abc\0")
    data = riff(noted, form(channels, bits), noted, stored(4000, channels, bits), noted)
    config = AudioConfig(rate=RATE, seconds=0.3, sampling="centre")
    np.testing.assert_array_equal(directly(data, config, 0)[0], by_ffmpeg(data, config, 0)[0])


def test_what_pythons_own_library_writes_is_read():
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.array([[16384, -16384], [16384, 0]], "<i2").tobytes())
    config = AudioConfig(rate=RATE, seconds=3 / RATE, sampling="start")
    assert directly(sink.getvalue(), config, 0)[0].tolist() == [0.0, 0.25, 0.0]


@pytest.mark.parametrize(("bits", "valid"), [(32, 24), (32, 20), (24, 20), (16, 12), (16, 16)])
def test_fewer_valid_bits_than_stored_ones_are_read_as_the_whole_number(bits, valid):
    numbers = stored(4000, bits=bits)
    config = AudioConfig(rate=RATE, seconds=0.3, sampling="centre")
    found, _ = directly(riff(extensible(bits, valid), numbers), config, 0)
    np.testing.assert_array_equal(found, directly(riff(form(bits=bits), numbers), config, 0)[0])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"RIFX" + riff(form(), stored(9))[4:],
        riff(stored(9)),
        riff(stored(9), form()),
        riff(form()),
        riff(form(tag=3, bits=32), stored(9, bits=32)),  # floats
        riff(form(tag=2, bits=16), stored(9)),  # compressed
        riff(form(tag=0xFFFE), stored(9)),  # extensible, and does not say how
        riff(extensible(bits=16, valid=0), stored(9)),
        riff(extensible(bits=16, valid=17), stored(9)),
        riff(form(channels=0), stored(9)),
        riff(form(rate=0), stored(9)),
        riff(form(channels=2), stored(9)),  # half a frame is left over
        riff(form(), chunk(b"data", b"")),
        riff(form(), stored(9))[:-1],  # cut off
        riff(form(), b"data\xff\xff\xff\xff" + bytes(18)),  # a stream
        riff(*[chunk(b"junk", b"")] * 1000, form(), stored(9)),
    ],
)
def test_what_is_not_plain_is_left_to_ffmpeg(data):
    assert parse(data) is None


@given(st.data())
def test_damage_is_no_error(data):
    whole = riff(form(2), stored(50, 2))
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:place] + data.draw(st.binary(max_size=8)) + whole[place + 1 :]
    wav = parse(damaged)
    if wav is not None:
        assert wav.channels(0, len(wav)).shape[1] == len(wav) > 0
