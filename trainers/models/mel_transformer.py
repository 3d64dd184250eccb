"""Transformer over patches of a log-mel spectrogram as audio tower."""

from __future__ import annotations

from torch import Tensor, nn

from pipelines import core
from pipelines.core import ConfigError
from trainers.core.objective import Surroundings
from trainers.log_mel import SILENCE, LogMel, MelConfig
from trainers.models._transformer import encoder, positions


class MelTransformer(nn.Module):
    """Patches of time and frequency (AST, Gong et al., 2021, arXiv:2104.01778), mean-pooled."""

    class Config(core.Config):
        """Sizes.

        Attributes:
            mel: The spectrogram.
            width: Of the transformer.
            layers: Of it.
            heads: Of it.
            patch: Bands and windows of a patch.
        """

        mel: MelConfig = MelConfig()
        width: int = 192
        layers: int = 2
        heads: int = 4
        patch: tuple[int, int] = (16, 8)

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        if not surroundings.sound_rate:
            raise ConfigError("an audio tower needs sound: set data.decode.audio")
        if config.mel.bands % config.patch[0]:
            raise ConfigError(f"patches of {config.patch[0]} do not fit {config.mel.bands} bands")
        self.width = self.time_width = config.width
        self._windows = config.patch[1]
        self._mel = LogMel(config.mel, surroundings.sound_rate)
        self._cut = nn.Conv2d(1, config.width, config.patch, config.patch)
        self._encoder = encoder(config.width, config.layers, config.heads)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Features. [B, S] -> [B, width]; silence fills up the last patch."""
        return self.over_time(waveforms).mean(1)

    def over_time(self, waveforms: Tensor) -> Tensor:
        """Features of each patch's time. [B, S] -> [B, W, time_width]."""
        spectrum = self.spectrum(waveforms)
        times = spectrum.shape[2] // self._windows
        return self.tokens(spectrum).view(len(spectrum), -1, times, self.width).mean(1)

    def spectrum(self, waveforms: Tensor) -> Tensor:
        """Log-mel spectrograms of whole patches, -1 where silent. [B, S] -> [B, bands, W]."""
        # From the silence that the floor stands for to a loud tone: about -1 to 1.
        scaled = 1 - 2 * self._mel(waveforms) / SILENCE
        return nn.functional.pad(scaled, (0, -scaled.shape[2] % self._windows), value=-1.0)

    def tokens(self, spectrum: Tensor, places: Tensor | None = None) -> Tensor:
        """States of patches.

        Args:
            spectrum: As ``spectrum`` gives it. [B, bands, W]
            places: Numbers of the patches that are seen, in reading order; None for all.
                [B, K] int64

        Returns:
            [B, K, width]
        """
        patches = self._cut(spectrum[:, None])
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = tokens + positions(tuple(patches.shape[2:]), self.width, tokens)
        if places is not None:
            tokens = tokens.gather(1, places[:, :, None].expand(-1, -1, self.width))
        states: Tensor = self._encoder(tokens)
        return states
