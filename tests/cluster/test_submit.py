from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cluster.submit import pack, submit
from pipelines.core import UserError
from tests.trainers.conftest import small_recipe


def test_the_packed_folder_runs_by_itself(tmp_path: Path) -> None:
    pack(tmp_path, small_recipe(), "workers: 1\n")
    script = "from trainers.recipe import load_recipe; print(load_recipe('recipe.yaml').name)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "small"
    assert (tmp_path / "pipelines" / "datasets" / "emoji" / "emoji-train-00000.tar").exists()


def test_the_packed_folder_knows_the_project_where_it_is_not_installed(tmp_path: Path) -> None:
    pack(tmp_path, small_recipe(), "workers: 1\n")
    (found,) = metadata.distributions(name="eagleray", path=[str(tmp_path)])
    assert found.version == metadata.version("eagleray")
    assert found.requires == metadata.requires("eagleray")


def test_a_relative_place_is_refused() -> None:
    with pytest.raises(UserError, match="relative path means another folder on the cluster"):
        submit(small_recipe(), "", "runs/x", "http://127.0.0.1:1")


def test_a_cluster_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(UserError, match=r"no Ray job server at http://127\.0\.0\.1:1") as caught:
        submit(small_recipe(), "", "/tmp/x", "http://127.0.0.1:1")
    assert "\n" not in str(caught.value)
