"""Small charts as SVG: no script, colours by class, so that a page's style (dark or light) decides them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Place = Callable[[float], float]  # a value -> pixels
WIDTH, HEIGHT = 360, 210  # pixels of a chart
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 36  # its margins
MARK = (132, 30)  # pixels of an interval in a table's cell


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes
    ----------
    label
        In words, for the legend and for a screen reader.
    look
        Number of its colour, dash and marker, which the style sheet and `_marker` know: never colour alone.
    points
        (x, y); y None: undefined, and not drawn.
    bands
        (x, low, high): intervals or ranges.
    """

    label: str
    look: int
    points: Sequence[tuple[float, float | None]]
    bands: Sequence[tuple[float, float, float]] = ()
    markers: bool = True


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes.

    Attributes
    ----------
    title, x, y
        What is shown, and the names of the axes with their units.
    ticks
        (place, text) along x.
    low, high
        Of y, whole quarters apart.
    rules
        Values of y with a thin line: chance, say.
    alarms
        (x, text): places along x that are marked.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    ticks: Sequence[tuple[float, str]]
    low: float = 0.0
    high: float = 1.0
    rules: Sequence[float] = (0.5,)
    alarms: Sequence[tuple[float, str]] = field(default=())


def interval(
    mean: float | None, bounds: tuple[float, float] | None, low: float, high: float, null: float | None
) -> Markup:
    """A mean with its interval between the ends of a measure's range, and its null as an upright stroke."""
    if mean is None or not high > low:
        return Markup("")
    width, height = MARK

    def x(value: float) -> float:
        return round(4 + (width - 8) * (min(max(value, low), high) - low) / (high - low), 1)

    y = 9
    parts = [f'<line class="axis" x1="4" x2="{width - 4}" y1="{y}" y2="{y}"/>']
    for place, anchor, end in ((1, "start", low), (width - 1, "end", high)):
        shown = f"{end:g}".replace("-", "−")
        parts.append(f'<text x="{place}" y="{height - 2}" text-anchor="{anchor}">{shown}</text>')
    if null is not None:
        parts.append(f'<line class="null" x1="{x(null)}" x2="{x(null)}" y1="1" y2="{2 * y - 1}"/>')
    if bounds is not None:
        parts.append(f'<line class="bar" x1="{x(bounds[0])}" x2="{x(bounds[1])}" y1="{y}" y2="{y}"/>')
    parts.append(f'<circle class="dot" cx="{x(mean)}" cy="{y}" r="3.5"/>')
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return Markup(f'<svg class="interval" aria-hidden="true" {size}>{"".join(parts)}</svg>')  # noqa: S704 — numbers


@dataclass(frozen=True)
class Strip:
    """Named points along one axis, with a cut-off, of which one side has a name."""

    title: str
    points: Sequence[tuple[str, float]]
    low: float
    high: float
    cut: float | None = None
    beyond: str = ""


def strip(strip: Strip) -> Markup:
    """A row for each point, all on one axis."""
    left, right, row, top = 150, 60, 24, 30
    height = top + row * len(strip.points) + 18

    def px(value: float) -> float:
        return round(left + (WIDTH - left - right) * (value - strip.low) / (strip.high - strip.low), 1)

    parts = [f'<text class="head" x="2" y="13">{escape(strip.title)}</text>']
    if strip.cut is not None:
        parts.append(
            f'<rect class="beyond" x="{px(strip.cut)}" y="{top - 6}" width="{px(strip.high) - px(strip.cut)}" '
        )
        parts.append(
            f'height="{row * len(strip.points)}"/><text class="tick" x="{px(strip.high) - 2}" y="{height - 6}" '
        )
        parts.append(f'text-anchor="end">{escape(strip.beyond)}</text>')
    for index, (name, value) in enumerate(strip.points):
        y = top + row * index + 6
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<line class="axis" x1="{px(strip.low)}" x2="{px(strip.high)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot" cx="{px(value)}" cy="{y}" r="5"/>')
        parts.append(f'<text x="{px(strip.high) + 8}" y="{y + 4}">{value:.2f}</text>')
    about = f"{strip.title}: " + ", ".join(f"{name} {value:.2f}" for name, value in strip.points)
    return Markup(  # noqa: S704 — every text in it is escaped
        f'<svg class="strip" role="img" viewBox="0 0 {WIDTH} {height}" aria-label="{escape(about)}">'
        f"{''.join(parts)}</svg>"
    )


def draw(chart: Chart) -> Markup:
    """The chart, with a description in words for those who do not see it; its legend stands beside it (`legend`)."""
    places = [x for line in chart.lines for x, _ in line.points] + [x for x, _ in chart.ticks]
    first, last = min(places), max(places)

    def px(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - first) / ((last - first) or 1), 1)

    def py(value: float) -> float:
        share = (min(max(value, chart.low), chart.high) - chart.low) / (chart.high - chart.low)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)

    parts = [*_axes(chart, px, py)]
    for line in chart.lines:
        parts += _line(line, px, py)
    for x, text in chart.alarms:
        top, foot = TOP, HEIGHT - BOTTOM
        parts.append(f'<g class="alarm"><title>{escape(text)}</title>')
        parts.append(f'<line x1="{px(x)}" x2="{px(x)}" y1="{top}" y2="{foot}"/>')
        parts.append(f'<path d="M{px(x) - 5} {top - 9}h10l-5 9z"/></g>')
    about = f"{chart.title}. Across: {chart.x}. Upwards: {chart.y}. " + " ".join(map(_in_words, chart.lines))
    return Markup(  # noqa: S704 — every text in it is escaped
        f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{escape(about)}">'
        f"{''.join(parts)}</svg>"
    )


def legend(lines: Sequence[Line]) -> Markup:
    """The curves' names, each with its colour, dash and marker."""
    items = [
        f'<li><svg aria-hidden="true" width="34" height="12" viewBox="0 0 34 12"><path class="line c{line.look}" '
        f'd="M1 6H33"/>{_marker(line.look, 17, 6) if line.markers else ""}</svg>{escape(line.label)}</li>'
        for line in lines
    ]
    return Markup(f'<ul class="legend">{"".join(items)}</ul>')  # noqa: S704 — every text in it is escaped


def _axes(chart: Chart, px: Place, py: Place) -> list[str]:
    foot = HEIGHT - BOTTOM
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{foot}H{WIDTH - RIGHT}"/>']
    for step in range(round((chart.high - chart.low) / 0.25) + 1):
        value = chart.low + 0.25 * step
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{py(value) + 3.5}" text-anchor="end">{value:g}</text>')
    parts += [f'<path class="rule" d="M{LEFT} {py(rule)}H{WIDTH - RIGHT}"/>' for rule in chart.rules]
    for x, text in chart.ticks:
        parts.append(f'<text class="tick" x="{px(x)}" y="{foot + 13}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<text class="name" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x)}')
    middle = (TOP + foot) / 2
    parts.append(f'</text><text class="name" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">')
    return [*parts, f"{escape(chart.y)}</text>"]


def _line(line: Line, px: Place, py: Place) -> list[str]:
    known = [(x, y) for x, y in line.points if y is not None]
    parts = []
    if line.markers:
        parts += [f'<path class="bar c{line.look}" d="M{px(x)} {py(low)}V{py(high)}"/>' for x, low, high in line.bands]
    elif line.bands:
        ends = [(x, high) for x, _, high in line.bands] + [(x, low) for x, low, _ in reversed(line.bands)]
        parts.append(f'<path class="band c{line.look}" d="M{" L".join(f"{px(x)} {py(y)}" for x, y in ends)}Z"/>')
    if known:
        path = "L".join(f"{px(x)} {py(y)}" for x, y in known)
        parts.append(f'<path class="line c{line.look}" d="M{path}"><title>{escape(line.label)}</title></path>')
    if line.markers:
        parts += [_marker(line.look, px(x), py(y)) for x, y in known]
    return parts


def _marker(look: int, x: float, y: float) -> str:
    shape = {
        0: f'<circle cx="{x}" cy="{y}" r="3.2"/>',
        1: f'<path d="M{x - 3} {y - 3}h6v6h-6z"/>',
        2: f'<path d="M{x - 4} {y - 3}h8l-4 6.5z"/>',
    }.get(look, f'<path d="M{x - 4} {y + 3}h8l-4 -6.5z"/>')
    return f'<g class="mark c{look}">{shape}</g>'


def _in_words(line: Line) -> str:
    known = [(x, y) for x, y in line.points if y is not None]
    if not known:
        return f"{line.label}: undefined."
    return f"{line.label}: from {known[0][1]:.2f} to {known[-1][1]:.2f}."
