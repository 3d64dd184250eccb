from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from pipelines.core import DataError, UserError
from pipelines.core.batch import Batch
from trainers.core.engine import OptimizerConfig
from trainers.core.objective import LossOutput, Objective
from trainers.core.phases import PHASES
from trainers.loop import Plan, train
from trainers.meter import Clock, NotFinite
from trainers.torch_engine import TorchEngine


class Line(Objective):
    """Fits one number; its loss can be made to break."""

    def __init__(self, breaks_at: int | None = None):
        super().__init__()
        self.views = {}
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen: list[int] = []
        self.progress: list[float] = []
        self._breaks_at = breaks_at

    def forward(self, batch: Batch) -> LossOutput:
        self.seen.append(int(batch.samples[0]))
        loss = (self.weight**2).sum()
        if self._breaks_at is not None and len(self.seen) >= self._breaks_at:
            loss = loss * float("nan")
        return LossOutput(loss, {"twice": 2 * loss.detach()})

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)

    def encoders(self) -> dict[str, torch.nn.Module]:
        return {}


class Recorder:
    def __init__(self, leaves_after: int | None = None) -> None:
        self.leaves_after, self.steps = leaves_after, 0
        self.judged: list[bool] = []
        self.firsts = 0
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.commits: list[int] = []
        self.faults: list[dict[str, Any]] = []
        self.quarantined: list[dict[str, Any]] = []

    def first(self, table: pa.Table, batch: Batch) -> None:
        self.firsts += 1

    def log(self, metrics: dict[str, float], samples: int) -> None:
        self.lines.append((samples, metrics))

    def quarantine(self, faults: list[dict[str, Any]]) -> None:
        self.quarantined = list(faults)

    def look(self, step: int, batch: Batch) -> dict[str, float]:
        return {"rank": float(step)} if step % 4 == 0 else {}

    def leaves(self) -> bool:
        self.steps += 1
        return self.steps == self.leaves_after

    def commit(
        self,
        samples: int,
        clock: Clock,
        faults: list[dict[str, Any]],
        unreadable: int,
        judged: bool,
    ) -> float:
        self.unreadable = unreadable
        self.commits.append(samples)
        self.judged.append(judged)
        self.faults = list(faults)
        return 0.25


def tables(start: int, stop: int, fault: str = "") -> Any:
    for number in range(start, stop):
        yield pa.table({"sample": [number] * 4, "fault": [fault] + [""] * 3})


def build(table: pa.Table) -> Batch:
    samples = torch.tensor(table["sample"].to_pylist())
    return Batch(samples, samples, {})


def plan(steps: int = 10, **changes: Any) -> Plan:
    given = {"log_every": 2, "commit_every": 12, "quarantine_limit": 0.01, "epoch": 20}
    return Plan(global_batch=4, steps=steps, **{**given, **changes})


def run(
    objective: Line,
    source: Any,
    a_plan: Plan,
    done: int = 0,
    clock: Clock | None = None,
    leaves_after: int | None = None,
    recorder: Recorder | None = None,
    kind: type[TorchEngine] = TorchEngine,
) -> tuple[Recorder, Clock]:
    recorder = recorder or Recorder(leaves_after)
    optimizer = OptimizerConfig(learning_rate=0.1, warmup=0)
    engine = kind(objective, optimizer, torch.device("cpu"))
    return recorder, train(engine, source, build, a_plan, optimizer, recorder, done, clock)


def test_every_table_is_a_step_and_every_interval_a_line() -> None:
    objective = Line()
    recorder, clock = run(objective, tables(0, 10), plan())
    assert objective.seen == list(range(10))
    assert [samples for samples, _ in recorder.lines] == [8, 16, 24, 32, 40]
    assert recorder.commits == [12, 24, 36, 40]
    assert recorder.firsts == 1
    assert objective.progress[-1] == 1.0
    assert clock.evaluation == pytest.approx(4 * 0.25)
    assert clock.train > 0


def test_a_line_holds_means_of_its_interval() -> None:
    recorder, _ = run(Line(), tables(0, 10), plan())
    for _, line in recorder.lines:
        assert line["twice"] == pytest.approx(2 * line["loss"])
        assert {"learning_rate", "grad_norm", "samples_per_second", "data_wait_share"} < set(line)
    assert recorder.lines[0][1]["epoch"] == pytest.approx(8 / 20)
    assert [line.get("rank") for _, line in recorder.lines] == [None, 4.0, None, 8.0, None]


def test_a_line_tells_where_the_time_of_a_step_went() -> None:
    recorder, _ = run(Line(), tables(0, 10), plan())
    for _, line in recorder.lines:
        spent = {name: value for name, value in line.items() if name.startswith("seconds_")}
        assert set(spent) == {
            f"seconds_{name}"
            for name in ("wait", "augment", "forward", "backward", "optimizer", "commit")
        }
        assert all(spent[f"seconds_{name}"] > 0 for name in PHASES)
        del spent["seconds_commit"]  # which the rate leaves out
        assert sum(spent.values()) <= 4 / line["samples_per_second"]
        assert line["memory_bytes"] > 1e6


def test_what_is_done_once_at_the_first_batch_is_not_in_the_rate() -> None:
    import time

    class Slow(Recorder):
        def first(self, table: pa.Table, batch: Batch) -> None:
            time.sleep(0.5)

    recorder = Slow()
    optimizer = OptimizerConfig(learning_rate=0.1, warmup=0)
    engine = TorchEngine(Line(), optimizer, torch.device("cpu"))
    train(engine, tables(0, 10), build, plan(), optimizer, recorder)
    assert recorder.lines[0][1]["samples_per_second"] > 8 / 0.5


def test_a_resumed_run_starts_at_its_step_and_keeps_its_clock() -> None:
    objective = Line()
    clock = Clock(train=100.0, wait=1.0)
    recorder, clock = run(objective, tables(6, 10), plan(), done=6, clock=clock)
    assert objective.seen == [6, 7, 8, 9]
    assert recorder.commits == [36, 40]
    assert clock.train >= 100.0
    assert clock.wait >= 1.0


def test_a_run_that_is_asked_to_leave_commits_where_it_is_without_an_evaluation() -> None:
    objective = Line()
    recorder, _ = run(objective, tables(0, 10), plan(), leaves_after=5)
    assert objective.seen == [0, 1, 2, 3, 4]
    assert recorder.commits == [12, 20]
    assert recorder.judged == [True, False]


def test_a_commit_that_is_due_when_workers_leave_is_evaluated() -> None:
    recorder, _ = run(Line(), tables(0, 10), plan(), leaves_after=3)
    assert recorder.commits == [12]
    assert recorder.judged == [True]


def test_the_first_batch_is_start_up_and_not_data_wait() -> None:
    import time

    def slow_start() -> Any:
        time.sleep(0.2)
        yield from tables(0, 10)

    _, clock = run(Line(), slow_start(), plan())
    assert clock.first_wait >= 0.2
    assert clock.wait < 0.1


def test_a_stream_that_ends_early_is_an_error() -> None:
    with pytest.raises(DataError, match="after 7 of 10 steps"):
        run(Line(), tables(0, 7), plan())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_first_such_step() -> None:
    with pytest.raises(NotFinite, match="not finite at 20 samples; lower") as caught:
        run(Line(breaks_at=5), tables(0, 10), plan())
    assert caught.value.step == 5


def test_nothing_that_is_not_finite_is_committed() -> None:
    recorder = Recorder()
    optimizer = OptimizerConfig(learning_rate=0.1, warmup=0)
    engine = TorchEngine(Line(breaks_at=5), optimizer, torch.device("cpu"))
    # A commit falls on step 6, the next line of metrics on step 10.
    rare = plan(log_every=10)
    with pytest.raises(NotFinite):
        train(engine, tables(0, 10), build, rare, optimizer, recorder)
    assert recorder.commits == [12]


def test_a_skipped_batch_makes_no_update_and_the_others_are_as_they_were() -> None:
    objective = Line()
    recorder, _ = run(objective, tables(0, 10), plan(skipped=frozenset({1, 4, 10})))
    assert objective.seen == [1, 2, 4, 5, 6, 7, 8]
    assert recorder.firsts == 1
    assert recorder.commits == [12, 24, 36, 40]
    assert [samples for samples, _ in recorder.lines] == [8, 16, 24, 32, 40]


def test_where_all_of_an_interval_is_skipped_there_is_no_line() -> None:
    recorder, _ = run(Line(), tables(0, 10), plan(skipped=frozenset({3, 4})))
    assert [samples for samples, _ in recorder.lines] == [8, 24, 32, 40]


def test_the_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(NotFinite("why", 7)))
    assert (str(error), error.step) == ("why", 7)
    assert isinstance(error, UserError)


FAULT = '[{"shard": "a.tar", "key": "k", "reason": "broken"}]'


def test_unreadable_samples_over_the_limit_stop_the_run() -> None:
    recorder = Recorder()
    with pytest.raises(DataError, match=r"over data.quarantine_limit 0.01; first k in a.tar"):
        run(Line(), tables(0, 60, FAULT), plan(60), recorder=recorder)
    assert recorder.quarantined[0] == {"shard": "a.tar", "key": "k", "reason": "broken"}


def test_a_run_too_short_to_judge_on_its_way_is_judged_at_its_end() -> None:
    recorder = Recorder()
    with pytest.raises(DataError, match=r"10 of 40 samples are unreadable"):
        run(Line(), tables(0, 10, FAULT), plan(10), recorder=recorder)
    assert [samples for samples, _ in recorder.lines][-1] == 40
    run(Line(), tables(0, 10, FAULT), plan(10, quarantine_limit=0.25))


def test_samples_that_earlier_attempts_could_not_read_count_too() -> None:
    given = {"quarantine_limit": 0.2}
    run(Line(), tables(60, 120, FAULT), plan(120, **given), done=60)
    with pytest.raises(DataError, match="samples are unreadable"):
        run(Line(), tables(60, 120, FAULT), plan(120, unreadable=60, **given), done=60)


def test_unreadable_samples_under_the_limit_are_kept_once_each() -> None:
    other = FAULT.replace('"k"', '"other"')
    both = [*tables(0, 30, FAULT), *tables(30, 60, other)]
    recorder, _ = run(Line(), iter(both), plan(60, quarantine_limit=0.5))
    assert [fault["key"] for fault in recorder.faults] == ["k", "other"]
    assert recorder.unreadable == 60
    recorder, _ = run(
        Line(), tables(30, 60, other), plan(60, unreadable=30, quarantine_limit=0.5), done=30
    )
    assert recorder.unreadable == 60


def test_a_sample_that_comes_again_counts_again() -> None:
    with pytest.raises(DataError, match=r"50 of 200 samples are unreadable"):
        run(Line(), tables(0, 60, FAULT), plan(60, quarantine_limit=0.2))


class OneOfTwo(TorchEngine):
    """A worker of two."""

    world_size = 2

    def mean(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values / 2


def stopped(rank: int, folder: str) -> dict[str, Any]:
    """What a worker of two tells and keeps where only the second has unreadable samples."""
    dist.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{folder}/meet")
    recorder, given = Recorder(), plan(60, quarantine_limit=0.2)
    source = tables(0, 60, FAULT if rank else "")
    with pytest.raises(DataError) as error:
        run(Line(), source, given, recorder=recorder, kind=OneOfTwo)
    dist.destroy_process_group()
    return {"error": str(error.value), "kept": recorder.quarantined}


STOPPED = """
import json, sys
from tests.trainers.test_loop import stopped
print(json.dumps(stopped(int(sys.argv[1]), sys.argv[2])))
"""


def test_workers_stop_alike_and_each_knows_the_unreadable_samples_of_all(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STOPPED, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for rank in range(2)
    ]
    first, second = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    assert first == second
    assert first["kept"] == json.loads(FAULT)
    assert first["error"].startswith("50 of 200 samples are unreadable")


class Deaf(Line):
    """Of use from a sample on."""

    def __init__(self, begins: int) -> None:
        super().__init__()
        self._begins = begins

    def forward(self, batch: Batch) -> LossOutput:
        output = super().forward(batch)
        usable = torch.tensor(float(int(batch.samples[0]) >= self._begins))
        return LossOutput(output.loss, {"usable": usable})


def test_a_run_that_can_use_nothing_ends_early() -> None:
    recorder = Recorder()
    with pytest.raises(DataError, match="not one of 200 samples is of use to the objective"):
        run(Deaf(1000), tables(0, 100), plan(100), recorder=recorder)
    assert recorder.lines[-1][0] == 200


def test_a_run_that_can_use_some_goes_on() -> None:
    recorder = Recorder()
    run(Deaf(48), tables(0, 100), plan(100), recorder=recorder)
    assert recorder.lines[-1][0] == 400
