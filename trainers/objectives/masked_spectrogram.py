"""Reconstruct masked patches of a spectrogram from the visible ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pipelines import core
from pipelines.core import ConfigError
from pipelines.core.batch import Batch
from pipelines.core.randomness import uniform
from pipelines.views import AudioPresentView, AudioView
from pipelines.views.audio import ends
from trainers.core.objective import ComparingObjective, LossOutput, Rows, Surroundings
from trainers.losses.gather import gather
from trainers.losses.mean import global_mean
from trainers.losses.precision import wide
from trainers.models._transformer import encoder, positions
from trainers.models.mel_transformer import MelTransformer

_STREAM = 1


class MaskedSpectrogram(ComparingObjective):
    """Masked patches of a log-mel from the visible ones (Audio-MAE, arXiv:2207.06405).

    Huang et al., 2022. ``accuracy`` is how often a prediction is nearest to its own patch among
    the masked ones of its sound, which nothing is trained for (compare SSAST, Gong et al., 2022,
    arXiv:2110.09784). ``chance`` is that of who hears nothing and says of each place the mean
    of the batch's other sounds. Samples without a track are left out, and so are patches after
    a sound's end, all of which are alike.
    """

    repeats = True

    class Config(core.Config):
        """The tower (no other can run on some patches only), and the decoder.

        Attributes:
            tower: Audio tower; in training it hears visible patches only.
            masked: Share of patches that are masked.
            width: Of the decoder, a multiple of 32 (a head).
            layers: Of the decoder.
            normalise: Whether each target patch has mean 0 and deviation 1; in a patch of
                silence that makes its noise as important as a tone elsewhere.
        """

        tower: MelTransformer.Config = MelTransformer.Config(layers=4)
        masked: float = Field(default=0.75, gt=0, lt=1)
        width: int = Field(default=96, ge=32, multiple_of=32)
        layers: int = Field(default=1, ge=1)
        normalise: bool = True

    def __init__(self, config: Config, surroundings: Surroundings):
        super().__init__()
        self.views = {"sound": AudioView(), "present": AudioPresentView()}
        self._patch, self._normalise = config.tower.patch, config.normalise
        self.tower = MelTransformer(config.tower, surroundings)
        _, bands, windows = self.tower.spectrum(torch.zeros(1, surroundings.sound)).shape
        sides = bands // self._patch[0], windows // self._patch[1]
        self._patches = sides[0] * sides[1]
        # When patches begin, in samples: windows are around multiples of the hop, and the first
        # number of a Hann window is 0.
        mel, rate = config.tower.mel, surroundings.sound_rate
        self._columns = sides[1]
        self._stride = self._patch[1] * max(1, round(mel.hop * rate))
        self._reach = (max(2, round(mel.window * rate)) - 1) // 2
        self._kept = self._patches - round(config.masked * self._patches)
        if not 0 < self._kept < self._patches:
            raise ConfigError(
                f"objective.masked: {config.masked} of {self._patches} patches leaves nothing to"
                " see or nothing to tell; raise data.decode.audio.seconds, or lower tower.patch"
            )
        self.decoder = Decoder(config, sides)

    def encode(self, batch: Batch) -> Rows:
        """Predictions of the M masked patches, and what was heard. [B, M, h w], [B, bands, W]."""
        order = self._order(batch)
        spectrum = self.tower.spectrum(batch.views["sound"])
        tokens = self.tower.tokens(spectrum, order[:, : self._kept])
        # For ``compare``, which would make it again.
        return {"predicted": wide(self.decoder(tokens, order)), "spectrum": spectrum}

    def _order(self, batch: Batch) -> Tensor:
        """Numbers of all patches, visible ones first. [B, N]."""
        return uniform(batch.keys, _STREAM, self._patches).argsort(dim=1, stable=True)

    def heard(self, batch: Batch) -> Tensor:
        """Which patches begin before the sound's end: all others are silence. [B, N] bool."""
        end = torch.where(batch.views["present"], ends(batch.views["sound"]), 0)[:, None]
        columns = torch.arange(self._patches, device=end.device) % self._columns
        return (columns * self._stride - self._reach < end) & (end > 0)

    def _targets(self, spectrum: Tensor) -> Tensor:
        """All N patches, normalised if so set. [B, bands, W] -> [B, N, h w]."""
        targets = patchify(spectrum, self._patch)
        if self._normalise:
            variance, mean = torch.var_mean(targets, 2, keepdim=True)
            targets = (targets - mean) / (variance + 1e-6).sqrt()
        return targets

    def compare(self, rows: Rows, batch: Batch) -> LossOutput:
        """Hold predictions against what was masked, over all samples of which that was heard."""
        predicted, heard = rows["predicted"], self.heard(batch)
        every, places = self._targets(rows["spectrum"]), self._order(batch)[:, self._kept :]
        target, usual = at(every, places), at(self._usual(every, heard, batch.samples), places)
        told = heard.gather(1, places)
        count, usable = told.sum(1), told.any(1)
        losses = F.mse_loss(predicted, target, reduction="none").mean(2)
        losses = (losses * told).sum(1) / count.clamp(min=1)
        right, deaf = nearest(predicted.detach(), target, told), nearest(usual, target, told)
        metrics = {
            "accuracy": global_mean(right.sum(), count.sum()),
            "chance": global_mean(deaf.sum(), count.sum()),
            "answers": count.to(losses.dtype).mean(),
            "usable": usable.to(losses.dtype).mean(),
        }
        return LossOutput(global_mean(losses.sum(), usable.sum()), metrics)

    def _usual(self, every: Tensor, heard: Tensor, samples: Tensor) -> Tensor:
        """Mean patch of the global batch's other sounds that are heard at each place. [B, N, h w].

        A sound that an epoch's end puts into the batch twice is another one on another worker.
        """
        # A patch's last number says of how many sounds a sum is.
        known = F.pad(every, (0, 1), value=1.0) * heard[:, :, None]
        total = gather(known.sum(0, keepdim=True)).sum(0)
        same = samples[:, None] == samples
        with torch.autocast(every.device.type, enabled=False):  # it would round products
            mine = torch.einsum("bc,cnp->bnp", same.to(known.dtype), known)
        others = total - mine
        return others[:, :, :-1] / others[:, :, -1:].clamp(min=1)

    def encoders(self) -> Mapping[str, nn.Module]:
        """The tower, on all patches."""
        return {"audio": self.tower}


class Decoder(nn.Module):
    """A few layers over all patches; their width is small, as they are thrown away.

    Args:
        config: Sizes.
        sides: Patches along frequency and time.
    """

    def __init__(self, config: MaskedSpectrogram.Config, sides: tuple[int, int]):
        super().__init__()
        self._sides, self._width = sides, config.width
        self._embed = nn.Linear(config.tower.width, config.width)
        self._mask = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self._encoder = encoder(config.width, config.layers, config.width // 32)
        self._values = nn.Linear(config.width, config.tower.patch[0] * config.tower.patch[1])

    def forward(self, tokens: Tensor, order: Tensor) -> Tensor:
        """Predict masked patches.

        Args:
            tokens: Visible patches. [B, K, D]
            order: Numbers of all patches, visible ones first. [B, N] int64

        Returns:
            Masked patches in the order's order. [B, N - K, h w]
        """
        kept = tokens.shape[1]
        hidden = self._embed(tokens)
        mask = self._mask.to(hidden.dtype).expand(len(order), order.shape[1] - kept, -1)
        places = positions(self._sides, self._width, hidden)[order]
        states = self._encoder(torch.cat([hidden, mask], 1) + places)
        values: Tensor = self._values(states[:, kept:])
        return values


def at(patches: Tensor, places: Tensor) -> Tensor:
    """Patches by number. [B, N, h w], [B, M] -> [B, M, h w]."""
    return patches.gather(1, places[:, :, None].expand(-1, -1, patches.shape[2]))


def nearest(predicted: Tensor, target: Tensor, heard: Tensor) -> Tensor:
    """How many of each sound's predictions are nearest to their own patch.

    Args:
        predicted: [B, M, h w]
        target: What they are of. [B, M, h w]
        heard: Which of them count, to the others as well. [B, M] bool

    Returns:
        [B], in the format of the targets.
    """
    own = torch.arange(target.shape[1], device=target.device)
    distances = torch.cdist(predicted, target).masked_fill(~heard[:, None], float("inf"))
    found = (distances.argmin(2) == own) & heard
    return found.sum(1).to(target.dtype)


def patchify(spectrum: Tensor, sides: tuple[int, int]) -> Tensor:
    """Cut spectrograms into patches in reading order. [B, bands, W] -> [B, N, h w]."""
    return F.unfold(spectrum[:, None], sides, stride=sides).transpose(1, 2)
