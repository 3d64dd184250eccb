"""The command line as a user meets it, without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer

from cluster.cli import _main
from cluster.cli.list_ import families
from pipelines.core import UserError
from tests.trainers.conftest import small_recipe
from tests.trainers.test_model import committed_model

COMMANDS = ["demo", "train", "evaluate", "report", "list", "submit"]
COMMANDS += ["pack", "index", "inspect", "verify", "bench", "plan", "finetune", "doctor"]


def eagleray(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
    )


class Here:
    """The command in this process, which has imported the libraries already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Run it: exit status, standard output and error."""
        self._monkeypatch.setattr(sys, "argv", ["eagleray", *words])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            _main.main()
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(monkeypatch, capsys)


def test_the_command_lists_its_subcommands() -> None:
    done = eagleray("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(here: Here, name: str) -> None:
    code, out, _ = here(name, "--help")
    assert code == 0
    assert f"Example: eagleray {name}" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "clip-emogi"], "no recipe 'clip-emogi'; did you mean 'clip-emoji'?"),
        (["train", "debug", "--set", "objectiv.x=1"], "objectiv: unknown key; did you mean"),
        (["train", "debug", "--workers", "3"], "3 workers do not divide the global batch of 64"),
        (["train", "debug", "--profile", "lap"], "no profile 'lap'"),
        (["list", "objectivs"], "did you mean 'objectives'?"),
        (["report", "."], "no run there"),
        (["evaluate", ".", "--evaluation", "zeroshot", "--data", "x"], "did you mean 'zero_shot'?"),
        (["evaluate", ".", "--evaluation", "zero_shot", "--data", "x"], "no checkpoint there"),
        (["submit", "debug", "--cluster", "http://127.0.0.1:1", "--out", "x"], "relative path"),
        (
            ["train", "debug", "--cluster", "http://me:pw@head:1"],
            "http://***@head:1: a URL must not",
        ),
    ],
)
def test_a_mistake_is_one_line_and_a_failing_exit(
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, told = here(*words)
    assert code == 1
    assert message in told
    assert told.count("\n") == 1
    assert "Traceback" not in told
    assert not (tmp_path / "runs").exists()


def test_a_process_of_its_own_says_nothing_else_of_a_mistake(tmp_path: Path) -> None:
    done = eagleray("train", "debug", "--workers", "3", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("eagleray: 3 workers do not divide the global batch of 64; use")
    assert done.stdout == ""


def test_an_interrupt_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_main, "app", app)
    monkeypatch.setattr(_main, "_register", lambda: None)
    monkeypatch.setattr(sys, "argv", ["eagleray"])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        _main.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "eagleray: stopped; run the same command again to go on\n"


@pytest.mark.parametrize("kind", [UserError, ValueError])
@pytest.mark.parametrize("options", [[], ["--debug"]])
def test_errors_are_told_without_credentials(
    kind: type[Exception],
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = typer.Typer()

    @app.callback(invoke_without_command=True)
    def fail(debug: bool = False) -> None:
        raise kind(f"401 for {'x' * 270} https://me:hunter22@host/x?sig=abc, key topsecret123")

    monkeypatch.setattr(_main, "app", app)
    monkeypatch.setattr(_main, "_register", lambda: None)
    monkeypatch.setattr(sys, "argv", ["eagleray", *options])
    monkeypatch.setenv("MY_SECRET_KEY", "topsecret123")
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        _main.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "https://***" in said
    assert ("Traceback" in said) == bool(options)
    assert not any(secret in said.splitlines()[-1] for secret in ("hunter", "sig=abc", "topsecret"))


def test_debug_shows_the_traceback(
    here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, told = here("report", ".", "--debug")
    assert code == 1
    assert "Traceback" in told


@pytest.mark.parametrize("family", [*families(), "recipes", "finetune-recipes", "profiles"])
def test_every_family_is_listed_for_people_and_machines(family: str) -> None:
    from cluster.cli.list_ import members

    rows = members(family)
    assert rows
    assert all(row["name"] and row["summary"] for row in rows)


def test_a_list_as_json(here: Here) -> None:
    rows = json.loads(here("list", "objectives", "--json")[1])
    assert {"clip", "rotation", "simclr"} <= {row["name"] for row in rows}


def test_a_checkpoint_is_evaluated_on_tars_of_ones_own(
    here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import io
    import tarfile

    import numpy as np

    from pipelines.sources.synthetic import Synthetic

    made = committed_model(tmp_path / "run", small_recipe())
    source = Synthetic(Synthetic.Config(samples=18, size=24))
    with tarfile.open(tmp_path / "birds-0.tar", "w") as tar:
        for raw in source.read(np.arange(18)):
            for extension in ("png", "txt"):
                info = tarfile.TarInfo(f"{raw.key}.{extension}")
                info.size = len(raw.members[extension])
                tar.addfile(info, io.BytesIO(raw.members[extension]))
    monkeypatch.chdir(tmp_path)
    words = ["--evaluation", "zero_shot", "--data", "birds-*.tar"]
    code, out, told = here("evaluate", made.url, *words, "--json")
    assert code == 0, told
    result = json.loads(out)
    assert result["dataset"] == "birds"
    assert result["outcome"]["examples"] == 18
    assert result["outcome"]["chance"] == pytest.approx(1 / 9)
    assert 0 <= result["outcome"]["metrics"]["top1"] <= 1
    code, out, told = here("evaluate", "run", *words)
    assert code == 0, told
    assert "chance" in out
    code, _, told = here("evaluate", "run", *words, "--set", "caption=json.label")
    assert code == 1
    assert "no member 'json'" in told
