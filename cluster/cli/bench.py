"""``eagleray bench``."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli._options import Json, ProfileName, Set, profile
from cluster.cli._progress import say
from cluster.cli._terminal import result_alone

app = typer.Typer()
STARTED = 15.0  # seconds from a first step until readers have started


@app.callback()
def _group() -> None:
    """Measure speed and memory: ratios against peers and limits, interleaved in one run.

    Example: eagleray bench loader --data 'tars/train-*.tar' --json
    """


@app.command()
def loader(
    data: Annotated[
        str | None,
        typer.Option("--data", help="Tars with images: a URL pattern. Default: drawn pictures."),
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Side of the pictures.", min=1)] = 256,
    batch: Annotated[int, typer.Option("--batch", help="Pictures a batch.", min=1)] = 256,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Of a measurement; as long goes by before it.")
    ] = 12.0,
    rounds: Annotated[int, typer.Option("--rounds", help="Measurements of each.", min=1)] = 3,
    as_json: Json = False,
) -> None:
    """Load images: this stream, its decoder alone, webdataset and Ray's own reader.

    Example: eagleray bench loader --data 'tars/train-*.tar' --size 256 --json
    """
    from cluster.bench.loader import Loading, candidates, check_installed, cores
    from cluster.bench.photographs import write_photographs
    from cluster.bench.rounds import interleave, medians, ratios

    check_installed()
    with result_alone(), tempfile.TemporaryDirectory(prefix="eagleray-bench-") as folder:
        if data is None:
            say("drawing pictures")
            data = write_photographs(Path(folder), 2048)
        loading = Loading(data, size, batch, seconds, cores())
        rates = interleave(candidates(loading), rounds, say)
    result = {
        **medians(rates),
        "ratios": ratios(rates, "ours"),
        "rounds": rates,
        "cores": loading.cores,
        "size": size,
        "batch": batch,
    }
    print(json.dumps(result, indent=2)) if as_json else _show(medians(rates), ratios(rates, "ours"))


@app.command()
def memory(
    samples: Annotated[
        int, typer.Option("--samples", help="Pictures of the small data set.", min=512)
    ] = 2048,
    times: Annotated[int, typer.Option("--times", help="How much larger the other is.")] = 8,
    size: Annotated[int, typer.Option("--size", help="Side of the pictures.", min=1)] = 256,
    as_json: Json = False,
) -> None:
    """Hold two data sets' epochs against each other: memory must not grow with the data.

    Example: eagleray bench memory --samples 2048 --times 8
    """
    from cluster.bench.loader import cores
    from cluster.bench.memory import epoch
    from cluster.bench.photographs import write_photographs
    from cluster.profile import Profile
    from cluster.session import connect
    from pipelines.reader_config import ReaderConfig

    found = {}
    config = ReaderConfig(batches_per_task=4, tasks_ahead=cores(), cache=0)
    with (
        result_alone(),
        tempfile.TemporaryDirectory(prefix="eagleray-bench-") as folder,
        connect(Profile(workers=1, cpus_per_worker=float(cores()))),
    ):
        for name, count in (("warm-up", samples), ("small", samples), ("large", times * samples)):
            place = Path(folder) / name
            place.mkdir()
            say(f"{name}: {count:,} pictures")
            found[name] = epoch(write_photographs(place, count), size, 256, config)
    found.pop("warm-up")
    growth = found["large"]["peak_megabytes"] / found["small"]["peak_megabytes"]
    result = {**found, "growth": growth}
    if as_json:
        print(json.dumps(result, indent=2))
        return
    for name, row in found.items():
        print(f"{name}: {row['samples']:,.0f} samples, at most {row['peak_megabytes']:,.0f} MB")
    print(f"{times} times the data holds {growth:.2f} times the memory")


@app.command()
def step(
    recipe: Annotated[str, typer.Argument(help="Recipe: a shipped one's name, or a file.")],
    profile_name: ProfileName = "laptop",
    steps: Annotated[
        int,
        typer.Option(
            "--steps", help="Of a measurement; the first third is not on the clock.", min=2
        ),
    ] = 60,
    rounds: Annotated[int, typer.Option("--rounds", help="Measurements of each.", min=1)] = 3,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train with one worker against a plain loop of the same modules with its data in memory.

    `ours` is the whole system, `loop` its engine, loop and tracking with the data in memory, too,
    and `bare` the plain loop. On a CPU the worker has the readers of all the profile's workers,
    which take 15 seconds to start, on the cores that it trains on: take --steps for a minute.
    Where reader.cache holds the whole data set, later epochs read nothing: a profile with
    `reader: {cache: 0}` tells what a step takes that reads.

    Example: eagleray bench step simclr-emoji --json
    """
    from cluster.bench.loader import cores
    from cluster.bench.rounds import interleave, medians, ratios
    from cluster.bench.step import alone, candidates, shares_of_peak, with_reading
    from cluster.bench.stepping import Stepping
    from trainers.recipe import load_recipe

    chosen = load_recipe(recipe, overrides or ())
    stepping = Stepping(chosen, alone(profile(profile_name, None)), steps)
    measures, told = candidates(stepping)
    with result_alone():
        rates = interleave(measures, rounds, say)
    names = {name for run in told for name in run}
    found = {n: statistics.median(run[n] for run in told if n in run) for n in sorted(names)}
    middle, apart = medians(rates), ratios(rates, "loop")["bare"]
    result = {
        **middle,
        "ratios": ratios(rates, "ours"),
        "loop_ratios": {"bare": apart},
        "rounds": rates,
        **found,
    }
    if stepping.profile.device == "cpu":
        result["bare_with_reading"] = with_reading(middle["bare"], found["read_seconds"], cores())
    mfu = shares_of_peak(stepping, middle, found["flops_per_sample"])
    if mfu:
        result["mfu"] = mfu
    if as_json:
        print(json.dumps(result, indent=2))
        return
    _show(middle, ratios(rates, "ours"))
    print(f"loop is {apart:.2f} times bare")
    _tell_step(result)


def _tell_step(result: Mapping[str, Any]) -> None:
    """What else the benchmark of a step found, line by line."""
    if result["warm_seconds"] < STARTED:
        started = f"the clock started {result['warm_seconds']:.0f} s after the first step"
        say(f"{started}, when readers were still starting: more --steps tell more")
    if result["cached_bytes"] and result["warm_epochs"] < 1:
        say("the clock started before all samples had been read once: more --steps tell more")
    elif result["cached_bytes"]:
        print("all samples are kept in memory (reader.cache): nothing is read on the clock")
    print(f"waiting for data: {100 * result['data_wait_share']:.2f} % of the time")
    if "bare_with_reading" in result:
        text = "plain loop, were it to read on the same cores"
        print(f"{text}: {result['bare_with_reading']:,.0f}/s")
    print(f"reading a sample: {1e3 * result['read_seconds']:.3g} ms of a core")
    print(f"making views: {100 * result['augment_share']:.2f} % of a step")
    print(f"a commit: {result['commit_seconds']:.2f} s")
    print(f"a sample: {result['flops_per_sample'] / 1e9:.3g} GFLOP, forward and backward")
    for name, share in result.get("mfu", {}).items():
        print(f"{name}: {100 * share:.1f} % of the device's peak")


@app.command()
def scale(
    samples: Annotated[int, typer.Option("--samples", help="Of the data set.")] = 1_000_000_000,
    shards: Annotated[int, typer.Option("--shards", help="Tars that hold them.")] = 100_000,
    workers: Annotated[int, typer.Option("--workers", help="Training workers.")] = 1024,
    batch: Annotated[int, typer.Option("--batch", help="Global batch.")] = 32_768,
    as_json: Json = False,
) -> None:
    """Open a very large data set, start anywhere in it, plan batches; its index is made up.

    Example: eagleray bench scale --samples 1000000000 --shards 100000
    """
    from cluster.bench.scale import simulate

    result = simulate(samples, shards, workers, batch)
    if as_json:
        print(json.dumps(result, indent=2))
        return
    print(f"open: {result['open_seconds']:.2f} s")
    for place, seconds in result["seek_seconds"].items():
        print(f"seek {place}: {1e3 * seconds:.2f} ms")
    print(f"plan a batch: {result['plan_microseconds']['mean']:.0f} microseconds")
    print(f"memory: {result['peak_megabytes']:.0f} MB at most")


@app.command()
def augment(
    size: Annotated[int, typer.Option("--size", help="Side of the pictures.", min=8)] = 224,
    batch: Annotated[int, typer.Option("--batch", help="Pictures a batch.", min=1)] = 64,
    seconds: Annotated[float, typer.Option("--seconds", help="Of a measurement.")] = 5.0,
    rounds: Annotated[int, typer.Option("--rounds", help="Measurements of each.", min=1)] = 5,
    device: Annotated[str, typer.Option("--device", help="Where: cpu, cuda.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Make two views of pictures as SimCLR does: these augmentations and kornia's.

    Example: eagleray bench augment --size 224 --batch 64 --json
    """
    from cluster.bench.augment import Augmenting, candidates, threads
    from cluster.bench.rounds import interleave, medians, ratios

    rates = interleave(candidates(Augmenting(size, batch, seconds, device)), rounds, say)
    result = {
        **medians(rates),
        "ratios": ratios(rates, "ours"),
        "rounds": rates,
        "threads": threads(),
        "device": device,
        "size": size,
        "batch": batch,
    }
    print(json.dumps(result, indent=2)) if as_json else _show(medians(rates), ratios(rates, "ours"))


def _show(rates: dict[str, float], against: dict[str, float]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("", "samples/s", "ours is"):
        table.add_column(name, justify="right" if name else "left")
    for name, rate in rates.items():
        times = f"{against[name]:.2f} times it" if name in against else ""
        table.add_row(name, f"{rate:,.0f}", times)
    Console().print(table)
