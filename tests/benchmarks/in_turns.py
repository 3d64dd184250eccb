"""The loader and its decoder in turns of seconds, for machines whose speed changes by the minute.

Run as ``python -m tests.benchmarks.in_turns [--rounds N] [--seconds S] [--tars URL] [READER ...]``,
where READER is what a profile's ``reader`` has otherwise, as JSON: ``{}`` or ``{"threads": 3}``.
All candidates, each with a cluster of its own, are there from the start; all but one are stopped
(SIGSTOP). What a turn leaves undone the next one goes on with: nothing is lost between them, but a
wait runs out while its process is stopped, so turns are long beside all of them.
Linux alone tells what processes have started, and taken of the cores.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from cluster.bench.loader import Loading, cores
from cluster.bench.photographs import write_photographs
from cluster.profile import Profile
from cluster.session import connect
from pipelines.decode import Decoder
from pipelines.reader import Reader, Share, open_source
from pipelines.reader_config import ReaderConfig
from pipelines.shards.index_tasks import scan_on_cluster
from pipelines.stream import stream
from pipelines.tables import empty

DECODER = "decoder alone"
_SIZE, _BATCH = 256, 256
_WARM = 20 * _BATCH  # samples of a candidate before its first turn
_LONGEST = 300.0  # seconds until it has made them
_ENDLESS = 1 << 20  # batches
_GLANCE = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


class Count:
    """A number that one process writes and another one reads."""

    def __init__(self, path: Path):
        with path.open("r+b") as file:
            self._held = mmap.mmap(file.fileno(), 8)

    @property
    def value(self) -> int:
        """The number."""
        return int(struct.unpack("q", self._held[:8])[0])

    @value.setter
    def value(self, number: int) -> None:
        self._held[:8] = struct.pack("q", number)


@dataclass(frozen=True)
class Changed(Loading):
    """A loading whose readers are configured otherwise, by JSON."""

    reader: str = "{}"

    @property
    def profile(self) -> Profile:
        """The same with these changes."""
        usual = super().profile
        changed = usual.reader.model_dump() | json.loads(self.reader)
        return usual.model_copy(update={"reader": ReaderConfig.model_validate(changed)})


def decode(loading: Loading, rank: int, count: Count) -> None:
    """Decode every so manyth picture of the first ones, for ever."""
    decoder, source = Decoder(loading.data.decode), open_source(loading.data.source)
    kept = min(2048, sum(part.size for part in source.parts))
    raws = list(source.read(np.arange(rank, kept, loading.cores, dtype=np.int64)))
    (rows,) = empty(decoder.shapes, loading.batch).values()
    for number in itertools.count():
        decoder.fill(raws[number % len(raws)], {"image": rows[number % len(rows)]})
        count.value = number + 1


def read(loading: Changed, count: Count) -> None:
    """Stream batches for ever."""
    with connect(loading.profile):
        source = open_source(loading.data.source, scan=scan_on_cluster)
        reference = ray.put(Reader(source, loading.data, 0))
        share = Share(loading.batch, 0, 1, 0, _ENDLESS)
        for table in stream(reference, share, loading.profile.reader):
            count.value += len(table)


@dataclass(frozen=True)
class Candidate:
    """Processes, and how many samples they have made."""

    processes: Sequence[subprocess.Popen[bytes]]
    counts: Sequence[Count]

    @property
    def made(self) -> int:
        """Samples until now."""
        return sum(count.value for count in self.counts)

    def members(self) -> list[int]:
        """Its processes with all that they have started."""
        children: dict[int, list[int]] = {}
        for parent, number, _ in _processes():
            children.setdefault(parent, []).append(number)
        found, left = [], [process.pid for process in self.processes]
        while left:
            found.append(left.pop())
            left += children.get(found[-1], [])
        return found

    def send(self, what: signal.Signals) -> None:
        """Send a signal to all of them."""
        for number in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, what)

    def core_seconds(self) -> float:
        """What they have taken of the cores."""
        mine = set(self.members())
        return sum(spent for _, number, spent in _processes() if number in mine)


def _processes() -> Iterator[tuple[int, int, float]]:
    """Parent, number and seconds of cores of every process."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            yield int(fields[1]), int(place.name), (int(fields[11]) + int(fields[12])) / _TICKS


def start(folder: Path, name: str, loading: Changed) -> Candidate:
    """Start a candidate, wait until it is warm, and stop it."""
    ranks = range(loading.cores if name == DECODER else 1)
    processes, counts = [], []
    own = len(list(folder.iterdir()))  # the same candidate may be there twice
    for rank in ranks:
        path = folder / f"{own}-{rank}"
        path.write_bytes(bytes(8))
        command = [sys.executable, "-m", __spec__.name, "--count", str(path), "--rank", str(rank)]
        processes.append(subprocess.Popen([*command, "--tars", loading.url, name]))
        counts.append(Count(path))
    candidate, deadline = Candidate(processes, counts), time.monotonic() + _LONGEST
    try:
        while candidate.made < _WARM:
            ended = any(process.poll() is not None for process in processes)
            if ended or time.monotonic() > deadline:
                sys.exit(f"{name}: it does not start")
            time.sleep(_GLANCE)
    except BaseException:  # whoever interrupts this does not want it to run on
        end([candidate])
        raise
    candidate.send(signal.SIGSTOP)
    return candidate


def end(candidates: Sequence[Candidate]) -> None:
    """End what was started."""
    for candidate in candidates:
        candidate.send(signal.SIGKILL)


def take_turns(candidates: Sequence[Candidate], rounds: int, seconds: float) -> list[list[float]]:
    """Let each run in turn; returns the seconds of every turn of each."""
    spent: list[list[float]] = [[] for _ in candidates]
    for number in range(rounds):
        order = range(len(candidates))
        for place in order if number % 2 == 0 else reversed(order):
            candidates[place].send(signal.SIGCONT)
            began = time.perf_counter()
            time.sleep(seconds)
            candidates[place].send(signal.SIGSTOP)
            spent[place].append(time.perf_counter() - began)
    return spent


def main(names: Sequence[str], url: str, rounds: int, seconds: float) -> None:
    """Print a line for the decoder and one for every configuration of the readers."""
    names, candidates = [DECODER, *names], []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in names:
                candidates.append(start(Path(folder), name, changed(url, name)))
            before = [(one.made, one.core_seconds()) for one in candidates]
            spent = take_turns(candidates, rounds, seconds)
            after = [(one.made, one.core_seconds()) for one in candidates]
        finally:
            end(candidates)
    print(f"{'samples/s':>10}{'of limit':>10}{'us of a core each':>20}")
    first = None
    for name, (made, core), (made_now, core_now), turns in zip(
        names, before, after, spent, strict=True
    ):
        samples = made_now - made
        rate = samples / sum(turns)
        first = first or rate
        each = (core_now - core) / samples * 1e6
        print(f"{rate:10,.0f}{rate / first:10.3f}{each:20,.0f}   {name}")


def changed(url: str, name: str) -> Changed:
    """What a candidate loads."""
    reader = "{}" if name == DECODER else name
    return Changed(url, _SIZE, _BATCH, 0.0, cores(), reader=reader)


def parse() -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", default=["{}"], metavar="READER")
    parser.add_argument("--tars", default="", help="photographs are drawn unless given")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--count", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = parse()
    if given.count and given.readers == [DECODER]:
        decode(changed(given.tars, DECODER), given.rank, Count(given.count))
    elif given.count:
        read(changed(given.tars, given.readers[0]), Count(given.count))
    elif given.tars:
        main(given.readers, given.tars, given.rounds, given.seconds)
    else:
        with tempfile.TemporaryDirectory() as drawn:
            write_photographs(Path(drawn), 4096)
            main(given.readers, f"{drawn}/*.tar", given.rounds, given.seconds)
