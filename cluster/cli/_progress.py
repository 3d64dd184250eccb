"""Progress of a run, read from its metrics."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.cli._terminal import printable
from pipelines.core import StorageError
from pipelines.shards import storage

_LINE = 1 << 14  # bytes: longer than any line of metrics
console = Console(stderr=True)


def say(line: str) -> None:
    """Tell the user a line, without credentials."""
    text = printable(storage.redact(line))
    console.print(text, markup=False, highlight=False, soft_wrap=True)  # commands can be copied


@contextmanager
def bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far some work is: call it with (done, of how many)."""
    columns = (BarColumn(), TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=1)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield update


@contextmanager
def watch(run: str, planned: int) -> Iterator[None]:
    """Show samples, rate, loss, data wait and time left while training goes on."""
    over = threading.Event()
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        task = progress.add_task("starting workers", total=planned)

        def follow() -> None:
            shown = 0
            while not over.wait(1.0):
                line = last_line(run)
                if line is None:
                    continue
                progress.update(
                    task, completed=line["samples"], description=describe(line, planned)
                )
                if not console.is_terminal and line["samples"] >= shown + planned / 20:
                    shown = int(line["samples"])
                    say(describe(line, planned))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            line = last_line(run)
            if line is not None:
                progress.update(
                    task, completed=line["samples"], description=describe(line, planned)
                )


def last_line(run: str) -> dict[str, float] | None:
    """Newest line of a run's metrics, or None."""
    url = storage.join(run, "metrics.jsonl")
    try:
        if not storage.exists(url):
            return None
        lines = storage.read_tail(url, _LINE).splitlines()
        line: dict[str, float] = json.loads(lines[-1])
        return line
    except (StorageError, ValueError, IndexError):
        return None


def describe(line: dict[str, float], planned: int) -> str:
    """Put a line of metrics into words.

    >>> describe({"samples": 50, "samples_per_second": 10.0, "loss": 1.5,
    ...           "data_wait_share": 0.01}, 100)
    '50/100 samples, 10/s, loss 1.500, data wait 1.0 %, 0:05 left'
    """
    left = (planned - line["samples"]) / max(line["samples_per_second"], 1e-9)
    minutes, seconds = divmod(round(left), 60)
    return (
        f"{line['samples']:,.0f}/{planned:,} samples, {line['samples_per_second']:.0f}/s, "
        f"loss {line['loss']:.3f}, data wait {100 * line['data_wait_share']:.1f} %, "
        f"{minutes}:{seconds:02d} left{', FEATURES COLLAPSED' if line.get('collapsed') else ''}"
    )
