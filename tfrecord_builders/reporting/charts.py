"""Charts as SVG, to stand in a page that loads nothing from elsewhere."""

import html
from typing import NamedTuple

STYLE = """
svg { width: 100%; height: auto; display: block }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif }
svg .soft { fill: var(--soft) } svg .bar { fill: var(--accent) }
svg .axis { stroke: var(--line) }
svg .kept { fill: var(--accent) } svg .dropped { fill: #c9704a }
svg path { opacity: 0.25 }
"""
_WIDTH = 880
_FLOW_HEIGHT = 240  # of all that flows, without the gaps
_LINE_HEIGHT = 20


class Part(NamedTuple):
    """Some of what there is: a name, how much, and whether it was dropped."""

    name: str
    count: int
    is_dropped: bool = False

    @property
    def css_class(self):
        return "dropped" if self.is_dropped else "kept"


def bars(items):
    """Horizontal bars: (name, count), one a line, two columns."""
    if not items:
        return "<p>Nothing to show.</p>"
    largest = max(count for _, count in items)
    half = -(-len(items) // 2)
    parts = []
    for i, (name, count) in enumerate(items):
        x, y = (i // half) * _WIDTH / 2, (i % half) * 22
        length = 210 * count / largest
        parts.append(
            _text(x + 110, y + 15, name, anchor="end")
            + f'<rect class="bar" x="{x + 118:.1f}" y="{y + 4}" '
            f'width="{max(1, length):.1f}" height="14" rx="2"/>'
            + _text(x + 124 + length, y + 15, f"{count:,}", "soft")
        )
    return _svg(half * 22 + 4, "".join(parts))


def shares(parts):
    """One bar as wide as the page, divided among parts; a hover tells each."""
    total = max(1, sum(part.count for part in parts))
    x, drawn = 0.0, []
    for part in parts:
        width = _WIDTH * part.count / total
        if part.count:
            # A gap of 1 between neighbours; of the rarest a line is left.
            drawn.append(
                f'<rect class="{part.css_class}" x="{x:.1f}" y="0" '
                f'width="{max(1, width - 1):.1f}" height="12">'
                f"<title>{html.escape(_label(part))}</title></rect>"
            )
        x += width
    return _svg(12, "".join(drawn))


def histogram(bins):
    """Upright bars, half as wide as the page: (name, count), left to right.

    A hover tells each; the first and the last bin are named below.
    """
    largest = max((count for _, count in bins), default=0) or 1
    total_width, height = _WIDTH / 2, 120
    width = total_width / len(bins)
    gap = min(2, width / 4)
    parts = [
        f'<rect class="bar" x="{i * width + gap / 2:.1f}" '
        f'y="{height * (1 - count / largest):.1f}" '
        f'width="{width - gap:.1f}" height="{height * count / largest:.1f}">'
        f"<title>{html.escape(name)}: {count:,}</title></rect>"
        for i, (name, count) in enumerate(bins)
    ]
    parts.append(
        f'<line class="axis" x1="0" x2="{total_width}" y1="{height}" '
        f'y2="{height}"/>'
        + _text(0, height + 18, bins[0][0], "soft")
        + _text(total_width, height + 18, bins[-1][0], "soft", "end")
    )
    return _svg(height + 24, "".join(parts), total_width)


def flow(columns, links):
    """A Sankey diagram: what each part of a column becomes in the next one.

    Args:
      columns: three of (heading, list of `Part`), from left to right.
      links: (column, number of a part of it, number of a part of the next
        column, count), ascending.
    """
    total = max(sum(part.count for part in parts) for _, parts in columns)
    scale = _FLOW_HEIGHT / max(1, total)
    xs = [0, 360, 700]
    tops, drawn, bottom = [], [], 0.0
    for x, (heading, parts) in zip(xs, columns, strict=True):
        drawn.append(_text(x, 14, heading, "soft"))
        y, of_column = 28.0, []
        for part in parts:
            of_column.append(y)
            size = part.count * scale
            drawn.append(
                f'<rect class="{part.css_class}" x="{x}" y="{y:.1f}" '
                f'width="10" height="{max(1, size):.1f}"/>'
                + _text(x + 16, y + max(5, min(size / 2 + 5, 14)), _label(part))
            )
            # Room for the label beside what is thinner than it.
            y += max(size + 8, _LINE_HEIGHT)
        tops.append(of_column)
        bottom = max(bottom, y)
    bands = []
    leaving, arriving = [[list(of_column) for of_column in tops] for _ in "io"]
    for column, origin, target, count in links:
        size = count * scale
        bands.append(
            _band(
                (xs[column] + 10, leaving[column][origin]),
                (xs[column + 1], arriving[column + 1][target]),
                max(1, size),
                columns[column + 1][1][target].css_class,
            )
        )
        leaving[column][origin] += size
        arriving[column + 1][target] += size
    return _svg(bottom, "".join(bands + drawn))


def _band(start, end, size, css_class):
    (x1, y1), (x2, y2) = start, end
    middle = (x1 + x2) / 2
    return (
        f'<path class="{css_class}" d="M{x1} {y1:.1f} '
        f"C{middle} {y1:.1f} {middle} {y2:.1f} {x2} {y2:.1f} "
        f"V{y2 + size:.1f} C{middle} {y2 + size:.1f} {middle} "
        f'{y1 + size:.1f} {x1} {y1 + size:.1f} Z"/>'
    )


def _label(part):
    return f"{part.name} {part.count:,}"


def _text(x, y, content, kind="", anchor="start"):
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" '
        f'text-anchor="{anchor}">{html.escape(str(content))}</text>'
    )


def _svg(height, inside, width=_WIDTH):
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    )
