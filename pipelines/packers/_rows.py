"""Tables at any URL as Arrow batches, read once in order, or in any order from a copy on disk."""

from __future__ import annotations

import csv
import io
import itertools
import re
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core import DataError, StorageError, UserError
from pipelines.shards import storage
from pipelines.shards.storage_faults import temporary

# What is not UTF-8 is let through marked: it is read ahead of the line that has it.
_MARK, _MARKED = "surrogateescape", re.compile("[\udc80-\udcff]")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
BATCH = 64  # rows: they may hold images
_LINE = 1 << 20  # characters; a cell has at most csv.field_size_limit(), 128 Ki

Batches = Generator[pa.RecordBatch, None, None]


def is_table(url: str) -> bool:
    """Whether a file is named like a table."""
    return url.lower().endswith((*DELIMITERS, ".parquet"))


def schema_of(url: str) -> pa.Schema:
    """Columns of a table; those of a CSV or TSV file hold text.

    Raises:
        DataError: It is damaged, or two columns have one name.
    """
    if url.lower().endswith(".parquet"):
        with storage.explained(url), storage.open_anywhere(url) as stream:
            schema = _parquet(url, stream).schema_arrow
    else:
        with storage.explained(url), storage.open_read(url) as stream:
            header = next(_lines(url, stream), [])
        schema = pa.schema([(name, pa.string()) for name in header])
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None or not schema.names:
        fault = "it has no columns" if twice is None else f"two columns are called '{twice}'"
        raise DataError(f"{url}: {fault}")
    return schema


def batches(url: str, columns: Sequence[str]) -> Batches:
    """Read some columns of a table, a few rows at a time, in order.

    A row of a CSV file that has not as many cells as there are columns
    comes with nulls in all of them.

    Raises:
        DataError: It is damaged.
    """
    if not url.lower().endswith(".parquet"):
        with storage.explained(url), storage.open_read(url) as stream:
            yield from _csv_batches(_lines(url, stream), columns)
        return
    with storage.explained(url), _one_state(url), storage.open_anywhere(url) as stream:
        file = _parquet(url, stream)
        try:
            yield from map(_plain, file.iter_batches(BATCH, columns=list(columns)))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{url}: damaged ({_first(error)})") from None


def cells(url: str, column: str | None) -> Iterator[Any]:
    """Read one column; without a name, something for every row of a table.

    None stands for a null, for what is not of its column's type, and for a row of a CSV file with
    too many or too few cells.
    """
    if column is None and url.lower().endswith(".parquet"):
        with storage.explained(url), storage.open_anywhere(url) as stream:
            yield from itertools.repeat("", _parquet(url, stream).metadata.num_rows)
        return
    for batch in batches(url, [column or schema_of(url).names[0]]):
        yield from map(_cell, batch.column(0))


def _cell(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):  # text that is none, times that no clock has
        return None


@contextmanager
def _one_state(url: str) -> Iterator[None]:
    """Refuse a file that is replaced while it is read: its footer would be another's."""
    before = storage.stamp(url)
    try:
        yield
    except (DataError, StorageError):
        if storage.stamp(url) == before:
            raise
    if storage.stamp(url) != before:
        raise DataError(f"{url}: changed while it was read; run again")


def _parquet(url: str, stream: IO[bytes]) -> pq.ParquetFile:
    try:
        # Read as it is wanted: the library's own default keeps all that it has read.
        return pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{url}: no Parquet file ({_first(error)})") from None


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Leave out what differs from file to file: dictionaries and the schema's metadata."""
    arrays = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _csv_batches(rows: Iterator[list[str]], columns: Sequence[str]) -> Batches:
    header = next(rows, [])
    places = [header.index(name) for name in columns]
    schema = pa.schema([(name, pa.string()) for name in columns])
    while chunk := list(itertools.islice(rows, BATCH)):
        whole = [row if len(row) == len(header) else [None] * len(header) for row in chunk]
        arrays = [pa.array([row[place] for row in whole], pa.string()) for place in places]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _lines(url: str, stream: IO[bytes]) -> Iterator[list[str]]:
    delimiter = DELIMITERS[url[-4:].lower()]
    with io.TextIOWrapper(stream, "utf-8-sig", _MARK, newline="") as text:
        reader = csv.reader(
            _bounded(text),
            delimiter=delimiter,
            # text/tab-separated-values knows no quotes: a bare one is a letter, and begins no cell.
            quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
            strict=True,
        )
        try:
            yield from (row for row in reader if row)
        except csv.Error as error:
            raise DataError(f"{url}: line {reader.line_num + 1}: {error}") from None


def _bounded(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LINE):
        if len(line) == _LINE:
            raise csv.Error(f"longer than {_LINE} characters")
        if not line.isascii() and _MARKED.search(line):
            raise csv.Error("not UTF-8")
        yield line


class Rows:
    """Rows of tables by number. In rising order they are read once; any other order makes a copy.

    The copy is an Arrow file on this machine's disk, as large as the columns that are read.

    Args:
        start: Starts reading all batches anew.
    """

    def __init__(self, start: Callable[[], Batches]):
        self._start = start
        self._ahead = start()
        self._batch: Any = None
        self._first = self._stop = 0  # rows of the batch at hand
        self._copy: _Copy | None = None

    def __getitem__(self, row: int) -> dict[str, Any]:
        if self._copy is None and row < self._first:
            self._ahead.close()
            self._copy = _Copy(self._start())
        if self._copy is not None:
            return self._copy[row]
        while row >= self._stop:
            self._batch = next(self._ahead)
            self._first, self._stop = self._stop, self._stop + self._batch.num_rows
        return _row(self._batch, row - self._first)


class _Copy:
    def __init__(self, source: Batches):
        self._starts: list[int] = []
        with tempfile.NamedTemporaryFile(prefix="eagleray-", suffix=".arrow") as file:
            first = next(source)
            with temporary(file.name):
                sink = pa.ipc.new_file(file.name, first.schema)
            rows = 0
            for batch in itertools.chain([first], source):
                self._starts.append(rows)
                rows += batch.num_rows
                with temporary(file.name):
                    sink.write_batch(batch)
            with temporary(file.name):
                sink.close()
            # Mapped, it stays until it is let go, although it has no name any more.
            self._reader = pa.ipc.open_file(pa.memory_map(file.name))

    def __getitem__(self, row: int) -> dict[str, Any]:
        place = bisect_right(self._starts, row) - 1
        return _row(self._reader.get_batch(place), row - self._starts[place])


def _row(batch: Any, place: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = batch.slice(place, 1).to_pylist()
    return rows[0]


def one_schema(urls: Sequence[str]) -> pa.Schema:
    """Columns that all of some tables have.

    Raises:
        DataError: One is damaged.
        UserError: They have different columns.
    """
    schema = schema_of(urls[0])
    for url in urls[1:]:
        if not schema_of(url).equals(schema):
            raise UserError(f"{url}: its columns are not those of {urls[0]}; pack it by itself")
    return schema
