"""Panels as SVG that stands inside a page, takes the page's text colour and is the same every time."""

from __future__ import annotations

import html
import io
import re

from rllib_multienv.evaluation.report.figures.figure import Panel, draw_panel, new_figure

# Stands for the text's colour in what Matplotlib draws; nothing else has this colour.
_INK = "#010203"


def panel_svg(panel: Panel, *, size: tuple[float, float], key: str) -> str:
    """Draws a panel as an ``<svg>`` element.

    Args:
        panel: The panel.
        size: Width and height in inches.
        key: Stands before every id in it; no two elements of a page may have the same one.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure = new_figure(size)
    canvas = FigureCanvasSVG(figure)
    draw_panel(panel, figure.subplots(), _INK)
    stream = io.StringIO()
    # The salt makes ids the same every time; letters are drawn, so that they fit whatever fonts the reader has.
    with matplotlib.rc_context({"svg.hashsalt": "multienv report", "svg.fonttype": "path"}):
        canvas.print_svg(stream)
    return _for_a_page(stream.getvalue(), label=panel.title, key=key)


def _for_a_page(text: str, *, label: str, key: str) -> str:
    text = text[text.index("<svg") :]
    # The metadata hold the time; the style would be that of the whole page.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "currentColor")
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{key}-", text)
    # Hundredths of a point are enough for lines, and a third of the size.
    text = re.sub(r'\bd="[^"]*"', lambda path: re.sub(r"(\.\d{2})\d+", r"\1", path[0]), text)
    text = re.sub(r"\n\s*", "\n", text)
    head, body = text.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', head)
    assert view_box is not None
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view_box[0]} '
        f'role="img" aria-label="{html.escape(label)}">{body}'
    )
