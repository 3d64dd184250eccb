from __future__ import annotations

import io

import av
import numpy as np
import pytest

from pipelines.core.source import RawSample
from pipelines.decode import AudioConfig, Decoder, DecoderConfig, VideoConfig
from pipelines.sprites.encode import encode_clip

RATE = 8000


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray]:
    """A smooth pattern that moves, and noise. [12, 40, 40, 3], [N]."""
    x, y = np.meshgrid(np.linspace(0, 3, 40), np.linspace(0, 2, 40))
    waves = [np.sin(np.stack([x + t / 4, y, x - y], axis=-1)) for t in range(12)]
    sound = 0.4 * np.random.default_rng(0).uniform(-1, 1, 6000)
    return (127 + 120 * np.array(waves)).astype(np.uint8), sound.astype(np.float32)


@pytest.mark.parametrize(("codec", "error"), [("raw", 0), ("mjpeg", 2)])
@pytest.mark.parametrize("fps", [7, 16])
def test_the_decoder_reads_back_frames_times_and_sound(clip, codec, error, fps):
    frames, sound = clip
    data = encode_clip(frames, sound, fps, RATE, codec)
    config = DecoderConfig(
        size=None,
        video=VideoConfig(frames=12, rate=fps, size=40, sampling="start"),
        audio=AudioConfig(rate=RATE, seconds=0.7, sampling="start"),
    )
    arrays = Decoder(config)(RawSample("s", "k", {"mov": data})).arrays
    difference = np.abs(arrays["video"].astype(int) - frames)
    assert difference.mean() <= error
    assert np.allclose(arrays["video.times"], np.arange(12) / fps, atol=1e-4)
    assert arrays["audio.present"][0]
    assert np.abs(arrays["audio"] - sound[: len(arrays["audio"])]).max() < 1e-4


@pytest.mark.parametrize("codec", ["raw", "mjpeg"])
def test_the_coding_says_nothing_of_the_order_of_frames(clip, codec):
    frames, sound = clip
    forward, backward = (encode_clip(f, sound, 16, RATE, codec) for f in (frames, frames[::-1]))
    packets = []
    for data in (forward, backward):
        with av.open(io.BytesIO(data)) as container:
            found = [p for p in container.demux(video=0) if p.size]
            assert len(found) == len(frames)
            assert all(packet.is_keyframe for packet in found)
            packets.append([bytes(packet) for packet in found])
    assert packets[0] == packets[1][::-1]


@pytest.mark.parametrize("codec", ["raw", "mjpeg"])
def test_the_same_clip_gives_the_same_bytes(clip, codec):
    assert len({encode_clip(*clip, 16, RATE, codec) for _ in range(3)}) == 1


def test_jpeg_is_much_smaller(clip):
    raw, jpeg = (encode_clip(clip[0], clip[1][:0], 16, RATE, codec) for codec in ("raw", "mjpeg"))
    assert len(jpeg) < len(raw) / 2
