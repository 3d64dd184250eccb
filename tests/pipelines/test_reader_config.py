from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipelines.reader import Share
from pipelines.reader_config import ReaderConfig


@pytest.mark.parametrize(
    ("local", "batches", "samples", "rows"),
    [(4, 8, 1, 32), (4, 8, 128, 128), (64, 8, 128, 512), (1, 1, 1, 1), (128, 1, 128, 128)],
)
def test_a_task_reads_so_many_batches_or_samples_whichever_is_more(local, batches, samples, rows):
    config = ReaderConfig(batches_per_task=batches, samples_per_task=samples)
    assert config.rows(Share(2 * local, 1, 2, 0, 9), 1000.0) == rows


@pytest.mark.parametrize(
    ("ahead", "memory", "rows"),
    [(1, 3 << 20, 256), (2, 96 << 20, 256), (2, 24 << 20, 80), (3, 24 << 20, 40), (3, 3 << 20, 32)],
)
def test_what_waits_for_its_turn_has_room(ahead, memory, rows):
    config = ReaderConfig(batches_per_task=8, samples_per_task=1, tasks_ahead=ahead, memory=memory)
    size = (8 << 20) / 80
    found = config.rows(Share(32, 0, 1, 0, 9), size)
    assert found == rows
    assert found == 32 or (ahead - 1) * found * size <= memory / 3 or ahead == 1


MB = 1 << 20


@pytest.mark.parametrize(
    ("memory", "batch", "batches", "slow"),
    [
        (64 * MB, 3 * MB, 2, 2),  # a little over 4 MiB
        (64 * MB, 64, 65536, 65536),
        (16 * MB, 1 * MB, 2, 2),  # never more than an eighth of the memory, but one
        (1 * MB, 3 * MB, 1, 1),
        (256 * MB, 3 * MB, 5, 2),  # 16 blocks have room
        (2048 * MB, 48 * MB, 2, 1),
        (2048 * MB, 49 * MB, 1, 1),
        (9999 * MB, 6 * MB, 8, 1),  # no more than 512 rows
        (9999 * MB, 24 * MB, 4, 1),  # no more than 96 MiB
        (64 * MB, 0, 4 * MB, 4 * MB),
    ],
)
def test_batches_are_handed_over_together_where_there_is_room(memory, batch, batches, slow):
    config = ReaderConfig(memory=memory)
    assert config.together(64, batch / 64, True) == batches
    assert config.together(64, batch / 64, False) == slow


@pytest.mark.parametrize(
    ("tasks", "memory", "enough"),
    [(2, 384, False), (2, 512, True), (12, 1024, False), (12, 2048, True), (1, 1, True)],
)
def test_memory_that_left_cores_idle_is_too_little(tasks, memory, enough):
    batch = 256 * 3 * 256**2
    assert (ReaderConfig(tasks_ahead=tasks).least(batch) <= memory * MB) == enough


@pytest.mark.parametrize(
    "options", [{"samples_per_task": 0}, {"batches_per_task": 0}, {"tasks_ahead": 0}, {"cpus": -1}]
)
def test_a_spread_that_cannot_work_is_refused(options):
    with pytest.raises(ValidationError):
        ReaderConfig(**options)


@pytest.mark.parametrize(
    ("patience", "outage", "stalled"), [(300, 120, 300), (300, 3600, 7200), (3, 0, 3)]
)
def test_a_reader_that_waits_for_a_store_is_not_replaced(patience, outage, stalled):
    config = ReaderConfig(patience=patience, outage=outage)
    assert config.stalled == stalled
    assert config.deadline == 4 * stalled
