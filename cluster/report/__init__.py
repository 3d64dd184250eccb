"""A run as one self-contained page and as one JSON summary."""

from cluster.report.read import RunView, read_run
from cluster.report.render import render_report, write_report
from cluster.report.summary import build_summary, write_summary

__all__ = [
    "RunView",
    "build_summary",
    "read_run",
    "render_report",
    "write_report",
    "write_summary",
]
