"""Templates to pages: one HTML file that needs no other and runs nothing."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cluster.report import formats

_HERE = Path(__file__).parent


def fill(template: str, sheets: tuple[str, ...], **values: object) -> str:
    """Fill a template with plain values, which are escaped.

    Args:
        template: File of this folder.
        sheets: Style sheets of this folder, which the page holds as ``style``.
        values: By the names that the template has for them.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["metric"] = formats.metric
    texts = [(_HERE / name).read_text(encoding="utf-8") for name in sheets]
    style = Markup("\n".join(texts))  # ours, and of no run or data set
    return environment.get_template(template).render(style=style, **values)
