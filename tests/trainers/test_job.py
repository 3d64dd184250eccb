from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.trainers.conftest import small_recipe
from trainers.job import Job


def test_it_survives_the_trip_to_a_worker() -> None:
    job = Job(run="s3://bucket/run", folder="/", recipe=small_recipe())
    assert Job.model_validate(job.model_dump(mode="json")) == job


def test_it_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError):
        Job.model_validate({"run": "x", "folder": "/", "recipe": small_recipe(), "wokers": 1})
