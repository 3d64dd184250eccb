"""Decoding: bytes of a sample become arrays and strings."""

from pipelines.decode.audio import AudioConfig
from pipelines.decode.document import DocumentConfig
from pipelines.decode.sample import Decoder, DecoderConfig, Sample, SampleError
from pipelines.decode.video import VideoConfig

__all__ = [
    "AudioConfig",
    "Decoder",
    "DecoderConfig",
    "DocumentConfig",
    "Sample",
    "SampleError",
    "VideoConfig",
]
