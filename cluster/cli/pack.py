"""``eagleray pack``."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.cli._options import Json, Set
from cluster.cli._progress import console, say
from cluster.stopping import stopped_as_by_hand
from pipelines.core import Config, UserError, nearest, validate
from pipelines.shards.storage import join

if TYPE_CHECKING:
    from pipelines.packers import Packed

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_QUIET = 10.0  # seconds between two lines where there is no terminal
_SHOWN = 5


def command(
    src: Annotated[str, typer.Argument(help="A folder, a table or a pattern of tables: any URL.")],
    dest: Annotated[str, typer.Argument(help="Folder for the shards: any URL.")],
    kind: Annotated[
        str | None, typer.Option("--kind", help="See: list packers. Found out where not given.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What the shards' names begin with.")] = (
        "train"
    ),
    max_bytes: Annotated[str, typer.Option("--max-bytes", help="Most in a shard.")] = "256MiB",
    max_count: Annotated[
        int, typer.Option("--max-count", help="Most samples in a shard.", min=1)
    ] = 10_000,
    shuffle: Annotated[
        int | None,
        typer.Option(
            "--shuffle",
            metavar="SEED",
            help="An order by hashes of the keys, not by the keys themselves: neighbours then "
            "differ, as they should where shards are read in order or shuffled a little only.",
        ),
    ] = None,
    overrides: Set = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace shards of that name, once all new ones are there beside them.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file or row that is no sample.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write images, tables, IDX files or videos as indexed shards to train on.

    Equal sources give equal shards. What is no sample is left out and counted.
    Links that leave SRC, linked folders and hidden files are not followed.
    A packing that fails or is stopped leaves no new shards.

    Example: eagleray pack photos/ shards/ --name train --shuffle 0
    """
    from pipelines.packers import PACKERS, detect, open_tree, pack
    from pipelines.shards.writer import Bounds, check_place

    bounds = Bounds(parse_size(max_bytes), max_count)
    check_place(dest, name, overwrite)
    tree = open_tree(src)
    chosen = kind or detect(tree)
    config = configure(chosen, overrides or [])
    with stopped_as_by_hand(), _progress() as tell:
        packed = pack(
            PACKERS.build(config), tree, dest, name, bounds, shuffle, overwrite, strict, tell
        )
    pattern = join(dest, f"{name}-*.tar")
    facts = summary(chosen, pattern, packed)
    print(json.dumps(facts, indent=2)) if as_json else _show(facts)
    _index(pattern)


def _index(pattern: str) -> None:
    """Index the shards, or say how that is done: they are in their places whatever happens."""
    from pipelines.shards.index import open_index

    say(f"indexing {pattern}")
    try:
        with stopped_as_by_hand():
            open_index(pattern)
    except (UserError, KeyboardInterrupt):
        say(f"the shards are all there; eagleray index {shlex.quote(pattern)} finishes their index")
        raise


def configure(kind: str, overrides: list[str]) -> Config:
    """Build a packer's config from options.

    Raises:
        ConfigError: There is no such packer, or it has no such option.
    """
    from pipelines.packers import PACKERS
    from trainers.recipe import override

    if kind not in PACKERS.names():
        raise UserError(f"--kind: no packer '{kind}'; {nearest(kind, PACKERS.names())}")
    return validate(PACKERS.get(kind).config, override({}, overrides), kind)


def parse_size(text: str) -> int:
    """Read a number of bytes.

    >>> parse_size("256MiB"), parse_size("1.5 GB")
    (268435456, 1500000000)

    Raises:
        UserError: It is none.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)\s*([kmg]i?)?b?", text.strip().lower())
    size = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if size < 1:
        raise UserError(f"--max-bytes {text}: write a size such as 256MiB or 1GB")
    return size


def summary(kind: str, pattern: str, packed: Packed) -> dict[str, Any]:
    """Facts of a packing, for machines."""
    return {
        "kind": kind,
        "url": pattern,
        "samples": sum(shard.samples for shard in packed.shards),
        "bytes": sum(shard.size for shard in packed.shards),
        "shards": [asdict(shard) for shard in packed.shards],
        "skipped": {
            "count": packed.left.count,
            "reasons": dict(packed.left.reasons.most_common()),
            "first": [asdict(skipped) for skipped in packed.left.first],
        },
        "hidden": packed.hidden,
    }


def _show(facts: dict[str, Any]) -> None:
    out = Console(markup=False, highlight=False, soft_wrap=True)
    shards = len(facts["shards"])
    out.print(
        f"{facts['samples']:,} samples ({facts['kind']}) in {shards:,} shard{'s' * (shards != 1)}, "
        f"{facts['bytes'] / 1e6:,.1f} MB"
    )
    for reason, count in facts["skipped"]["reasons"].items():
        out.print(f"skipped {count:,}: {reason}")
    for skipped in facts["skipped"]["first"][:_SHOWN]:
        out.print(f"  {skipped['place']}: {skipped['reason']}")
    if facts["hidden"]:
        out.print(f"hidden files and folders, passed over: {facts['hidden']:,}")
    source = json.dumps({"kind": "webdataset", "url": facts["url"]}, ensure_ascii=False)
    out.print(f"train on them: --set {shlex.quote(f'data.source={source}')}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("samples"), TimeRemainingColumn())
    last = time.monotonic()
    quiet = not console.is_terminal
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        task = progress.add_task("packing", total=None)

        def tell(done: int, total: int) -> None:
            nonlocal last
            progress.update(task, completed=done, total=total)
            if quiet and time.monotonic() - last > _QUIET:
                last = time.monotonic()
                say(f"{done:,}/{total:,} samples")

        yield tell
