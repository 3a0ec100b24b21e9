"""Charts as SVG, to stand in a page that loads nothing from elsewhere."""

import html

STYLE = """
svg { width: 100%; height: auto; display: block }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif }
svg .soft { fill: var(--soft) } svg .bar { fill: var(--accent) }
svg .axis { stroke: var(--line) }
"""
_WIDTH = 880
_KEPT, _DROPPED = "var(--accent)", "#c9704a"


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


def histogram(bins, axis):
    """Upright bars: (name, count) of neighbouring bins; a hover tells each."""
    largest = max((count for _, count in bins), default=0) or 1
    width, height = _WIDTH / len(bins), 180
    parts = [
        f'<rect class="bar" x="{i * width + 1:.1f}" '
        f'y="{height * (1 - count / largest):.1f}" width="{width - 2:.1f}" '
        f'height="{height * count / largest:.1f}">'
        f"<title>{html.escape(name)}: {count:,}</title></rect>"
        for i, (name, count) in enumerate(bins)
    ]
    parts.append(
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{height}" y2="{height}"/>'
        + _text(_WIDTH / 2, height + 18, axis, "soft", "middle")
    )
    return _svg(height + 24, "".join(parts))


def flow(source, outcomes, splits):
    """A Sankey diagram: what was read, what became of it, and the splits.

    Args:
      source: (name, count) of all.
      outcomes: (name, count) of its parts; the first one is divided further.
      splits: (name, count) of the parts of the first outcome.
    """
    height, gap = 240, 22
    scale = (height - gap * (len(outcomes) - 1)) / max(1, source[1])
    scale = max(scale, 0) or 1e-9
    columns = [[source], outcomes, splits]
    xs = [0, 360, 680]
    placed, parts = [], []
    for x, column in zip(xs, columns, strict=True):
        y, nodes = 8.0, []
        for name, count in column:
            size = max(1.5, count * scale)
            nodes.append((x, y, size))
            colour = _DROPPED if column is outcomes and nodes[1:] else _KEPT
            parts.append(
                f'<rect x="{x}" y="{y:.1f}" width="10" height="{size:.1f}" '
                f'fill="{colour}"/>'
                + _text(x + 16, y + min(size / 2 + 5, 14), f"{name} {count:,}")
            )
            y += max(size, 2) + gap
        placed.append(nodes)
    bands = [
        *_bands(placed[0][0], placed[1], len(placed[1])),
        *_bands(placed[1][0], placed[2], 0),
    ]
    bottom = max(
        (y + size for nodes in placed for _, y, size in nodes), default=0
    )
    return _svg(max(bottom, height) + 20, "".join(bands) + "".join(parts))


def _bands(origin, targets, num_outcomes):
    """What flows from one node to those on its right, top to bottom."""
    x, y, _ = origin
    for i, (target_x, target_y, size) in enumerate(targets):
        colour = _DROPPED if num_outcomes and i else _KEPT
        x1, x2 = x + 10, target_x
        middle = (x1 + x2) / 2
        yield (
            f'<path opacity="0.25" fill="{colour}" d="M{x1} {y:.1f} '
            f"C{middle} {y:.1f} {middle} {target_y:.1f} {x2} {target_y:.1f} "
            f"V{target_y + size:.1f} C{middle} {target_y + size:.1f} {middle} "
            f'{y + size:.1f} {x1} {y + size:.1f} Z"/>'
        )
        y += size


def _text(x, y, content, kind="", anchor="start"):
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" '
        f'text-anchor="{anchor}">{html.escape(str(content))}</text>'
    )


def _svg(height, inside):
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    )
