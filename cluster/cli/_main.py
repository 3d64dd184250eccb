"""Assembles the subcommands and turns errors into one line."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
import warnings
from typing import NoReturn

import typer

import cluster.cli
from cluster.cli._terminal import printable
from pipelines.core import UserError
from pipelines.shards.storage import redact

_INTERRUPTED = 130
_STOPPED = "eagleray: stopped; run the same command again to go on"

app = typer.Typer(
    name="eagleray",
    help="Pretraining without labels, at scale.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(debug: bool = typer.Option(False, "--debug", help="Show tracebacks.")) -> None:
    """Pretraining without labels, at scale."""


def _register() -> None:
    for info in pkgutil.iter_modules(cluster.cli.__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"cluster.cli.{info.name}")
            name = info.name.rstrip("_")
            if hasattr(module, "app"):  # a command with subcommands of its own
                app.add_typer(module.app, name=name)
            else:
                app.command(name)(module.command)


def main() -> None:
    """Run the command line; exit status 0 only on success."""
    debug = "--debug" in sys.argv
    if debug:  # accepted anywhere, not only before the subcommand
        sys.argv = [sys.argv[0], "--debug", *(a for a in sys.argv[1:] if a != "--debug")]
    else:
        warnings.simplefilter("ignore")  # what libraries tell their developers
    try:
        _register()
        app()
    except UserError as error:
        _end(f"eagleray: {error}", debug)
    except SystemExit as end:
        if end.code == _INTERRUPTED:  # so far the library takes Ctrl-C
            print(_STOPPED, file=sys.stderr)
        raise
    except KeyboardInterrupt:  # before there was a library
        print(_STOPPED, file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        # Hidden before it is cut: half of a credential would not be known for one.
        said = f"{type(error).__name__}: {redact(lines[-1])[:300]}"
        _end(f"eagleray: unexpected {said} (--debug shows more)", debug)


def _end(line: str, debug: bool) -> NoReturn:
    """Tell what went wrong, without credentials, and end as a failure."""
    lines = traceback.format_exc().rstrip().splitlines() if debug else [" ".join(line.split("\n"))]
    print("\n".join(printable(redact(text)) for text in lines), file=sys.stderr)
    sys.exit(1)
