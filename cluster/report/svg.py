"""A matplotlib figure as SVG that lives inside a page: its colours, its font, its size."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that nothing else uses; each becomes a CSS variable, so charts follow the page's scheme.
INK, MUTED, RULE, ACCENT, CHANCE = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    ACCENT: "var(--accent)",
    CHANCE: "var(--chance)",
}
_WIDTH, _HEIGHT = 344, 184
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "eagleray",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.edgecolor": RULE,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.labelcolor": MUTED,
    "ytick.color": RULE,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}


def draw(prefix: str, paint: Callable[[Axes], None]) -> Markup:
    """Draw one chart.

    Args:
        prefix: A word that no other chart of the page has, for the SVG's ids.
        paint: Fills the axes; colours are the constants of this module.

    Returns:
        An ``<svg>`` element that scales with its container.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), dpi=72)
        paint(figure.add_axes((0.135, 0.14, 0.835, 0.80)))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return Markup(_embedded(out.getvalue(), prefix))


def _embedded(document: str, prefix: str) -> str:
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<style type="text/css">.*?</style>', "", svg, flags=re.DOTALL)
    _, _, inside = svg.partition(">")
    # Several charts share a page: an id must not repeat, and group ids name nothing.
    inside = re.sub(r'<g id="[^"]*"', "<g", inside)
    inside = re.sub(r'\bid="', f'id="{prefix}-', inside)
    inside = re.sub(r'\b(?:xlink:)?href="#', f'href="#{prefix}-', inside)
    inside = inside.replace("url(#", f"url(#{prefix}-")
    for colour, variable in _VARIABLES.items():
        inside = inside.replace(colour, variable)
    inside = re.sub(r">\s+<", "><", inside)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true" focusable="false">{inside}'
