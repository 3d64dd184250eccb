"""Reads damaged tars one after the other in a process with bounded memory; prints what came.

Run as ``python -m tests.fuzz.campaign FOLDER SEED COUNT``.
"""

from __future__ import annotations

import faulthandler
import io
import json
import random
import resource
import sys
import wave
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines.core.source import RawSample
from pipelines.decode import Decoder, DecoderConfig, SampleError
from pipelines.shards.entries import scan_shard
from pipelines.shards.index import Index
from pipelines.shards.index_table import SCHEMA
from pipelines.sources.webdataset import WebDataset
from tests.fuzz.mutations import MUTATIONS, bomb, tar_of, trap

MEMORY = 768 << 20  # bytes of address space over what the libraries take
PATIENCE = 20  # seconds for one tar
DECODE = {
    "size": 16,
    "text": {"caption": "txt"},
    "audio": {"rate": 8000, "seconds": 0.1},
}


def picture(chance: random.Random) -> bytes:
    pixels = np.frombuffer(chance.randbytes(24 * 24 * 3), np.uint8).reshape(24, 24, 3)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, chance.choice(("JPEG", "PNG", "WEBP")))
    return sink.getvalue()


def sound(chance: random.Random) -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(chance.randbytes(800))
    return sink.getvalue()


def files(chance: random.Random, folder: Path) -> list[tuple[str, bytes]]:
    """Members of a few samples; some are bombs or traps."""
    found = []
    for number in range(chance.randrange(2, 6)):
        image = bomb() if chance.random() < 0.05 else picture(chance)
        members = {"jpg": image, "txt": b"caption %d" % number, "wav": sound(chance)}
        if chance.random() < 0.2:
            members["pkl"] = members["pth"] = trap(folder / "executed")
        found += [(f"{number:03d}.{name}", data) for name, data in members.items()]
    return found


def opened(file: Path) -> WebDataset:
    """A source over one tar, without an index beside it."""
    shard, table = scan_shard(str(file), "")
    source = object.__new__(WebDataset)
    source.index = Index(pa.Table.from_pylist([asdict(shard)], schema=SCHEMA), {0: table})
    return source


def samples_before(whole: bytes, damaged: bytes, source: WebDataset) -> int:
    """How many of a tar's first samples lie wholly before the first damaged byte."""
    same = min(len(whole), len(damaged))
    a, b = np.frombuffer(whole[:same], np.uint8), np.frombuffer(damaged[:same], np.uint8)
    differ = np.flatnonzero(a != b)
    first = int(differ[0]) if len(differ) else same
    return int((source.index.spans(0)[1] <= first).sum())


def read(source: WebDataset) -> list[RawSample]:
    return list(source.read(np.arange(len(source.index), dtype=np.int64)))


def outcome(raw: RawSample, decoder: Decoder) -> str:
    try:
        decoder(raw, 1)
    except SampleError as error:
        reason = str(error)
        assert reason, "a fault without a reason"
        assert "\n" not in reason, reason
        return "unreadable"
    return "readable"


def one(folder: Path, seed: int, decoder: Decoder, counts: Counter[str]) -> None:
    """Damage one tar and read it; raises where a promise is broken."""
    chance = random.Random(seed)
    data, headers = tar_of(files(chance, folder))
    whole, file = bytes(data), folder / "shard.tar"
    file.write_bytes(whole)
    before = opened(file)
    expected = read(before)
    mutation = chance.choice(MUTATIONS)
    mutation(chance, data, headers)
    file.write_bytes(data)
    after = opened(file)
    found = read(after)
    counts[mutation.__name__] += 1
    counts["faults of shards"] += len(after.faults)
    # What lies before the damage is untouched. The last of it may have gained members.
    kept = max(0, samples_before(whole, bytes(data), before) - 1)
    for raw, wanted in zip(found[:kept], expected[:kept], strict=True):
        assert (raw.key, dict(raw.members), raw.fault) == (
            wanted.key,
            dict(wanted.members),
            "",
        ), f"seed {seed}: {mutation.__name__} cost {wanted.key}"
        counts["untouched"] += 1
    for raw in found:
        counts[outcome(raw, decoder)] += 1
        counts["samples"] += 1


def main(folder: Path, first: int, count: int) -> None:
    """Read ``count`` damaged tars."""
    decoder, counts = Decoder(DecoderConfig.model_validate(DECODE)), Counter[str]()
    one(folder, first, decoder, Counter())  # what is imported on first use
    status = Path("/proc/self/status").read_text(encoding="ascii")
    taken = 1024 * int(status.split("VmSize:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        one(folder, seed, decoder, counts)
        faulthandler.cancel_dump_traceback_later()
    # Not getrusage: its peak is at least that of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
    print(json.dumps({**counts, "tars": count, "peak_megabytes": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
