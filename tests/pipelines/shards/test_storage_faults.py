from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.core import StorageError
from pipelines.shards import storage, storage_faults, storage_places, storage_ranges
from pipelines.shards.storage_faults import passing

DATA = bytes(range(256)) * 100


def client_error(name: str, module: str = "botocore.exceptions") -> Exception:
    return type(name, (Exception,), {"__module__": module})("first line\nsecond line")


def answer(status: int) -> Exception:
    error = client_error("ClientResponseError", "aiohttp.client_exceptions")
    error.status = status  # type: ignore[attr-defined]
    return error


def coded(error: OSError, code: str) -> OSError:
    error.__cause__ = Exception()
    error.__cause__.response = {"Error": {"Code": code}}  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionResetError("peer"), True),
        (TimeoutError(), True),
        (OSError(errno.EIO, "io"), True),
        (OSError(errno.EBUSY, "Please reduce your request rate."), True),
        (OSError(errno.EREMOTEIO, "We encountered an internal error."), True),
        (coded(OSError(errno.EINVAL, "digest"), "BadDigest"), True),
        (client_error("ReadTimeoutError"), True),
        (client_error("ClientPayloadError", "aiohttp.client_exceptions"), True),
        (client_error("ConnectError", "httpx2"), True),
        (client_error("ReadTimeout", "httpx"), True),
        *((answer(status), True) for status in (408, 429, 500, 502, 503, 504)),
        *((answer(status), False) for status in (401, 403, 405, 416, 501)),
        (FileNotFoundError("x"), False),
        (PermissionError("x"), False),
        (OSError(errno.ENOSPC, "full"), False),
        (coded(OSError(errno.EINVAL, "range"), "InvalidRange"), False),
        (client_error("NoCredentialsError"), False),
        (ValueError("a fault of ours"), False),
    ],
)
def test_faults_that_pass_are_told_from_those_that_last(error, passes):
    assert passing(error) is passes


class Breaking(MemoryFileSystem):
    """Raises the planned faults of any operation, one a call, before it works."""

    faults: list[Exception] = []  # noqa: RUF012
    calls: Counter[str] = Counter()  # noqa: RUF012

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name not in ("info", "ls", "glob", "rm_file", "pipe_file", "put_file", "cat_file"):
            return found

        def act(*args, **kwargs):
            if type(self).faults:
                type(self).calls[name] += 1
                raise type(self).faults.pop(0)
            return found(*args, **kwargs)

        return act


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch, memory: str) -> type[Breaking]:
    filesystem = Breaking()
    monkeypatch.setattr(storage_places, "_filesystem", lambda protocol: filesystem)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(Breaking, "faults", [])
    monkeypatch.setattr(Breaking, "calls", Counter())
    filesystem.pipe_file("/bucket/a.bin", DATA)
    return Breaking


URL = "memory://bucket/a.bin"
ACTS: dict[str, tuple[Callable[[], object], object]] = {
    "exists": (lambda: storage.exists(URL), True),
    "names": (lambda: storage.names("memory://bucket"), ["a.bin"]),
    "stamp": (lambda: storage.stamp(URL).split(":")[0], str(len(DATA))),
    "expand": (lambda: storage.expand("memory://bucket/*"), ["memory:///bucket/a.bin"]),
    "listing": (lambda: [url for url, _ in storage.listing(URL)], ["memory:///bucket/a.bin"]),
    "read_bytes": (lambda: storage.read_bytes(URL), DATA),
    "read_tail": (lambda: storage.read_tail(URL, 2), DATA[-2:]),
    "open_read": (lambda: storage.open_read(URL).read(), DATA),
    "write_atomic": (lambda: storage.write_atomic(URL, b"new"), None),
    "remove": (lambda: storage.remove(URL), None),
}


@pytest.mark.parametrize("act", ACTS)
def test_every_operation_is_tried_again(breaking, act):
    breaking.faults[:] = [ConnectionResetError("peer"), TimeoutError(), OSError(5, "x")] * 2
    do, expected = ACTS[act]
    assert do() == expected
    assert breaking.faults == []


def test_moving_in_is_tried_again(breaking, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"new")
    breaking.faults[:] = [OSError(errno.EBUSY, "busy")] * storage.RETRIES
    storage.move_in(source, URL)
    assert storage.read_bytes(URL) == b"new"
    assert not source.exists()


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    ("fault", "message", "tries"),
    [
        (OSError(errno.EBUSY, "Slow down.\nNow."), "Slow down.", storage.RETRIES + 1),
        (TimeoutError(), "no answer within 30 s; check the network", storage.RETRIES + 1),
        (PermissionError("x"), "access refused", 1),
    ],
)
def test_the_last_fault_is_told_in_one_line(breaking, act, fault, message, tries):
    breaking.faults[:] = [fault] * 100
    with pytest.raises(StorageError) as caught:
        ACTS[act][0]()
    assert str(caught.value).startswith(f"memory://bucket{'' if act == 'names' else '/'}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert breaking.calls.total() == tries


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf", "nan", ""])
def test_a_timeout_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv("EAGLERAY_STORAGE_TIMEOUT", given)
    with pytest.raises(StorageError, match=r"EAGLERAY_STORAGE_TIMEOUT: .* is not a number"):
        storage.timeout()


def test_long_requests_have_more_time(monkeypatch):
    monkeypatch.setenv("EAGLERAY_STORAGE_TIMEOUT", "2.5")
    assert storage.timeout() == 2.5
    assert storage.timeout(8 << 20) == 2.5 + 32


# --- an asynchronous filesystem that is not S3 -------------------------------------------------


class Remote(AsyncFileSystem):
    """Answers range reads, after what is planned for each."""

    protocol = "remote"
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self.faults: dict[int, list[Exception | str]] = {}
        self.flying = self.most = 0

    async def _cat_file(self, path, start=None, end=None, **kwargs):
        self.asked.append((start, end))
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            await asyncio.sleep(0.001)
            fault = self.faults.get(start, [])
            match fault.pop(0) if fault else None:
                case "stall":
                    await asyncio.sleep(3600)
                case "short":
                    return DATA[start : end - 1]
                case Exception() as error:
                    raise error
            return DATA[start:end]
        finally:
            self.flying -= 1

    async def _info(self, path, **kwargs):
        await asyncio.sleep(3600)


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Remote:
    filesystem = Remote()
    monkeypatch.setattr(storage_places, "_filesystem", lambda protocol: filesystem)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("EAGLERAY_STORAGE_TIMEOUT", "0.2")
    return filesystem


def test_only_what_failed_is_asked_for_again(remote):
    remote.faults = {10: [OSError("x"), "short"], 30: [client_error("ReadTimeoutError")]}
    ranges = [(0, 5), (10, 15), (20, 25), (30, 35)]
    assert storage.read_ranges("remote://a", ranges) == [DATA[a:b] for a, b in ranges]
    assert Counter(remote.asked) == {(0, 5): 1, (10, 15): 3, (20, 25): 1, (30, 35): 2}


def test_long_ranges_are_read_in_pieces(remote, monkeypatch):
    monkeypatch.setattr(storage_ranges, "PIECE", 1000)
    remote.faults = {3000: [ConnectionResetError("x")]}
    ranges = [(0, 5), (7, 7), (1000, 4500), (5000, 6000)]
    assert storage.read_ranges("remote://a", ranges) == [DATA[a:b] for a, b in ranges]
    pieces = {(0, 5), (1000, 2000), (2000, 3000), (3000, 4000), (4000, 4500), (5000, 6000)}
    assert Counter(remote.asked) == dict.fromkeys(pieces, 1) | {(3000, 4000): 2}


def test_a_stall_is_given_up_and_asked_for_again(remote):
    remote.faults = {0: ["stall"]}
    start = time.monotonic()
    assert storage.read_ranges("remote://a", [(0, 5), (5, 9)]) == [DATA[:5], DATA[5:9]]
    assert 0.2 <= time.monotonic() - start < 2
    assert Counter(remote.asked) == {(0, 5): 2, (5, 9): 1}


def test_a_lasting_stall_is_an_error_in_bounded_time(remote, monkeypatch):
    monkeypatch.setattr(storage_faults, "RETRIES", 2)
    remote.faults = {0: ["stall"] * 9}
    for act in (lambda url: storage.read_ranges(url, [(0, 5)]), storage.stamp):
        start = time.monotonic()
        with pytest.raises(StorageError, match=r"remote://a: no answer within 0\.2 s"):
            act("remote://a")
        assert time.monotonic() - start < 3


def test_many_ranges_are_in_flight_and_not_too_many(remote):
    ranges = [(start, start + 1) for start in range(500)]
    assert storage.read_ranges("remote://a", ranges) == [DATA[a:b] for a, b in ranges]
    assert 1 < remote.most <= storage_places.IN_FLIGHT


@pytest.mark.parametrize("error", [FileNotFoundError("x"), PermissionError("x")])
def test_what_lasts_is_asked_for_once(remote, error, monkeypatch):
    monkeypatch.setattr(storage_faults, "siblings", lambda url: "nothing is there")
    remote.faults = {0: [error]}
    with pytest.raises(StorageError, match=r"does not exist; nothing|access refused"):
        storage.read_ranges("remote://a", [(0, 5)])
    assert remote.asked == [(0, 5)]


def test_a_range_beyond_the_end_is_a_stale_index(remote):
    remote.faults = {0: [coded(OSError(errno.EINVAL, "range"), "InvalidRange")]}
    with pytest.raises(StorageError, match=r"^remote://a: shorter than its index says; re-index"):
        storage.read_ranges("remote://a", [(0, 5)])
    assert remote.asked == [(0, 5)]


# --- reading in order --------------------------------------------------------------------------


def test_a_stream_reads_all_of_it_by_pieces(breaking, monkeypatch):
    monkeypatch.setattr("pipelines.shards.storage_stream._AHEAD", 1000)
    with storage.open_read(URL) as stream:
        parts = [stream.read(count) for count in (0, 1, 511, 5000, 0)]
        assert b"".join([*parts, stream.read()]) == DATA
        assert stream.read(1) == b""


@pytest.mark.parametrize("act", [lambda url: storage.open_read(url).read(), storage.read_bytes])
def test_what_changes_while_it_is_read_is_an_error_and_no_mixture(breaking, monkeypatch, act):
    monkeypatch.setattr("pipelines.shards.storage.PIECE", 1000)
    whole = storage_ranges._read_remote

    def replaced(url, fs, path, spans):
        found = whole(url, fs, path, spans)
        fs.pipe_file("/bucket/a.bin", bytes(len(DATA)))
        return found

    monkeypatch.setattr(storage_ranges, "_read_remote", replaced)
    with pytest.raises(StorageError, match=r"a\.bin: changed while it was read; run again"):
        act(URL)


def test_a_folder_is_no_file(breaking):
    with pytest.raises(StorageError, match="bucket: a folder; give a file"):
        storage.read_bytes("memory://bucket")


def test_one_thread_persists_while_others_are_told_soon() -> None:
    def waited() -> float:
        return sum(storage_faults.pauses())

    with storage.persisting(100.0):
        mine = waited()
        with ThreadPoolExecutor(1) as pool:
            others = pool.submit(waited).result()
    assert 100 <= mine < 100 + 2 * storage_faults._LONGEST
    assert others < 20
    assert waited() < 20


def test_a_driver_waits_for_a_store_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, down = [0.0], 60.0

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    def act() -> str:
        if clock[0] < down:
            raise ConnectionResetError("peer")
        return "there"

    monkeypatch.setattr(storage_faults.time, "sleep", sleep)
    with pytest.raises(ConnectionResetError):
        storage_faults.retried(act)
    clock[0] = 0.0
    with storage.persisting(120.0):
        assert storage_faults.retried(act) == "there"
