"""``eagleray index``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli._options import Json
from cluster.cli._progress import bar, say
from cluster.cli._terminal import result_alone, tell
from pipelines.core import UserError

if TYPE_CHECKING:
    from pipelines.shards.index import Index, Listed, Scan, Scanned


def command(
    url: Annotated[str, typer.Argument(help="Tars: a URL with {0..9} braces or * globs.")],
    keep: Annotated[
        str | None, typer.Option("--keep", help="Folder for the index of a read-only data set.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Address of a Ray cluster.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the index of a data set by Ray tasks, or refresh it: only what is new is read.

    Training does the same by itself; a large data set is better indexed once, ahead.

    Example: eagleray index 's3://bucket/train-*.tar'
    """
    from cluster.profile import Profile
    from cluster.session import connect
    from pipelines.shards.index import open_index
    from pipelines.shards.index_tasks import scan_on_cluster
    from pipelines.shards.storage import SHIPPED

    if url.startswith(SHIPPED):
        raise UserError(f"{url}: comes with the project and needs no index")
    say(f"connecting to {cluster}" if cluster else "starting Ray")
    with result_alone(), connect(Profile(), cluster), bar("shards") as watch:
        started = time.perf_counter()
        counted = Counted(scan_on_cluster, watch)
        index = open_index(url, keep, counted)
        result = describe(index, counted.scanned, time.perf_counter() - started)
    print(json.dumps(result, indent=2)) if as_json else _show(result)


class Counted:
    """A scan that shows how far it is.

    Args:
        scan: Does the work.
        watch: Called with (shards scanned, of how many).
    """

    def __init__(self, scan: Scan, watch: Callable[[int, int], object]):
        self._scan, self._watch = scan, watch
        self.scanned = 0

    def __call__(self, listed: Sequence[Listed], folder: str) -> Iterator[Scanned]:
        """Scan, as ``scan`` does."""
        for scanned in self._scan(listed, folder):
            self.scanned += 1
            self._watch(self.scanned, len(listed))
            yield scanned


def describe(index: Index, scanned: int, seconds: float) -> dict[str, Any]:
    """What an index holds, as plain data."""
    shards = index.shards
    return {
        "shards": shards.num_rows,
        "scanned": scanned,
        "samples": len(index),
        "bytes": sum(shards["size"].to_pylist()),
        "skipped_members": sum(shards["skipped"].to_pylist()),
        "damaged": [{"shard": f.shard, "reason": f.reason} for f in index.faults],
        "kept": "" not in shards["entries"].to_pylist(),
        "digest": index.digest,
        "seconds": seconds,
    }


def _show(result: dict[str, Any]) -> None:
    for fault in result["damaged"]:
        tell(f"damaged: {fault['shard']}: {fault['reason']}")
    print(
        f"{result['samples']:,} samples in {result['shards']:,} shards "
        f"({result['bytes'] / 1e6:,.1f} MB); {result['scanned']:,} shards read in "
        f"{result['seconds']:.1f} s"
    )
    if result["skipped_members"]:
        print(f"{result['skipped_members']:,} members belong to no sample")
    if not result["kept"]:
        print("not kept: the data set is read-only; --keep FOLDER keeps it elsewhere")
