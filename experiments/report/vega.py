"""Charts as Vega-Lite: their look, how layers and panels are put together, and the drawing.

Altair writes a layer's mark and encoding. Layers and panels are put together here as dictionaries, over one table of
records, since Altair copies and checks every result each time that two are joined: minutes for a report.

Text and the un-normalised network are drawn in `currentColor`, which is black in a file and on the page follows the
light or dark of the rest.
"""

import re
import textwrap

import altair as alt
import vl_convert
from altair.utils import schemapi
from markupsafe import escape

from experiments.report.columns import plain
from experiments.report.style import OTHER, STYLE

VERSION = "6.4"  # of Vega-Lite: vl-convert holds several, and the page and the drawings use one
WIDTH, HEIGHT = 230, 170  # pixels of a panel in a drawing; on the page a panel is as wide as its box
PITCH = 270  # pixels from panel to panel
LETTER, BOLD_LETTER = 7.0, 8.2  # pixels of a letter in captions and in titles, in the widest of the usual fonts
SHAPES = {  # matplotlib's names of markers to Vega's
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "X": "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z",
    "*": "M0,-1.1L.3,-.35L1.1,-.3L.5,.2L.7,1L0,.55L-.7,1L-.5,.2L-1.1,-.3L-.3,-.35Z",
}
PADDING = {"left": 20, "top": 5, "right": 12, "bottom": 5}  # pixels around a drawing
GREY = "#888"
INK = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 11}
CONFIG = {
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "axis": INK
    | {"titleFontWeight": "normal", "titleFontSize": 11, "domainColor": GREY, "tickColor": GREY}
    | {"gridColor": GREY, "gridOpacity": 0.25},
    "legend": INK
    | {"orient": "bottom", "columns": 7, "symbolSize": 70, "symbolOpacity": 1, "title": None}
    | {"layout": {"bottom": {"anchor": "start", "direction": "vertical"}}},
    "title": {"color": "currentColor", "subtitleColor": "currentColor", "anchor": "start", "fontSize": 12},
    "text": {"color": "currentColor", "fontSize": 10.5},
    "rule": {"color": "currentColor"},
    "view": {"stroke": None},
    "concat": {"spacing": 28},
}
# Drag moves, the wheel with Ctrl or Shift zooms, a double click goes back; a finger scrolls the page as ever.
ZOOM = {
    "name": "zoom",
    "bind": "scales",
    "select": {
        "type": "interval",
        "translate": "[pointerdown[event.pointerType === 'mouse'], window:pointerup] > window:pointermove!",
        "zoom": "wheel![event.ctrlKey || event.shiftKey]",
    },
}
schemapi.disable_debug_mode()  # the checks; the tests compile every chart
alt.data_transformers.consolidate_datasets = False


# --- a normaliser's look ----------------------------------------------------------------------------------------------


def look(norm: str) -> tuple[str, str]:
    """Return (colour, shape) of a normaliser."""
    colour, marker = STYLE.get(norm, OTHER)
    return ("currentColor" if colour == "#000000" else colour), SHAPES[marker]


def colour(norms: list[str], legend: bool = True) -> alt.Color:
    scale = alt.Scale(domain=[norm.upper() for norm in norms], range=[look(norm)[0] for norm in norms])
    return alt.Color("norm:N", scale=scale, legend=alt.Legend() if legend else None)


def shape(norms: list[str], legend: bool = True) -> alt.Shape:
    scale = alt.Scale(domain=[norm.upper() for norm in norms], range=[look(norm)[1] for norm in norms])
    return alt.Shape("norm:N", scale=scale, legend=alt.Legend() if legend else None)


# --- layers, panels, drawings -----------------------------------------------------------------------------------------


def mark(records: list[dict] | None = None) -> alt.Chart:
    """Return an empty layer over its own records, or over those that all layers share."""
    return alt.Chart() if records is None else alt.Chart(alt.Data(values=plain(records)))


def layered(records: list[dict], *layers: alt.Chart, **properties) -> dict:
    """Return a panel: layers over one table. properties: Vega-Lite's (width, height, title)."""
    return {"data": {"values": plain(records)}, "layer": [_bare(layer) for layer in layers], **properties}


def _bare(layer: alt.Chart) -> dict:
    content = layer.to_dict(validate=False)
    shares = content["data"] == {"values": [{}]}  # how Altair says: no data of its own
    return {key: content[key] for key in content if key not in ("$schema", "config", *(["data"] if shares else []))}


def side_by_side(panels: list[dict], columns: int = 3) -> dict:
    return {"concat": panels, "columns": columns, "resolve": {"scale": {"x": "independent", "y": "independent"}}}


def titled(chart: dict, title: str, caption: str, width: float = 3 * PITCH) -> dict:
    """Return a chart under its title and a caption. width: of the chart, in pixels.

    A drawing is as wide as its chart, or as its text in the fonts that vl-convert brings. Where a reader has others, a
    letter may be a fifth wider, and what is beyond the drawing is cut off: so lines end well before.
    """
    text, subtitle = (
        textwrap.wrap(words, round(width / pixels)) for words, pixels in ((title, BOLD_LETTER), (caption, LETTER))
    )
    return {**chart, "title": {"text": text, "subtitle": subtitle}}


def svg(chart: dict, background: str | None = "white") -> str:
    """Return the drawing. The same chart gives the same bytes: vl-convert brings the fonts that measure text."""
    # Labels of an axis reach further where a reader has other fonts than those that measured them.
    content = {**chart, "padding": PADDING, "config": {**CONFIG, "background": background}}
    return vl_convert.vegalite_to_svg(content, vl_version=VERSION)


def inline(drawn: str, name: str, description: str) -> str:
    """Return an SVG for inside a page: its ids made unique there, scaled with its box, and described."""
    label = f' role="img" aria-label="{escape(description)}"'
    drawn = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", drawn)
    drawn = re.sub(r'width="[\d.]+" height="[\d.]+" ', "", drawn, count=1)
    return drawn.replace("<svg", f"<svg{label}", 1)


def for_page(panel: dict, description: str, zoom: bool) -> dict:
    """Return a panel as wide as its box. description: what a screen reader calls it."""
    first, *rest = panel["layer"]
    layers = [{**first, "params": [ZOOM]}, *rest] if zoom else [first, *rest]
    fit = {"type": "fit-x", "contains": "padding"}
    config = {**CONFIG, "background": None}
    described = {**panel, "description": description}
    return {**described, "layer": layers, "width": "container", "autosize": fit, "config": config}
