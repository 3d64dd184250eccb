"""Features and labels of films, for evaluations. N films, D dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.augment.none import Nothing
from pipelines.core import Config
from pipelines.reader import Reader, Rows, Share, open_source
from pipelines.views import ClipView, ViewBuilder
from trainers.left_out import check_whole, readable
from trainers.recipe import Recipe

_TOGETHER = 64
_SEED = 0


@dataclass(frozen=True)
class Films:
    """Which films, and what to know of them.

    Attributes:
        data: Config of a source.
        label: Text field.
        samples: How many; all where there are fewer.
    """

    data: Config
    label: str
    samples: int


@torch.inference_mode()
def read_films(
    tower: nn.Module,
    view: ClipView,
    recipe: Recipe,
    films: Films,
    device: torch.device,
    fallback: str | None = None,
) -> tuple[Tensor, Sequence[str]]:
    """Read films and what a tower makes of them; unreadable ones are left out.

    Args:
        tower: Video tower, in evaluation mode.
        view: How films were cut in training; they are cut so, and not augmented. Nothing is asked
            of their order: short ones are seen as far as they go.
        recipe: Says how films are decoded.
        films: Which.
        device: The tower's.
        fallback: For the index of films that are read-only; None keeps it in memory.

    Returns:
        Features, on the CPU, and labels. [N, D] float32, N texts

    Raises:
        DataError: Over 1 % are unreadable or lack the label, or a shard is damaged.
    """
    plain = {"augmentation": Nothing.Config(), "each_frame": Nothing.Config(), "ordered": False}
    build = ViewBuilder({"clip": view.model_copy(update=plain)}, _SEED, None, None, device)
    wanted = {"size": None, "audio": None, "document": None, "text": {"label": films.label}}
    decode = recipe.data.decode.model_copy(update=wanted)
    data = recipe.data.model_copy(update={"decode": decode})
    source = open_source(films.data, fallback=fallback)
    check_whole(source)
    reader = Reader(source, data, _SEED)
    count = min(films.samples, reader.order.size)
    share = Share(_TOGETHER, 0, 1, 0, -(-count // _TOGETHER))
    features, labels = [], []
    for table in readable(reader.read(Rows(share, 0, count))):
        features.append(tower(build(table).views["clip"]).float().cpu())
        labels += table["text.label"].to_pylist()
    return torch.cat(features), labels
