"""The specifications of a report's charts, whose data come later."""

from typing import Any

from fastrdm._base import require

# Colours are variables of the page's style sheet.
_INK, _SOFT, _LINE, _GRID = "var(--ink)", "var(--soft)", "var(--line)", "var(--grid)"
_ACCENT, _BAND, _DOTS, _CEILING = "var(--accent)", "var(--band)", "var(--dots)", "var(--ceiling)"
# Lines of layers from the first to the last, readable on light and dark.
_DEPTH = ("#2b86c5", "#8a63b8", "#c2477f", "#d0701c")
_FONT = "system-ui, sans-serif"


def chart_specifications() -> dict[str, dict[str, Any]]:
    """Vega-Lite's specifications of the charts of layers, of epochs and of times."""
    require("altair", "report", "to write reports")
    return {"layers": _layers(), "lines": _lines("progress"), "times": _lines("time")}


def _layers() -> dict[str, Any]:
    """A row for each layer: subjects as dots, interval, mean; a line at the ceiling, and the band of its bounds.

    The page sets the height, because a step for each layer would not go with a width that fits the page.
    """
    import altair as alt

    percent = alt.X(
        "percent:Q",
        title="% of noise ceiling",
        scale=alt.Scale(zero=True),
        axis=alt.Axis(tickCount=5, labelFlush=False),
    )
    # Of a long name, the axis shows both ends.
    layer_axis = alt.Axis(labelExpr="truncate(datum.label, 16, 'center')", labelLimit=115)
    layer = alt.Y("layer:N", title=None, sort=None, axis=layer_axis)
    colour = alt.condition("datum.state === 'chosen'", alt.value(_ACCENT), alt.value(_INK))
    names = alt.Chart(alt.NamedData("names"))
    rows = alt.Chart(alt.NamedData("rows"))
    subjects = alt.Chart(alt.NamedData("subjects"))
    band = alt.Chart(alt.NamedData("band")).mark_rect(color=_BAND, opacity=0.35)
    ceiling = alt.Chart(alt.NamedData("ceiling")).mark_rule(color=_CEILING, strokeDash=[5, 3])
    return _specification(
        alt.layer(
            # The names come first, because the axis has their order, also of layers without a score.
            names.mark_point(opacity=0).encode(y=layer),
            band.encode(x="low:Q", x2="high:Q"),
            ceiling.encode(x=percent),
            subjects.mark_circle(size=14, color=_DOTS, opacity=0.65).encode(
                x="percent:Q", y=layer, tooltip="title:N"
            ),
            rows.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", y=layer, color=colour),
            rows.mark_point(filled=True, size=60, opacity=1).encode(
                x="percent:Q", y=layer, color=colour, tooltip="title:N"
            ),
        ).properties(width="container", height=100)
    )


def _lines(name: str) -> dict[str, Any]:
    """A line for each layer; the chosen one is thick and has its interval; a line at what is chosen."""
    import altair as alt

    # Between few epochs, Vega has ticks at fractions too.
    whole = "datum.value === floor(datum.value) ? format(datum.value, 'd') : ''"
    steps = {"labelExpr": whole} if name == "progress" else {}
    axis = alt.Axis(tickCount=8, labelFlush=False, labelOverlap=True, **steps)
    x = alt.X("x:Q", title=None, scale=alt.Scale(zero=False, nice=False), axis=axis)
    percent = alt.Y("percent:Q", title="% of noise ceiling", scale=alt.Scale(zero=True))
    depth = alt.Color("order:Q", scale=alt.Scale(range=list(_DEPTH)), legend=None)
    lines = alt.Chart(alt.NamedData("lines")).encode(x=x, y=percent)
    chosen = alt.Chart(alt.NamedData("chosen")).encode(x=x, y=percent)
    points = alt.Chart(alt.NamedData("points")).encode(x=x, y=percent, tooltip="title:N")
    is_chosen = "datum.state === 'chosen'"
    band = alt.Chart(alt.NamedData("band")).mark_area(color=_ACCENT, opacity=0.22)
    now = alt.Chart(alt.NamedData("now")).mark_rule(color=_SOFT, strokeDash=[2, 2])
    ceiling = alt.Chart(alt.NamedData("ceiling")).mark_rule(color=_CEILING, strokeDash=[5, 3])
    return _specification(
        alt.layer(
            ceiling.encode(y="percent:Q"),
            now.encode(x=x),
            band.encode(x=x, y="low:Q", y2="high:Q"),
            lines.mark_line(strokeWidth=1.2, opacity=0.85).encode(color=depth, detail="layer:N"),
            chosen.mark_line(strokeWidth=3, color=_ACCENT),
            points.mark_circle(opacity=1).encode(
                size=alt.condition(is_chosen, alt.value(40), alt.value(20)),
                color=alt.condition(is_chosen, alt.value(_ACCENT), depth),
            ),
        ).properties(width="container", height=260)
    )


def _specification(chart: Any) -> dict[str, Any]:
    import altair as alt

    text = {"labelColor": _SOFT, "titleColor": _SOFT, "labelFont": _FONT, "titleFont": _FONT}
    axis = {"domainColor": _LINE, "tickColor": _LINE, "gridColor": _GRID, "labelLimit": 130}
    chart = chart.properties(autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
    chart = chart.configure(background="transparent", aria=False)
    chart = chart.configure_view(stroke=None).configure_axis(
        **text, **axis, labelFontSize=12, titleFontWeight="normal", titleFontSize=12
    )
    found: dict[str, Any] = chart.to_dict()
    return found
