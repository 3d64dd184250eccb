from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.bench.stepping import Stepping, rate_between, read_lines
from cluster.profile import load_profile
from tests.trainers.conftest import small_recipe


def test_a_measurement_is_so_many_steps_with_few_lines_and_one_commit() -> None:
    recipe = small_recipe()
    stepping = Stepping(recipe, load_profile("laptop", ("workers=1",)), 9)
    clocked = stepping.clocked
    assert (clocked.steps, clocked.log_every, stepping.warm) == (9, 3, 3)
    assert clocked.commit_every == clocked.samples == 9 * recipe.global_batch
    assert clocked.evaluations == ()
    assert clocked.objective == recipe.objective


def test_the_rate_is_from_the_first_line_to_the_last(tmp_path: Path) -> None:
    lines = [(30, 10.0), (60, 12.0), (90, 14.0)]
    text = "\n".join(json.dumps({"samples": n, "seconds": s}) for n, s in lines)
    (tmp_path / "metrics.jsonl").write_text(text + "\n")
    assert rate_between(read_lines(str(tmp_path))) == pytest.approx(15.0)
