"""Decoding: bytes of a sample become arrays and strings."""

from pipelines.decode.sample import Decoder, DecoderConfig, SampleError

__all__ = ["Decoder", "DecoderConfig", "SampleError"]
