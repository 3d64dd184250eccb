"""``python -m cluster``: the ``eagleray`` command where the package is not installed."""

from cluster.cli import main

main()
