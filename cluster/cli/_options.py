"""Options that several subcommands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cluster.profile import Profile

Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a value: path.to.key=value.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
ProfileName = Annotated[
    str, typer.Option("--profile", help="Where to run: a shipped profile's name, or a file.")
]
Workers = Annotated[int | None, typer.Option("--workers", help="Training workers.", min=1)]


def profile(name: str, workers: int | None) -> Profile:
    """Load a profile, with another worker count where one is given."""
    from cluster.profile import load_profile

    return load_profile(name, (f"workers={workers}",) if workers else ())
