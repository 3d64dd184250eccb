"""Before training: the run folder, the index and the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipelines.core import ConfigError, UserError
from pipelines.core.config import load_yaml
from pipelines.decode.text import decode_field
from pipelines.decode.tokenizer import Tokenizer
from pipelines.reader import SOURCES, Reader, open_source
from pipelines.shards import storage
from pipelines.shards.index_tasks import scan_on_cluster
from pipelines.shards.quarantine import write_quarantine
from trainers.checkpoint import Commit, latest
from trainers.core.objective import Objective
from trainers.hooks import quarantine_url
from trainers.model import RECIPE, TOKENIZER, build_objective
from trainers.recipe import Recipe, differences, parse_recipe

_CAPTIONS = 200_000  # more teach a tokenizer nothing new
_TOGETHER = 4096
# What a run leaves that never got to a commit.
_LEFT = (
    *(TOKENIZER, "run.json", "metrics.jsonl", "skipped.json", "views.json"),
    *("quarantine.parquet", "clock.json", "mlflow.json"),
)


@dataclass(frozen=True)
class Prepared:
    """What training starts from: reader, parameter count, and the data set's shard count."""

    reader: Reader
    parameters: int
    shards: int


def whole_url(run: str) -> str:
    """A run's URL; of a local folder its absolute path."""
    fs, path = storage.locate(run)
    return str(Path(path).absolute()) if storage.is_local(fs) else run


def claim(run: str, recipe: Recipe) -> str:
    """Make a run folder this recipe's, or find that it is.

    A folder in which another recipe was started but never got to a commit
    has nothing to lose, and is taken over.

    Returns:
        The folder's absolute URL.

    Raises:
        ConfigError: It holds a run of another recipe.
        StorageError: It cannot be written.
    """
    url = whole_url(run)
    place = storage.join(url, RECIPE)
    if storage.exists(place):
        old = parse_recipe(load_yaml(storage.read_text(place), place), place)
        changed = differences(old, recipe)
        if not changed:
            if old != recipe:
                storage.write_text(place, recipe.to_yaml())
            return url
        if latest(url) is not None:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise ConfigError(
                f"{run}: holds a run of another recipe ({changed[0]}{more}); "
                "choose another --out, or delete it"
            )
        for name in _LEFT:
            storage.remove(storage.join(url, name))
    storage.write_text(place, recipe.to_yaml())
    return url


def prepare(run: str, recipe: Recipe) -> Prepared:
    """Open and index the data, train or load the tokenizer, and try to build the model.

    Raises:
        UserError: Something does not fit; nothing has been trained yet.
    """
    source = open_source(recipe.data.source, fallback=run, scan=scan_on_cluster)
    reader = Reader(source, recipe.data, recipe.seed)
    if reader.order.size < recipe.global_batch:
        raise ConfigError(
            f"global_batch is {recipe.global_batch} but the data set has only "
            f"{reader.order.size} samples; set global_batch to at most that"
        )
    found = latest(run)
    if found and found.state().data != source.digest:
        raise UserError(
            f"{run}: the data set changed since the run's last commit; choose another --out"
        )
    tokenizer = _tokenizer(run, recipe, reader, found)
    objective: Objective = build_objective(recipe, tokenizer)
    parameters = sum(p.numel() for p in objective.parameters())
    write_quarantine(quarantine_url(run), [asdict(fault) for fault in source.faults])
    return Prepared(reader, parameters, source.shards)


def _tokenizer(run: str, recipe: Recipe, reader: Reader, found: Commit | None) -> Tokenizer | None:
    if recipe.tokenizer is None:
        return None
    if found:  # the one that its weights were trained with, verified
        return Tokenizer.from_json(found.read_text(TOKENIZER), recipe.tokenizer.length)
    place = storage.join(run, TOKENIZER)
    if storage.exists(place):
        return Tokenizer.from_json(storage.read_text(place), recipe.tokenizer.length)
    tokenizer = train_tokenizer(recipe, reader)
    if tokenizer is not None:
        storage.write_text(place, tokenizer.to_json())
    return tokenizer


def train_tokenizer(recipe: Recipe, reader: Reader) -> Tokenizer | None:
    """Train a recipe's tokenizer on its captions; None where it has none.

    Raises:
        ConfigError: The recipe decodes no text.
    """
    if recipe.tokenizer is None:
        return None
    fields = list(recipe.data.decode.text.values())
    if not fields:
        kind = SOURCES.kind_of(recipe.data.source)
        raise ConfigError(f"tokenizer: needs a text; set data.decode.text for the {kind} source")
    return Tokenizer.train(_texts(reader, fields), recipe.tokenizer)


def _texts(reader: Reader, fields: Sequence[str]) -> Iterator[str]:
    """Captions in the order of the first epoch, which is a fair sample of a large set."""
    count = min(reader.order.size, _CAPTIONS)
    for start in range(0, count, _TOGETHER):
        _, samples = reader.order.at(start, min(start + _TOGETHER, count))
        for raw in reader.source.read(np.sort(samples)):
            for field in fields:
                try:
                    found = decode_field(raw.members, field)
                except ValueError:
                    continue  # the reader quarantines it when its turn comes
                yield from [found] if isinstance(found, str) else found
