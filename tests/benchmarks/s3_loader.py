"""The stream from an S3 server on this machine against the stream from its disk.

Run as ``python -m tests.benchmarks.s3_loader [FOLDER_OF_TARS] [ROUNDS]``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import s3fs

from cluster.bench.loader import Loading, cores, ours
from cluster.bench.photographs import write_photographs
from cluster.bench.rounds import interleave, medians, ratios
from cluster.session import connect
from pipelines.order import Shuffle
from pipelines.reader import Reader, open_source
from tests.s3.server import serve

_LONG = Shuffle(chunk=128, window=8)  # ranges of 5 MiB: a request costs as much as 300 KiB


def main(folder: Path, rounds: int) -> None:
    """Measure both, in turns."""
    with (
        tempfile.TemporaryDirectory() as place,
        serve(Path(place)) as server,
        server.environment(),
    ):
        store = s3fs.S3FileSystem(endpoint_url=server.endpoint)
        store.mkdir("pictures")
        for file in sorted(folder.glob("*.tar")):
            store.put_file(str(file), f"pictures/{file.name}")
        loadings = {
            name: Loading(f"{where}/*.tar", 256, 256, 10.0, cores(), _LONG)
            for name, where in (("s3", "s3://pictures"), ("disk", str(folder)))
        }
        with connect(loadings["disk"].profile):
            measures = {
                name: ours(loading, Reader(open_source(loading.data.source), loading.data, 0))
                for name, loading in loadings.items()
            }
            rates = interleave(measures, rounds, lambda line: print(line, file=sys.stderr))
    print(json.dumps({**medians(rates), "ratio": ratios(rates, "s3")["disk"], "rounds": rates}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    else:
        with tempfile.TemporaryDirectory() as drawn:
            write_photographs(Path(drawn), 4096)
            main(Path(drawn), 3)
