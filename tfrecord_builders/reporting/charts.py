"""Charts as SVG, for a page that loads nothing from the network."""

import dataclasses
import html
from collections.abc import Sequence

STYLE = """
svg { width: 100%; height: auto; display: block }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif }
svg .soft { fill: var(--soft) } svg .bar { fill: var(--accent) }
svg .axis { stroke: var(--line) }
svg .kept { fill: var(--accent) } svg .dropped { fill: #c9704a }
svg path { opacity: 0.25 }
"""
_WIDTH = 880
_COLUMNS_X = 0, 360, 700  # of the columns in a flow chart
_FLOW_HEIGHT = 240  # of all portions of a column, without the gaps
_LINE_HEIGHT = 20


@dataclasses.dataclass(frozen=True)
class Portion:
    """One of the portions that a total is divided into."""

    name: str
    count: int
    is_dropped: bool = False

    @property
    def css_class(self) -> str:
        """The class that gives the colour in `STYLE`."""
        return "dropped" if self.is_dropped else "kept"


def bars(items: Sequence[tuple[str, int]]) -> str:
    """Draws horizontal bars in two columns.

    Args:
      items: name and count of each bar.
    """
    if not items:
        return "<p>Nothing to show.</p>"
    largest = max(count for _, count in items)
    half = -(-len(items) // 2)
    drawn = []
    for i, (name, count) in enumerate(items):
        x, y = (i // half) * _WIDTH / 2, (i % half) * 22
        length = 210 * count / largest
        drawn.append(
            _text(x + 110, y + 15, name, anchor="end")
            + f'<rect class="bar" x="{x + 118:.1f}" y="{y + 4}" '
            f'width="{max(1, length):.1f}" height="14" rx="2"/>'
            + _text(x + 124 + length, y + 15, f"{count:,}", "soft")
        )
    return _svg(half * 22 + 4, "".join(drawn))


def shares(portions: Sequence[Portion]) -> str:
    """Draws one bar across the page, divided into portions.

    The name and count of a portion appear under the mouse pointer.
    """
    total = max(1, sum(portion.count for portion in portions))
    x, drawn = 0.0, []
    for portion in portions:
        width = _WIDTH * portion.count / total
        if portion.count:
            # Neighbours have a gap of 1; a tiny portion is still a line.
            drawn.append(
                f'<rect class="{portion.css_class}" x="{x:.1f}" y="0" '
                f'width="{max(1, width - 1):.1f}" height="12">'
                f"<title>{html.escape(_label(portion))}</title></rect>"
            )
        x += width
    return _svg(12, "".join(drawn))


def histogram(bins: Sequence[tuple[str, int]]) -> str:
    """Draws vertical bars across half of the page.

    The first and the last bin have their names below. The name and count of
    each bin appear under the mouse pointer.

    Args:
      bins: name and count of each bin, from left to right.
    """
    largest = max((count for _, count in bins), default=0) or 1
    total_width, height = _WIDTH / 2, 120
    width = total_width / len(bins)
    gap = min(2, width / 4)
    drawn = [
        f'<rect class="bar" x="{i * width + gap / 2:.1f}" '
        f'y="{height * (1 - count / largest):.1f}" '
        f'width="{width - gap:.1f}" height="{height * count / largest:.1f}">'
        f"<title>{html.escape(name)}: {count:,}</title></rect>"
        for i, (name, count) in enumerate(bins)
    ]
    drawn.append(
        f'<line class="axis" x1="0" x2="{total_width}" y1="{height}" '
        f'y2="{height}"/>'
        + _text(0, height + 18, bins[0][0], "soft")
        + _text(total_width, height + 18, bins[-1][0], "soft", "end")
    )
    return _svg(height + 24, "".join(drawn), total_width)


def flow(
    columns: Sequence[tuple[str, Sequence[Portion]]],
    links: Sequence[tuple[int, int, int, int]],
) -> str:
    """Draws a Sankey diagram: the portions of each column flow into the next.

    Args:
      columns: heading and portions of three columns, from left to right.
      links: (index of a column, index of a portion in that column, index of a
        portion in the next column, count), in ascending order.
    """
    total = max(
        sum(portion.count for portion in portions) for _, portions in columns
    )
    scale = _FLOW_HEIGHT / max(1, total)
    drawn, tops, bottom = _draw_columns(columns, scale)
    bands = _draw_bands(columns, links, tops, scale)
    return _svg(bottom, "".join(bands + drawn))


def _draw_columns(
    columns: Sequence[tuple[str, Sequence[Portion]]], scale: float
) -> tuple[list[str], list[list[float]], float]:
    """Draws the bars and labels of the columns.

    Returns:
      The SVG elements, the top of each portion by column, and the bottom of
      the diagram.
    """
    drawn, tops, bottom = [], [], 0.0
    for x, (heading, portions) in zip(_COLUMNS_X, columns, strict=True):
        drawn.append(_text(x, 14, heading, "soft"))
        y, column_tops = 28.0, []
        for portion in portions:
            column_tops.append(y)
            size = portion.count * scale
            label_y = y + max(5, min(size / 2 + 5, 14))
            drawn.append(
                f'<rect class="{portion.css_class}" x="{x}" y="{y:.1f}" '
                f'width="10" height="{max(1, size):.1f}"/>'
                + _text(x + 16, label_y, _label(portion))
            )
            # A thin bar still needs the height of its label.
            y += max(size + 8, _LINE_HEIGHT)
        tops.append(column_tops)
        bottom = max(bottom, y)
    return drawn, tops, bottom


def _draw_bands(
    columns: Sequence[tuple[str, Sequence[Portion]]],
    links: Sequence[tuple[int, int, int, int]],
    tops: list[list[float]],
    scale: float,
) -> list[str]:
    """Draws a band for each link; bands of the same portion are stacked."""
    bands = []
    leaving = [list(column_tops) for column_tops in tops]
    arriving = [list(column_tops) for column_tops in tops]
    for column, origin, target, count in links:
        size = count * scale
        bands.append(
            _band(
                (_COLUMNS_X[column] + 10, leaving[column][origin]),
                (_COLUMNS_X[column + 1], arriving[column + 1][target]),
                max(1, size),
                columns[column + 1][1][target].css_class,
            )
        )
        leaving[column][origin] += size
        arriving[column + 1][target] += size
    return bands


def _band(
    start: tuple[float, float],
    end: tuple[float, float],
    size: float,
    css_class: str,
) -> str:
    (x1, y1), (x2, y2) = start, end
    middle = (x1 + x2) / 2
    return (
        f'<path class="{css_class}" d="M{x1} {y1:.1f} '
        f"C{middle} {y1:.1f} {middle} {y2:.1f} {x2} {y2:.1f} "
        f"V{y2 + size:.1f} C{middle} {y2 + size:.1f} {middle} "
        f'{y1 + size:.1f} {x1} {y1 + size:.1f} Z"/>'
    )


def _label(portion: Portion) -> str:
    return f"{portion.name} {portion.count:,}"


def _text(
    x: float, y: float, content: str, css_class: str = "", anchor: str = "start"
) -> str:
    return (
        f'<text class="{css_class}" x="{x:.1f}" y="{y:.1f}" '
        f'text-anchor="{anchor}">{html.escape(content)}</text>'
    )


def _svg(height: float, inside: str, width: float = _WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    )
