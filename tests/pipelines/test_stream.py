from __future__ import annotations

import os
import threading

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import stream as module
from pipelines.reader import DataConfig, Reader, Share
from pipelines.reader_config import ReaderConfig
from pipelines.sources.synthetic import Synthetic
from pipelines.stream import NICENESS, _rebatch, stream, stream_here


def make_reader(samples: int = 20) -> Reader:
    data = DataConfig.model_validate(
        {
            "source": {"kind": "synthetic"},
            "decode": {"size": 16, "text": {"caption": "txt"}},
            "shuffle": {"chunk": 4, "window": 2},
        }
    )
    return Reader(Synthetic(Synthetic.Config(samples=samples, size=16)), data, seed=5)


def same(found: list[pa.Table], expected: list[pa.Table]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(a.combine_chunks().equals(b.combine_chunks()) for a, b in pairs)


@given(st.lists(st.integers(0, 9), max_size=15), st.integers(1, 7))
def test_rebatching_undoes_any_cutting_and_joining(sizes, rows):
    total = sum(sizes) // rows * rows
    whole = pa.table({"n": pa.array(range(total), pa.int64())})
    blocks, start = [], 0
    for size in sizes:
        blocks.append(whole.slice(start, size))
        start += size
    tables = list(_rebatch(iter(blocks), rows))
    assert [table.num_rows for table in tables] == [rows] * (total // rows)
    assert [n for table in tables for n in table["n"].to_pylist()] == list(range(total))


def test_rebatching_gives_a_table_as_soon_as_it_is_whole():
    taken = 0

    def blocks():
        nonlocal taken
        for number in range(10):
            taken += 1
            yield pa.table({"n": [number, number]})

    tables = _rebatch(blocks(), 4)
    next(tables)
    assert taken == 2


@pytest.mark.parametrize("batches", [1, 3, 100])
def test_the_size_of_tasks_does_not_change_what_is_read(batches):
    share = Share(8, 0, 2, 0, 6)
    expected = list(make_reader().batches(share))
    config = ReaderConfig(batches_per_task=batches, samples_per_task=1)
    assert same(list(stream_here(make_reader(), share, config)), expected)


def test_a_thread_that_is_only_being_started_is_waited_for(monkeypatch):
    done, looks, real = [], [], threading.enumerate
    thread = threading.Thread(name="iter_threaded", target=lambda: done.append(1))

    def threads():
        looks.append(1)
        if len(looks) == 3:
            thread.start()
        return real() if len(looks) > 3 else [*real(), thread]

    monkeypatch.setattr(threading, "enumerate", threads)
    module._settle(set(real()))
    assert done
    assert len(looks) > 3


@pytest.mark.ray
def test_tables_of_texts_alone_are_not_cut_into_rows(monkeypatch, ray_cluster):
    import ray

    data = {"source": {"kind": "synthetic"}, "decode": {"size": None, "text": {"caption": "txt"}}}
    source = Synthetic(Synthetic.Config(samples=64, size=16))
    reader = Reader(source, DataConfig.model_validate(data), seed=5)
    assert reader.row_bytes == 0
    blocks, rebatch = [], module._rebatch

    def noted(tables, rows):
        return rebatch((blocks.append(table.num_rows) or table for table in tables), rows)

    monkeypatch.setattr(module, "_rebatch", noted)
    config = ReaderConfig(batches_per_task=4, samples_per_task=1)
    found = list(stream(ray.put(reader), Share(8, 0, 1, 0, 8), config))
    assert same(found, list(stream_here(reader, Share(8, 0, 1, 0, 8), config)))
    assert blocks[:2] == [32, 32]


def test_films_are_not_waited_for():
    reader = make_reader()
    assert reader.quick
    decode = {"size": None, "video": {"frames": 2, "size": 8}}
    data = DataConfig.model_validate({"source": {"kind": "synthetic"}, "decode": decode})
    assert not Reader(reader.source, data, 0).quick


@pytest.mark.parametrize(("samples", "reads"), [(1, 6), (8, 3), (128, 1)])
def test_small_batches_are_read_together(samples, reads, monkeypatch):
    read, parts = Reader.read, []

    def noted(self, rows, threads=1):
        parts.append(rows)
        return read(self, rows, threads)

    monkeypatch.setattr(Reader, "read", noted)
    config = ReaderConfig(batches_per_task=1, samples_per_task=samples)
    reader = make_reader(48)
    found = list(stream_here(reader, Share(8, 0, 2, 0, 6), config))
    assert [table.num_rows for table in found] == [4] * 6
    assert len(parts) == reads


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
class TestOnRay:
    """Through Ray Data: the tables of ``stream_here``, one by one."""

    @pytest.mark.parametrize("niceness", [5, 0])
    def test_reading_has_the_priority_that_is_asked_for(self, niceness):
        import ray

        def noted(table: pa.Table) -> pa.Table:
            mine = os.getpriority(os.PRIO_PROCESS, 0)
            return table.append_column("niceness", pa.array([mine] * table.num_rows))

        @ray.remote(num_cpus=0, runtime_env={"env_vars": {NICENESS: "0"}})
        def training() -> tuple[int, list[int]]:
            config = ReaderConfig(niceness=niceness)
            (table,) = stream(ray.put(make_reader()), Share(4, 0, 1, 0, 1), config, noted)
            return os.getpriority(os.PRIO_PROCESS, 0), table["niceness"].to_pylist()

        assert ray.get(training.remote()) == (0, [niceness] * 4)

    @pytest.mark.parametrize("rank", [0, 1])
    @pytest.mark.parametrize("start", [0, 4])
    def test_each_rank_gets_its_tables_in_order_across_epochs(self, rank, start):
        import ray

        reader = make_reader()  # 20 samples: epochs end inside batches 2, 4 and 7
        share = Share(8, rank, 2, start, 11)
        config = ReaderConfig(batches_per_task=3, samples_per_task=1, tasks_ahead=2, cache=0)
        found = list(stream(ray.put(reader), share, config))
        expected = list(stream_here(reader, share, config))
        assert [table.num_rows for table in found] == [4] * (11 - start)
        assert same(found, expected)
        assert len({epoch for table in found for epoch in table["epoch"].to_pylist()}) > 1

    def test_what_readers_devices_make_is_sized_without_them(self):
        import ray

        me = os.getpid()

        def elsewhere(table: pa.Table) -> pa.Table:
            assert os.getpid() != me, "this process has no such device"
            return table.append_column("mark", pa.array([7] * table.num_rows))

        def here(table: pa.Table) -> pa.Table:
            return table.append_column("mark", pa.array([0] * table.num_rows))

        share = Share(4, 0, 1, 0, 5)
        found = list(stream(ray.put(make_reader()), share, ReaderConfig(), elsewhere, here))
        assert [table["mark"].to_pylist() for table in found] == [[7] * 4] * 5

    def test_a_run_longer_than_one_graph_goes_on(self, monkeypatch):
        import ray

        monkeypatch.setattr(module, "_SEGMENT", 2)
        reader, share = make_reader(), Share(4, 0, 1, 0, 5)
        config = ReaderConfig(batches_per_task=1, samples_per_task=1, cache=0)
        found = list(stream(ray.put(reader), share, config))
        assert same(found, list(stream_here(reader, share, config)))

    def test_nothing_left_to_read_is_no_table(self):
        import ray

        assert list(stream(ray.put(make_reader()), Share(4, 0, 1, 3, 3), ReaderConfig())) == []


LITTLE = ReaderConfig(
    batches_per_task=4, samples_per_task=1, tasks_ahead=1, memory=1 << 20, cache=0
)


def pictures() -> Reader:
    """Of which little memory holds few batches."""
    data = DataConfig.model_validate(
        {"source": {"kind": "synthetic"}, "decode": {"size": 64, "text": {"caption": "txt"}}}
    )
    return Reader(Synthetic(Synthetic.Config(samples=64, size=64)), data, seed=5)


@pytest.mark.ray
def test_a_consumer_that_is_busy_elsewhere_shares_its_process_with_an_idle_executor(ray_cluster):
    """The executor once span while readers were as far ahead as they may be."""
    import time

    import ray

    tables = stream(ray.put(pictures()), Share(64, 0, 1, 0, 200), LITTLE)
    next(tables)
    time.sleep(4)  # readers fill what they may
    before, began = time.process_time(), time.monotonic()
    time.sleep(4)
    share = (time.process_time() - before) / (time.monotonic() - began)
    tables.close()
    assert share < 0.25


@pytest.mark.ray
def test_a_graph_that_stands_still_is_not_ended_for_that(ray_cluster, monkeypatch):
    """Training may wait for an upload for longer than Ray Data waits for progress."""
    import time

    import ray

    monkeypatch.setattr(ray.data.DataContext.get_current(), "execution_no_progress_timeout_s", 1.0)
    tables = stream(ray.put(pictures()), Share(64, 0, 1, 0, 200), LITTLE)
    next(tables)
    time.sleep(6)  # readers fill what they may, and then stand still
    assert len([next(tables) for _ in range(50)]) == 50
    tables.close()


@pytest.mark.ray
def test_other_datasets_of_the_process_are_executed_as_ever(ray_cluster):
    import ray
    from ray.data._internal.execution import streaming_executor_state

    def own_wait() -> float:
        return float(streaming_executor_state.WAIT_FOR_TASK_COMPLETION_TIMEOUT_S)

    usual = ray.data.DataContext.get_current().copy()
    waits = own_wait()
    tables = stream(ray.put(make_reader()), Share(4, 0, 1, 0, 9999), ReaderConfig(cache=0))
    next(tables)
    assert own_wait() == 0.0 < waits
    now = ray.data.DataContext.get_current()
    assert now.execution_options.preserve_order == usual.execution_options.preserve_order
    assert now.target_max_block_size == usual.target_max_block_size
    assert now.custom_execution_callback_classes == usual.custom_execution_callback_classes
    tables.close()
    assert own_wait() == waits
