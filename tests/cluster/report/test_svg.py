import re

from cluster.report import svg


def drawing(prefix: str) -> str:
    def paint(axes: object) -> None:
        axes.plot([0, 1], [0, 1], color=svg.ACCENT, marker="o")  # type: ignore[attr-defined]
        axes.text(0.5, 0.5, "$\\broken{ & <b>$", color=svg.INK)  # type: ignore[attr-defined]

    return str(svg.draw(prefix, paint))


def test_colours_are_variables_of_the_page() -> None:
    text = drawing("a")
    assert not re.search(r"#[0-9a-fA-F]{6}\b", text)
    assert {"var(--accent)", "var(--ink)", "var(--muted)", "var(--rule)"} <= set(
        re.findall(r"var\(--\w+\)", text)
    )


def test_only_an_svg_element() -> None:
    text = drawing("a")
    assert text.startswith('<svg viewBox="0 0 344 184"')
    assert text.rstrip().endswith("</svg>")
    assert "http" not in text
    assert "<style" not in text
    assert "$\\broken{ &amp; &lt;b&gt;$" in text
    assert "<g id" not in text


def test_ids_of_two_charts_differ_and_resolve() -> None:
    both = [drawing("a"), drawing("b")]
    ids = [set(re.findall(r'\bid="([^"]*)"', text)) for text in both]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, known in zip(both, ids, strict=True):
        used = set(re.findall(r'href="#([^"]*)"', text)) | set(re.findall(r"url\(#([^)]*)\)", text))
        assert used
        assert used <= known


def test_the_same_chart_is_the_same_text() -> None:
    assert drawing("a") == drawing("a")
