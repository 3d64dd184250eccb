"""Data on a real S3 server, read and written while connections break."""

from __future__ import annotations

import io
import itertools
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import StorageError
from pipelines.packers import open_tree
from pipelines.packers._rows import batches
from pipelines.shards import storage, storage_s3
from pipelines.sources.webdataset import WebDataset
from tests.s3.proxy import KINDS, FaultProxy, Plan
from tests.s3.server import SECRET, S3Server, serve

pytest_plugins = ["tests.s3.fixtures"]

SHARDS = 4


def text_of(number: int) -> bytes:
    return b"sample %d " % number * (1 + number % 50)


def fill(server: S3Server, bucket: str, samples: int) -> str:
    """Upload samples in tars; returns the pattern of the tars."""
    with server.environment():
        url = server.make_bucket(bucket)
        for shard, numbers in enumerate(np.array_split(np.arange(samples), SHARDS)):
            sink = io.BytesIO()
            with tarfile.open(fileobj=sink, mode="w") as tar:
                for number in numbers:
                    info = tarfile.TarInfo(f"{number:06d}.txt")
                    info.size = len(text_of(number))
                    tar.addfile(info, io.BytesIO(text_of(number)))
            storage.write_atomic(f"{url}/train-{shard}.tar", sink.getvalue())
    return f"{url}/train-{{0..{SHARDS - 1}}}.tar"


def read(source: WebDataset, order: Sequence[int], batch: int) -> list[tuple[str, bytes]]:
    """Key and text of samples, read in batches by several threads, in the order asked."""

    def one(numbers: Sequence[int]) -> list[tuple[str, bytes]]:
        return [(raw.key, bytes(raw.members["txt"])) for raw in source.read(np.array(numbers))]

    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    with ThreadPoolExecutor(4) as pool:
        return [sample for part in pool.map(one, batches) for sample in part]


@pytest.fixture(scope="module")
def tars(s3_server: S3Server) -> str:
    return fill(s3_server, "small", 2000)


def test_every_sample_is_delivered_once_and_in_order_while_connections_break(
    tars: str, faults: FaultProxy
) -> None:
    faults.plan = Plan(rate=0.1, seed=1)
    source = WebDataset(WebDataset.Config(url=tars))
    order = np.random.default_rng(0).permutation(2000).tolist()
    found = read(source, order, batch=50)
    assert found == [(f"{number:06d}", text_of(number)) for number in order]
    assert set(faults.injected) == set(KINDS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_faults_change_no_sample_and_no_order(
    s3_server: S3Server, faults: FaultProxy
) -> None:
    samples = 20_000
    source = WebDataset(WebDataset.Config(url=fill(s3_server, "large", samples)))
    faults.plan = Plan(rate=0.1, seed=2)
    epochs = 0
    while faults.injected.total() < 1000 and epochs < 5:
        order = np.random.default_rng(epochs).permutation(samples).tolist()
        found = read(source, order, batch=10)
        assert found == [(f"{number:06d}", text_of(number)) for number in order]
        epochs += 1
    print(f"{faults.injected.total()} faults in {len(faults.requests)} requests, "
          f"{epochs} epochs: {dict(faults.injected)}")  # fmt: skip
    assert faults.injected.total() >= 1000
    assert set(faults.injected) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_alone_is_survived_by_every_operation(
    s3_server: S3Server, faults: FaultProxy, kind: str
) -> None:
    url = f"s3://ops-{kind}"
    s3_server.make_bucket(f"ops-{kind}")

    def broken(act: Callable[[], object]) -> object:
        faults.plan = Plan([kind], limit=1)
        found = act()
        assert faults.plan.limit == 0
        return found

    broken(lambda: storage.write_atomic(f"{url}/d/a.bin", b"content"))
    assert broken(lambda: storage.read_bytes(f"{url}/d/a.bin")) == b"content"
    assert broken(lambda: storage.read_tail(f"{url}/d/a.bin", 3)) == b"ent"
    assert broken(lambda: storage.open_read(f"{url}/d/a.bin").read()) == b"content"
    assert broken(lambda: storage.names(f"{url}/d")) == ["a.bin"]
    assert broken(lambda: storage.exists(f"{url}/d/b.bin")) is False
    assert broken(lambda: storage.expand(f"{url}/d/*.bin")) == [f"{url}/d/a.bin"]
    stamp = broken(lambda: storage.stamp(f"{url}/d/a.bin"))
    assert broken(lambda: storage.listing(f"{url}/d/*.bin")) == [(f"{url}/d/a.bin", stamp)]
    broken(lambda: storage.remove(f"{url}/d/a.bin"))
    assert storage.names(f"{url}/d") == []


@pytest.mark.parametrize(
    "wrong", [{"AWS_SECRET_ACCESS_KEY": "not-the-secret"}, {"AWS_ACCESS_KEY_ID": "somebody-else"}]
)
def test_bad_credentials_are_one_line_without_them(
    s3_server: S3Server, tars: str, wrong: dict[str, str]
) -> None:
    with s3_server.environment(**wrong):
        start = time.monotonic()
        with pytest.raises(StorageError, match="access refused; check permissions") as caught:
            WebDataset(WebDataset.Config(url=tars))
        assert time.monotonic() - start < 5
    message = str(caught.value)
    assert "\n" not in message
    assert not any(secret in message for secret in (SECRET, *wrong.values()))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(storage_s3, "PART", 5 << 20)
    return 5 << 20


def test_a_large_write_survives_faults_in_its_parts(
    s3_server: S3Server, faults: FaultProxy, small_parts: int, tmp_path: Path
) -> None:
    url = s3_server.make_bucket("parts")
    data = np.random.default_rng(0).bytes(3 * small_parts + 5)
    source = tmp_path / "engine.pt"
    source.write_bytes(data)
    faults.plan = Plan(rate=0.4, limit=6, seed=3)
    storage.move_in(source, f"{url}/engine.pt")
    storage.write_atomic(f"{url}/index.parquet", data)
    assert faults.injected.total() == 6
    assert storage.read_bytes(f"{url}/engine.pt") == data
    assert storage.read_bytes(f"{url}/index.parquet") == data
    assert not source.exists()


def test_a_large_write_that_fails_leaves_the_old_object_and_no_parts(
    s3_server: S3Server,
    faults: FaultProxy,
    small_parts: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipelines.shards.storage_faults.RETRIES", 1)
    url = s3_server.make_bucket("whole")
    storage.write_atomic(f"{url}/engine.pt", b"old")
    source = tmp_path / "engine.pt"
    source.write_bytes(bytes(3 * small_parts))
    faults.plan = Plan(["503"], touches=lambda method, target: "partNumber=3" in target)
    with pytest.raises(StorageError, match=r"^s3://whole/engine\.pt: Please reduce"):
        storage.move_in(source, f"{url}/engine.pt")
    assert storage.read_bytes(f"{url}/engine.pt") == b"old"
    assert storage.names(url) == ["engine.pt"]
    assert storage.locate(url)[0].list_multipart_uploads("whole") == []
    assert source.exists()


def test_a_table_is_read_at_any_place_while_connections_break(
    s3_server: S3Server, faults: FaultProxy
) -> None:
    url = f"{s3_server.make_bucket('tables')}/t.parquet"
    sink = io.BytesIO()
    rows = pa.table({"n": list(range(100_000)), "text": [f"{n:020d}" for n in range(100_000)]})
    pq.write_table(rows, sink, row_group_size=5_000, compression="none")
    storage.write_atomic(url, sink.getvalue())
    faults.plan = Plan(rate=0.2, seed=4)
    assert pa.Table.from_batches(list(batches(url, ["n", "text"]))).equals(rows)
    assert list(open_tree(url.rpartition("/")[0]).names) == ["t.parquet"]


def test_a_reader_sees_the_old_or_the_new_object_while_writes_break(
    s3_server: S3Server, faults: FaultProxy
) -> None:
    url = f"{s3_server.make_bucket('commits')}/manifest.json"
    states = [bytes([number]) * 50_000 for number in range(8)]
    storage.write_atomic(url, states[0])
    faults.plan = Plan(rate=0.2, seed=4)
    stop = threading.Event()

    def write() -> bytes:
        for state in itertools.cycle(states):
            storage.write_atomic(url, state)
            if stop.is_set():
                return state
        raise AssertionError("unreachable")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            found = {storage.read_bytes(url) for _ in range(10)}
        finally:
            stop.set()
        last = writing.result()
    assert len(found) > 1
    assert found <= set(states)
    assert storage.read_bytes(url) == last


def test_a_bucket_that_may_only_be_read(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.shards.storage_faults.RETRIES", 1)  # the server says "busy"
    folder = tmp_path_factory.mktemp("s3-read-only")
    with serve(folder) as server:
        tars = fill(server, "frozen", 8)
    with serve(folder, "--read-only") as server, server.environment():
        with pytest.raises(StorageError) as caught:
            storage.write_atomic("s3://frozen/new.bin", b"1")
        assert "\n" not in str(caught.value)
        source = WebDataset(WebDataset.Config(url=tars))
        assert [raw.key for raw in source.read(np.arange(8))] == [f"{n:06d}" for n in range(8)]
        assert storage.names("s3://frozen") == [f"train-{shard}.tar" for shard in range(SHARDS)]


def test_a_server_that_stalls_is_given_up_within_the_bound(
    s3_server: S3Server, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.shards.storage_faults.RETRIES", 2)
    url = f"{s3_server.make_bucket('stalls')}/a.bin"
    storage.write_atomic(url, bytes(1000))
    faults.plan = Plan(["stall"], limit=1)
    start = time.monotonic()
    assert storage.read_ranges(url, [(0, 10), (10, 20)]) == [bytes(10)] * 2
    assert time.monotonic() - start < 2
    faults.plan = Plan(["stall"])
    start = time.monotonic()
    with pytest.raises(StorageError, match=r"^s3://stalls/a\.bin: .*(answer|[Tt]imeout)"):
        storage.read_ranges(url, [(0, 10)])
    assert time.monotonic() - start < 3 * 0.3 + 2


def test_the_clock_of_the_store_is_known(s3: S3Server) -> None:
    url = f"{s3.make_bucket('clock')}/probe"
    storage.write_text(url, "")
    written = storage.changed(url)
    assert written is not None
    assert abs(written - time.time()) < 5
