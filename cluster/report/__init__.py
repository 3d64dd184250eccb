"""A run, or what came of few labels, as one self-contained page; a run as a JSON summary too."""

from cluster.report.finetuned import is_finetuned, render_finetuned, write_finetuned
from cluster.report.read import RunView, read_run
from cluster.report.render import render_report, write_report
from cluster.report.summary import build_summary, write_summary

__all__ = [
    "RunView",
    "build_summary",
    "is_finetuned",
    "read_run",
    "render_finetuned",
    "render_report",
    "write_finetuned",
    "write_report",
    "write_summary",
]
