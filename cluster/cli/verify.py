"""``eagleray verify``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli._options import Json, ProfileName, Set, Workers, profile
from cluster.cli._progress import bar, say
from cluster.cli._terminal import result_alone, tell
from pipelines.core import ConfigError, DataError, StorageError


def command(
    data: Annotated[
        str, typer.Argument(help="A recipe's name or file, tars (a URL pattern), or a run.")
    ],
    workers: Workers = None,
    stop_at: Annotated[
        int | None, typer.Option("--stop-at", help="Samples after which the workers stop.", min=0)
    ] = None,
    resume_with: Annotated[
        int | None, typer.Option("--resume-with", help="Workers that go on from there.", min=1)
    ] = None,
    keys_out: Annotated[
        Path | None, typer.Option("--keys-out", help="File for the delivered keys, in order.")
    ] = None,
    profile_name: ProfileName = "laptop",
    overrides: Set = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Address of a Ray cluster.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Stream an epoch exactly as training would, and prove that every sample came once.

    Of tars nothing is decoded unless it is asked for: --set data.decode.size=224. Of a run,
    what its steps were made of is audited instead, where its profile had it kept (ledger: true).

    Example: eagleray verify 'tars/train-*.tar' --workers 2 --stop-at 5000 --resume-with 4
    """
    from cluster.session import connect
    from cluster.verify import (
        Legs,
        describe,
        is_run,
        verify,
        verify_run,
    )

    if is_run(data):
        _refuse([workers, stop_at, resume_with, overrides, cluster], profile_name)
        with _lines_to(keys_out) as note:
            _tell(verify_run(data, note), as_json)
        return
    streamed = describe(data, tuple(overrides or ()))
    chosen = profile(profile_name, workers)
    legs = Legs(chosen.workers, stop_at, resume_with)
    legs.shares(streamed.global_batch, 1)
    # Whichever leg has more workers decides what a cluster of one's own must hold.
    largest = chosen.model_copy(update={"workers": max(chosen.workers, resume_with or 1)})
    say(f"connecting to {cluster}" if cluster else "starting Ray")
    with (
        result_alone(),
        connect(largest, cluster),
        _lines_to(keys_out) as note,
        bar("samples") as watch,
    ):
        result = verify(streamed, legs, chosen.reader, note, watch)
    _tell(result, as_json)


def _refuse(options: Sequence[object], profile_name: str) -> None:
    if profile_name != "laptop" or any(option is not None for option in options):
        raise ConfigError("of a run only --keys-out and --json can be given: its order is its own")


def _tell(result: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(result, indent=2)) if as_json else _show(result)
    if not result["exact"]:
        raise DataError(f"delivery is not exact: {result['examples'][0]}")


@contextlib.contextmanager
def _lines_to(file: Path | None) -> Iterator[Callable[[str], object]]:
    if file is None:
        yield lambda key: None
        return
    try:
        with file.open("w", encoding="utf-8") as sink:
            yield lambda key: sink.write(f"{key}\n")
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror or type(error).__name__}") from None


def _show(result: dict[str, Any]) -> None:
    for fault in result["damaged_shards"]:
        tell(f"damaged: {fault['shard']}: {fault['reason']}")
    for fault in result["faults"][:10]:
        tell(f"unreadable: {fault['key']} in {fault['shard']}: {fault['reason']}")
    once = "once" if result["delivered"] <= result["samples"] else "as often as the order has it"
    verdict = f"every one came {once}, in order" if result["exact"] else "NOT exact"
    print(
        f"{result['delivered']:,} samples from {result['shards']} shards: {verdict} "
        f"({result['unreadable']} unreadable, {result['missing']} missing, "
        f"{result['repeated']} repeated, {result['misplaced']} misplaced)"
    )
    if result.get("left_out"):
        print(f"{result['left_out']:,} of them made no update: their batch's loss was not finite")
    print(f"keys sha256 {result['keys']}")
    if "seconds" in result:
        print(f"{result['seconds']:.1f} s, {result['samples_per_second']:,.0f} samples/s")
    for example in result["examples"]:
        tell(example)
