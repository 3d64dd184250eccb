"""The command itself; streaming and auditing are tested in ``tests/cluster/test_verify.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import verify
from cluster.cli._main import app
from cluster.cli.verify import _lines_to, _show
from pipelines.core import ConfigError, StorageError


def test_keys_go_to_a_file_line_by_line(tmp_path: Path) -> None:
    with _lines_to(tmp_path / "keys.txt") as note:
        note("a")
        note("ü/b")
    assert (tmp_path / "keys.txt").read_text(encoding="utf-8") == "a\nü/b\n"
    with _lines_to(None) as note:
        note("a")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"none/keys\.txt: No such file"),
        _lines_to(tmp_path / "none" / "keys.txt"),
    ):
        pass


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_epoch_of_tars_is_proved(tmp_path: Path, make_tar: object) -> None:
    for n in range(2):
        make_tar(tmp_path / f"{n}.tar", {f"{n}-{i}": {"txt": b"x"} for i in range(20)})  # type: ignore[operator]
    app.command("verify")(verify.command)
    words = ["verify", f"{tmp_path}/*.tar", "--set", "global_batch=8", "--workers", "1"]
    words += ["--stop-at", "16", "--resume-with", "2", "--keys-out", str(tmp_path / "keys")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "40 samples from 2 shards: every one came once, in order" in done.output
    keys = (tmp_path / "keys").read_text().split()
    assert sorted(keys) == sorted(f"{n}-{i}" for n in range(2) for i in range(20))


def test_what_is_wrong_is_shown(capsys) -> None:
    fault = {"shard": "s.tar", "key": "k", "reason": "broken"}
    _show(
        {
            "damaged_shards": [{"shard": "d.tar", "reason": "truncated"}],
            "faults": [fault],
            "exact": False,
            "delivered": 7,
            "samples": 9,
            "shards": 1,
            "unreadable": 1,
            "missing": 2,
            "repeated": 0,
            "misplaced": 3,
            "keys": "abc",
            "seconds": 2.0,
            "samples_per_second": 3.5,
            "examples": ["sample 4 came 1 times too few"],
        }
    )
    text = capsys.readouterr().out
    for part in ("damaged: d.tar: truncated", "unreadable: k in s.tar: broken", "NOT exact"):
        assert part in text
    assert "sample 4 came 1 times too few" in text


@pytest.mark.parametrize(
    "options",
    [["--set", "seed=1"], ["--workers", "2"], ["--stop-at", "0"], ["--profile", "gpu"]],
)
def test_of_a_run_no_other_order_is_asked_for(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "recipe.yaml").write_text("")
    app.command("verify")(verify.command)
    done = CliRunner().invoke(app, ["verify", str(tmp_path), *options])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("of a run only --keys-out and --json can be given")


@pytest.mark.parametrize(("delivered", "said"), [(7, "once"), (70, "as often as the order has it")])
def test_a_run_of_many_epochs_is_not_said_to_have_had_each_once(
    capsys: pytest.CaptureFixture[str], delivered: int, said: str
) -> None:
    counts = dict.fromkeys(("unreadable", "missing", "repeated", "misplaced", "shards"), 0)
    lists = {"damaged_shards": [], "faults": [], "examples": []}
    _show({**counts, **lists, "exact": True, "samples": 7, "delivered": delivered, "keys": "abc"})
    assert f"every one came {said}, in order" in capsys.readouterr().out
